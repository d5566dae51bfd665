"""MACs of ordinary PyTorch, by runs of it, against hand-worked numbers and against NNI's profiler."""

import pytest
import torch

from search_spaces import SpaceError, costs, layout
from search_spaces.counting import RunMacs
from search_spaces.trunk import throwaway

# Places of the feature "low" of an image of 32 pixels, behind the stem's stride of 2.
PLACES = 16 * 16
STEM, LOW, HIGH = 8 * 3 * 9 * PLACES, 8 * 8 * 9 * PLACES, 16 * 8 * 9 * PLACES // 4
ATTENTION = PLACES * 8 * 24 + PLACES * 8 * 8 + 2 * PLACES * PLACES * 8

COUNTED = {
    "subclassed": LOW,
    "functional": 8 * 8 * 25 * PLACES,
    "concatenated": 8 * 4 * PLACES + 8 * 4 * 9 * PLACES,
    "grouped": 8 * 2 * 9 * PLACES,
    "attention": ATTENTION,  # projections in and out, and two products of every place with every other
    "attention_with_weights": ATTENTION,
    "twice": 2 * 8 * 8 * PLACES,
}


@pytest.mark.parametrize("name", COUNTED)
def test_ordinary_pytorch_is_counted(name: str) -> None:
    numbers = costs(f"ordinary:{name}", 32)
    assert numbers["base"][0] == STEM + LOW + HIGH
    assert [macs for macs, _ in numbers["blocks"][0]] == [0, COUNTED[name] - LOW]
    assert [macs for macs, _ in numbers["blocks"][1]] == [0, HIGH // 9 - HIGH]


@pytest.mark.parametrize("space", ["tiny", "small", "lite0", "lite2", "resnet50"])
def test_runs_and_nnis_profiler_count_the_same(space: str) -> None:
    shipped = costs(space)
    with throwaway(space) as trunk_space:
        macs = RunMacs(trunk_space, torch.empty(1, 3, 224, 224, device="meta"), space)
    assert macs.base == shipped["base"][0]
    differences = [[of_op - of_block[0] for of_op in of_block] for of_block in macs.blocks]
    assert differences == [[pair[0] for pair in of_block] for of_block in shipped["blocks"]]


def test_counting_leaves_the_trunk_and_torchs_settings_as_they_were() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    with throwaway("ordinary:attention") as trunk_space:
        image = torch.rand(1, 3, 32, 32)
        expected = trunk_space(image)["high"]
        RunMacs(trunk_space, image, "ordinary:attention").count([1, 1])
        assert torch.equal(trunk_space(image)["high"], expected)
    assert torch.backends.mha.get_fastpath_enabled() is before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "deformable",
            r"cannot be counted: torch's flop counter has no formula for torchvision::deform_conv2d; use",
        ),
        (
            "wider",
            r"do not add up over its blocks: candidate 1 of 'low' gives \(1, 12, 16, 16\), candidate 0 "
            r"\(1, 8, 16, 16\); the candidates of a block have to give the same shape",
        ),
        ("failing_at_once", r"fails on an image of 32x32 pixels \(RuntimeError: "),
        ("failing", r"fails on an image of 32x32 pixels \(RuntimeError: Given groups=1, weight of size"),
    ],
)
def test_what_cannot_be_counted_is_refused_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        costs(f"ordinary:{name}", 32)
    assert f"'ordinary:{name}'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unlabelled", "has a LayerChoice without a label; give each block its own"),
        ("one_label_for_more", "LayerChoices of the same label, 'block', with different candidates; give"),
        ("one_label_for_other_names", "LayerChoices of the same label, 'block', with different candidates"),
    ],
)
def test_labels_that_name_no_block_are_refused(name: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        layout(f"ordinary:{name}")


def test_two_blocks_of_one_label_are_one_choice() -> None:
    numbers = costs("ordinary:one_label_for_two", 32)
    assert numbers["base"][0] == STEM + LOW + HIGH
    assert [macs for macs, _ in numbers["blocks"][0]] == [0, HIGH // 9 - HIGH - LOW]
