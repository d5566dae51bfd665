"""A fixed net takes exactly its path's weights, copies them, and then computes what the supernet did."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nni.nas.space import model_context
from nni.nas.strategy import RandomOneShot
from torch import Tensor, nn

from detnas_nni.architecture import Architecture
from detnas_nni.config import Detector
from detnas_nni.errors import CheckpointError
from detnas_nni.models import ClassifierSpace, DetectorSpace
from detnas_nni.supernet.inherit import choice_prefixes, path_state, weights_of_path
from detnas_nni.training.tensors import fill
from detnas_nni.training.weights import Weights, WeightsInfo
from search_spaces import CANDIDATES, layout

PATH = Architecture("tiny", tuple((2, 1, 0, 3, 1)[index % 5] for index in range(len(layout("tiny")))))
FILE = Path("run/supernet.pt")

DETECTORS_TRUNK = "detector.backbone.trunk."


def classifier() -> ClassifierSpace:
    return ClassifierSpace("tiny", 5)


def detector() -> DetectorSpace:
    settings = Detector(fpn_channels=16, box_head_channels=16, box_head_width=32, min_size=64)
    return DetectorSpace("tiny", 5, settings)


def fixed(build: Callable[[], nn.Module], path: Architecture = PATH) -> nn.Module:
    with model_context(path.choices):
        return build()


def randomised(space: nn.Module) -> dict[str, Tensor]:
    """The state of a space in which no two tensors are alike, running statistics included."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(tensor.shape, generator=generator) + 0.5
        if tensor.is_floating_point()
        else tensor + 7
        for name, tensor in space.state_dict().items()
    }


def name_in_supernet(name: str, searched_blocks: list[str]) -> str:
    """The supernet's name of a fixed net's tensor, worked out from the path and nothing else."""
    match = re.fullmatch(r"(.*stages\.)(stage\d\.\d+)\.(.*)", name)
    if match is None or match[2] not in searched_blocks:
        return name
    return f"{match[1]}{match[2]}.{CANDIDATES[PATH.ops[searched_blocks.index(match[2])]]}.{match[3]}"


@pytest.mark.parametrize("build", [classifier, detector])
def test_a_net_takes_exactly_the_tensors_of_its_path(
    build: Callable[[], nn.Module], searched_blocks: list[str]
) -> None:
    space, net = build(), fixed(build)
    state = randomised(space)
    fill(net, path_state(state, choice_prefixes(space), PATH), FILE)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, state[name_in_supernet(name, searched_blocks)]), name


def test_the_weights_are_copies() -> None:
    space, net = classifier(), fixed(classifier)
    state = randomised(space)
    before = {name: tensor.clone() for name, tensor in state.items()}
    fill(net, path_state(state, choice_prefixes(space), PATH), FILE)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_only_what_lies_in_a_choice_is_renamed(searched_blocks: list[str]) -> None:
    space = classifier()
    prefixes = choice_prefixes(space)
    labels = zip(searched_blocks, PATH.choices, strict=True)
    assert prefixes == {f"trunk.stages.{block}": label for block, label in labels}
    state = space.state_dict()
    kept = {name for name in state if ".stages." not in name}
    assert kept == {name for name in path_state(state, prefixes, PATH) if ".stages." not in name}


def test_the_net_computes_what_the_supernet_computes_on_its_path() -> None:
    space = classifier()
    prefixes = choice_prefixes(space)
    supernet = RandomOneShot().mutate_model(space).eval()
    for module in supernet.modules():
        if hasattr(module, "resample"):
            module.resample(memo=PATH.choices)
    net = fixed(classifier).eval()
    fill(net, path_state(supernet.state_dict(), prefixes, PATH), FILE)
    images = torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        assert torch.equal(net(images), supernet(images))


def test_the_weights_of_another_model_are_refused(searched_blocks: list[str]) -> None:
    net, prefixes = fixed(classifier), choice_prefixes(classifier())
    with pytest.raises(CheckpointError, match=r"^run/supernet\.pt: the weights do not fit .*fc\.bias"):
        fill(net, path_state(ClassifierSpace("tiny", 7).state_dict(), prefixes, PATH), FILE)
    state = classifier().state_dict()
    lost = f"trunk.stages.{searched_blocks[0]}.main.0.weight"
    del state[name_in_supernet(lost, searched_blocks)]
    with pytest.raises(CheckpointError, match=rf"{re.escape(lost)} is missing in them"):
        fill(net, path_state(state, prefixes, PATH), FILE)


def weights(build: Callable[[], nn.Module]) -> Weights:
    """A supernet's weights, as they are loaded from a file."""
    kind, prefix = ("classifier", "trunk.") if build is classifier else ("faster_rcnn", DETECTORS_TRUNK)
    info = WeightsInfo(kind, "tiny", {}, ("a", "b", "c", "d", "e"), 4, 0, "0123456789abcdef", prefix)
    return Weights(FILE, info, randomised(build()))


@pytest.mark.parametrize("build", [classifier, detector])
def test_a_path_of_a_supernets_weights_is_a_single_nets(build: Callable[[], nn.Module]) -> None:
    supernet = weights(build)
    single = weights_of_path(supernet, PATH)
    assert single.info == replace(supernet.info, ops=PATH.ops)
    assert single.path == supernet.path
    net, expected = fixed(build), fixed(build)
    fill(net, single.state, single.path)
    fill(expected, path_state(supernet.state, choice_prefixes(build()), PATH), FILE)
    assert net.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in net.state_dict().items())
    trunk = fixed(build).trunk.state_dict()
    assert list(single.trunk_state) == list(trunk)


def test_a_single_nets_weights_are_its_path_already() -> None:
    single = weights_of_path(weights(classifier), PATH)
    assert weights_of_path(single, PATH) is single
    other = Architecture("tiny", (0,) * len(PATH.ops))
    with pytest.raises(
        CheckpointError, match=f"of the architecture {PATH} of tiny; those of {other} of tiny"
    ):
        weights_of_path(single, other)


def test_a_path_of_another_space_is_refused() -> None:
    other = Architecture("small", (0,) * len(layout("small")))
    with pytest.raises(CheckpointError, match="whose space is 'tiny', but the config says 'small'"):
        weights_of_path(weights(classifier), other)
