"""MACs and parameters equal the published counts, and what hooks count in nets that were built."""

import random
from pathlib import Path

import pytest
import torch
from nni.nas.space import model_context
from torch import nn

import search_spaces
from detnas_nni.architecture import Architecture, read_document
from detnas_nni.cost.table import cost_table, counts
from detnas_nni.errors import UsageError
from detnas_nni.models import ClassifierSpace
from search_spaces import CANDIDATES, layout

PUBLISHED = sorted((Path(search_spaces.__file__).parent / "published").glob("*.json"))
KEYS = ("backbone_macs", "classifier_macs", "backbone_params", "classifier_params")
COCO_FPN_300M = (2, 1, 2, 0, 2, 1, 1, 2, 3, 3, 1, 3, 0, 0, 3, 1, 3, 1, 3, 2)
# fmt: off
COCO_FPN_1_3G = (0, 0, 3, 1, 2, 1, 0, 2, 0, 3, 1, 2, 3, 3, 2, 0, 2, 1, 1, 3,
                 2, 0, 2, 2, 2, 1, 3, 1, 0, 3, 3, 3, 1, 3, 3, 3, 3, 3, 3, 3)
# fmt: on


@pytest.mark.parametrize(
    ("space", "ops", "expected"),
    [
        ("small", COCO_FPN_300M, (288_082_368, 321_219_008, 1_849_680, 3_533_112)),
        ("large", COCO_FPN_1_3G, (1_269_181_536, 1_318_374_496, 8_415_216, 10_426_328)),
        ("small", (0,) * 20, (262_705_856, 295_842_496, 1_473_488, 3_156_920)),
    ],
)
def test_the_counts_are_those_of_the_authors_counters(
    space: str, ops: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert counts(Architecture(space, ops)) == dict(zip(KEYS, expected, strict=True))


@pytest.mark.parametrize(
    ("space", "giga_macs", "params"), [("resnet50", 4.09, 25_557_032), ("resnet101", 7.80, 44_549_160)]
)
def test_a_resnet_costs_what_torchvision_documents(space: str, giga_macs: float, params: int) -> None:
    numbers = counts(Architecture(space, ()))
    assert numbers["classifier_macs"] / 1e9 == pytest.approx(giga_macs, abs=0.005)
    assert numbers["classifier_params"] == params


def hooked_counts(arch: Architecture, resolution: int) -> dict[str, int]:
    """Build the classifier, run it, and count what each convolution and linear layer did."""
    with model_context(arch.choices), torch.device("meta"):  # shapes alone: nothing is drawn or multiplied
        net = ClassifierSpace(arch.space, num_classes=1000).eval()
    macs = {"trunk": 0, "last_conv": 0, "fc": 0}

    def count(part: str, layer: nn.Module, output: torch.Tensor) -> None:
        macs[part] += output[0].numel() * layer.weight[0].numel()

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            part = name.split(".")[0]
            module.register_forward_hook(lambda layer, _, output, part=part: count(part, layer, output))
    with torch.no_grad():
        net(torch.empty(1, 3, resolution, resolution, device="meta"))
    params, of_trunk = (sum(p.numel() for p in module.parameters()) for module in (net, net.trunk))
    return dict(zip(KEYS, (macs["trunk"], sum(macs.values()), of_trunk, params), strict=True))


def random_architecture(space: str, seed: int) -> Architecture:
    draw = random.Random(seed)
    return Architecture.from_ops(space, [draw.randrange(4) for _ in layout(space)])


@pytest.mark.parametrize("space", ["tiny", "small"])
@pytest.mark.parametrize("seed", range(3))
def test_random_architectures_cost_what_hooks_count(space: str, seed: int) -> None:
    arch = random_architecture(space, seed)
    assert counts(arch) == hooked_counts(arch, 224)


@pytest.mark.parametrize("space", ["tiny", "small", "large", "3.8g"])
@pytest.mark.parametrize("op", range(len(CANDIDATES)))
def test_one_op_repeated_over_a_space_costs_what_hooks_count(space: str, op: int) -> None:
    arch = Architecture(space, (op,) * len(layout(space)))
    assert counts(arch) == hooked_counts(arch, 224)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_net_costs_what_hooks_count_and_its_file_says(path: Path) -> None:
    arch = Architecture.from_json(path)
    assert counts(arch) == hooked_counts(arch, 224)
    assert read_document(path)["cost"] == {"resolution": 224, **counts(arch)}


@pytest.mark.parametrize(("space", "resolution"), [("tiny", 97), ("tiny", 128), ("resnet50", 97)])
def test_another_resolution_is_profiled(space: str, resolution: int) -> None:
    arch = random_architecture(space, 5)
    assert counts(arch, resolution) == hooked_counts(arch, resolution)


def test_the_table_is_the_same_object_within_a_process() -> None:
    assert cost_table("small") is cost_table("small")


@pytest.mark.parametrize("resolution", [0, -224])
def test_a_resolution_that_is_none_is_refused(resolution: int) -> None:
    with pytest.raises(UsageError, match=f"resolution {resolution}"):
        cost_table("tiny", resolution)
