"""MACs and parameters equal the published counts, and what hooks count in nets that were built."""

import random
from pathlib import Path

import pytest
import torch
from nni.nas.space import model_context
from torch import nn

import search_spaces
from detnas_nni.architecture import Architecture, read_document
from detnas_nni.cost import cost_table, counts
from detnas_nni.errors import UsageError
from search_spaces import CANDIDATES, layout
from search_spaces.trunk import TrunkSpace

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
def test_the_counts_are_those_of_the_facts_file(
    space: str, ops: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert counts(Architecture(space, ops)) == dict(zip(KEYS, expected, strict=True))


def hooked_counts(arch: Architecture, resolution: int) -> dict[str, int]:
    """Build the net with its classifier, run it, and count what each convolution and linear layer did."""
    with model_context(arch.choices), torch.device("meta"):
        trunk = TrunkSpace(arch.space).trunk
        last = list(trunk.out_channels.values())[-1]
        conv = nn.Conv2d(last, trunk.classifier_channels, 1)
        head = [conv, nn.BatchNorm2d(conv.out_channels), nn.Linear(conv.out_channels, 1000)]
    macs = {"trunk": 0, "head": 0}

    def count(part: str, layer: nn.Module, output: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            macs[part] += output[0].numel() * layer.weight[0].numel()
        else:
            macs[part] += layer.weight.numel()

    for part, modules in (("trunk", trunk.modules()), ("head", head)):
        for module in modules:
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(lambda m, _, output, part=part: count(part, m, output))
    with torch.no_grad():
        features = trunk.eval()(torch.empty(1, 3, resolution, resolution, device="meta"))
        head[2](head[0](list(features.values())[-1]).mean((2, 3)))
    params = sum(p.numel() for p in trunk.parameters())
    head_params = sum(p.numel() for module in head for p in module.parameters())
    values = (macs["trunk"], sum(macs.values()), params, params + head_params)
    return dict(zip(KEYS, values, strict=True))


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


@pytest.mark.parametrize("resolution", [97, 128])
def test_another_resolution_is_profiled(resolution: int) -> None:
    arch = random_architecture("tiny", 5)
    assert counts(arch, resolution) == hooked_counts(arch, resolution)


def test_the_table_is_the_same_object_within_a_process() -> None:
    assert cost_table("small") is cost_table("small")


@pytest.mark.parametrize("resolution", [0, -224])
def test_a_resolution_that_is_none_is_refused(resolution: int) -> None:
    with pytest.raises(UsageError, match=f"resolution {resolution}"):
        cost_table("tiny", resolution)
