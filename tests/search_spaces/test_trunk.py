"""The trunk in its three lives (part of a space, supernet, fixed net), and trunks that are not ours."""

from collections import OrderedDict

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import model_context
from nni.nas.strategy import RandomOneShot
from torch import Tensor, nn

from search_spaces import CANDIDATES, SEARCHED, SIZES, SpaceError, build_trunk, costs, layout
from search_spaces.shufflenetv2 import ShuffleNetV2Trunk
from search_spaces.trunk import TrunkSpace, layout_of_mutables, throwaway


class Classifier(ModelSpace):
    """A space with the trunk inside of it, as the package's own classifier and detectors are."""

    def __init__(self, space: str = "tiny") -> None:
        super().__init__()
        self.backbone = build_trunk(space)
        self.head = nn.Linear(list(self.backbone.out_channels.values())[-1], 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(list(self.backbone(x).values())[-1].mean((2, 3)))


def choices(space: str, *ops: int) -> dict[str, str | int]:
    """Choices of a space from ops, repeated to its length."""
    return {c.label: c.candidates[ops[i % len(ops)]] for i, c in enumerate(layout(space))}


@pytest.mark.parametrize("space", SEARCHED)
def test_the_layout_without_torch_equals_that_of_the_mutables(space: str) -> None:
    assert layout(space) == layout_of_mutables(space)


def test_small_has_20_blocks_and_large_has_40() -> None:
    assert {space: len(layout(space)) for space in ("small", "large", "3.8g")} == {
        "small": 20,
        "large": 40,
        "3.8g": 40,
    }
    assert len(layout("tiny")) >= 8
    assert layout("small")[0] == ("layer_00", CANDIDATES)
    assert layout("small")[-1].label == "layer_19"


@pytest.mark.parametrize("space", SEARCHED)
def test_the_features_have_the_channels_and_strides_that_they_promise(space: str) -> None:
    with throwaway(space) as trunk_space:
        features = trunk_space(torch.empty(2, 3, 96, 70, device="meta"))
    assert {name: x.shape[1] for name, x in features.items()} == trunk_space.trunk.out_channels
    assert [tuple(x.shape[2:]) for x in features.values()] == [(24, 18), (12, 9), (6, 5), (3, 3)]
    assert list(trunk_space.trunk.out_channels) == ["stage1", "stage2", "stage3", "stage4"]


def test_the_labels_stay_as_they_are_inside_another_space() -> None:
    assert list(Classifier().simplify()) == [choice.label for choice in layout("tiny")]


@pytest.mark.parametrize("ops", [(0,), (1,), (2,), (3,), (3, 0, 2, 1)])
def test_a_fixed_net_has_the_supernets_keys_without_the_candidates_names(ops: tuple[int, ...]) -> None:
    chosen = choices("tiny", *ops)
    with model_context(chosen):
        fixed = Classifier()
    assert not any(isinstance(module, LayerChoice) for module in fixed.modules())
    expected = {}
    for key, tensor in Classifier().state_dict().items():
        parts = key.split(".")
        if parts[1] == "stages":
            index = sum(SIZES["tiny"].blocks[: int(parts[2][-1]) - 1]) + int(parts[3])
            if parts[4] != chosen[f"layer_{index:02d}"]:
                continue
            del parts[4]
        expected[".".join(parts)] = tensor.shape
    assert {key: tensor.shape for key, tensor in fixed.state_dict().items()} == expected
    assert fixed(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_the_supernet_keeps_its_keys_and_trains_the_drawn_path_alone() -> None:
    space = Classifier()
    keys = list(space.state_dict())
    supernet = RandomOneShot().mutate_model(space)
    assert list(supernet.state_dict()) == keys
    drawn = choices("tiny", 3, 1, 0)
    for module in supernet.modules():
        if hasattr(module, "resample"):
            module.resample(memo=drawn)
    supernet(torch.randn(2, 3, 64, 64)).sum().backward()
    with_gradient = {name for name, p in supernet.named_parameters() if p.grad is not None}
    stage1 = {key.split(".")[4] for key in with_gradient if key.startswith("backbone.stages.stage1.0.")}
    assert stage1 == {"xception_3x3"}
    last = {key.split(".")[4] for key in with_gradient if key.startswith("backbone.stages.stage4.1.")}
    assert last == {drawn["layer_08"]}


def test_the_shuffle_reaches_every_block() -> None:
    with model_context(choices("tiny", 0, 3)):
        interleave, even_odd = ShuffleNetV2Trunk("tiny"), ShuffleNetV2Trunk("tiny", shuffle="even_odd")
    even_odd.load_state_dict(interleave.state_dict())
    x = torch.randn(1, 3, 64, 64)
    first, second = interleave.eval()(x), even_odd.eval()(x)
    assert not torch.allclose(first["stage1"], second["stage1"])
    assert {m.shuffle for m in even_odd.modules() if hasattr(m, "shuffle")} == {"even_odd"}


def test_the_initialisation_is_the_authors() -> None:
    torch.manual_seed(0)
    with model_context(choices("small", 0, 1, 2, 3)):
        trunk = ShuffleNetV2Trunk("small")
    assert trunk.stem.conv.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert torch.all(trunk.stem.conv.bias == 0)
    seen = set()
    for name, module in trunk.stages.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 1e-4)
        elif isinstance(module, nn.Conv2d):
            # N(0, 1 / shape[1]): a depthwise weight has shape[1] 1, whatever its number of channels.
            deviation = 1 / module.weight.shape[1]
            tolerance = 5 / module.weight.numel() ** 0.5
            assert module.weight.std().item() == pytest.approx(deviation, rel=tolerance), name
            assert abs(module.weight.mean().item()) < deviation * tolerance
            seen.add(module.groups == 1)
    assert seen == {True, False}


def test_looking_at_a_space_leaves_the_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    layout_of_mutables("tiny")
    layout_of_mutables("foreign:mobile")
    assert torch.equal(before, torch.get_rng_state())


def test_a_foreign_trunk_is_named_built_enumerated_and_trained() -> None:
    assert layout("foreign:mobile") == (("low", ("kernel_3", "kernel_5")), ("high", (0, 1, 2)))
    space = Classifier("foreign:mobile")
    assert space.backbone.classifier_channels == 16
    supernet = RandomOneShot().mutate_model(space)
    for module in supernet.modules():
        if hasattr(module, "resample"):
            module.resample(memo=choices("foreign:mobile", 1, 2))
    supernet(torch.randn(2, 3, 32, 32)).sum().backward()
    assert space.backbone.high[2][0].weight.grad is not None
    assert space.backbone.high[0][0].weight.grad is None
    with model_context(choices("foreign:mobile", 1, 2)):
        fixed = Classifier("foreign:mobile")
    assert fixed.backbone.high[0].kernel_size == (7, 7)
    assert fixed(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_the_costs_of_a_foreign_trunk_are_tabled() -> None:
    numbers = costs("foreign:mobile", 32)
    # Stem 16x16, then 8x8 and 4x4; depthwise kernels 3 and 5, then 3, 5 and 7, and pointwise convolutions.
    stem, low, high = 8 * 3 * 9 * 16 * 16, 8 * 8 * 8, 8 * 4 * 4
    assert numbers["base"][0] == stem + low * 9 + low * 8 + high * 9 + high * 16
    assert [pair[0] for pair in numbers["blocks"][0]] == [0, low * 16]
    assert numbers["blocks"][1] == [[0, 0], [high * 16, 8 * 16], [high * 40, 8 * 40]]
    assert numbers["base"][1] == sum(p.numel() for p in _fixed("foreign:mobile", 0).parameters())
    assert numbers["last_feature"] == [16, 4, 4]


def _fixed(space: str, *ops: int) -> nn.Module:
    with model_context(choices(space, *ops)):
        return TrunkSpace(space)


def test_options_reach_the_factory() -> None:
    assert TrunkSpace("foreign:mobile", width=4).trunk.out_channels == OrderedDict(low=4, high=8)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            "medium",
            "unknown search space 'medium'; known: tiny, small, large, 3.8g, lite0",
        ),
        ("foreign:", "unknown search space 'foreign:'"),
        ("no_such_module:trunk", "cannot import 'no_such_module'"),
        ("foreign:no_such_factory", "module 'foreign' has no callable 'no_such_factory'"),
        ("foreign:no_module", "gave str, not an nn.Module"),
        ("foreign:without_channels", "has to name its features' channels"),
        ("foreign:without_choices", "has no LayerChoice"),
        ("foreign:with_a_nested_choice", "has LayerChoice 'inner' inside 'outer'"),
    ],
)
def test_a_trunk_that_cannot_be_searched_is_refused(space: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        layout(space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("foreign:with_other_channels", "'high': 99.*but its forward gives .*'high': 16"),
        ("foreign:not_additive", "do not add up over its blocks"),
    ],
)
def test_a_trunk_whose_costs_cannot_be_tabled_is_refused(space: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        costs(space, 32)


def test_an_unknown_size_or_shuffle_is_refused() -> None:
    with pytest.raises(SpaceError, match="unknown size 'huge'"):
        ShuffleNetV2Trunk("huge")
    with pytest.raises(SpaceError, match="unknown channel shuffle 'none'; known: interleave, even_odd"):
        build_trunk("tiny", shuffle="none")


@pytest.mark.parametrize("space", ["tiny", "resnet50", "foreign:mobile"])
def test_an_option_that_a_trunk_does_not_take_is_refused(space: str) -> None:
    with pytest.raises(SpaceError, match=f"'{space}' cannot be called with the options.*'depth': 3"):
        build_trunk(space, depth=3)
