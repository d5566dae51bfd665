"""Rescaled weights: the net computes the same, and every convolution before BN has the norm of 1 / fan_in."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from nni.nas.space import model_context
from torch import nn

from detnas_nni.architecture import Architecture
from detnas_nni.models import ClassifierSpace, freeze
from detnas_nni.models.batchnorm import rescale
from search_spaces import CANDIDATES, layout

CLASSES = 3
FACTOR = 4.0


@torch.no_grad()
def enlarged(net: nn.Module, factor: float) -> dict[str, torch.Tensor]:
    """The net's state as if the convolutions before BN had grown in a training; it computes the same."""
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            state[f"{name}.weight"] *= factor
            if module.bias is not None:
                state[f"{name}.bias"] += 0.5
                state[f"{name}.bias"] *= factor
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1).mul_(factor)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5).mul_(factor**2)
    return state


def convolutions(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if tensor.dim() == 4}


def fixed(op: int) -> ClassifierSpace:
    with model_context(Architecture("tiny", (op,) * len(layout("tiny"))).choices):
        return ClassifierSpace("tiny", CLASSES)


def assert_norms(convolutions: Mapping[str, torch.Tensor]) -> None:
    assert convolutions
    for tensor in convolutions.values():
        filters, inputs, height, width = tensor.shape
        expected = (filters / (inputs * height * width)) ** 0.5
        torch.testing.assert_close(tensor.norm().item(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("op", range(len(CANDIDATES)), ids=CANDIDATES)
@pytest.mark.parametrize("mode", ["eval", "train"])
@torch.no_grad()
def test_the_net_computes_the_same(mode: str, op: int) -> None:
    torch.manual_seed(0)
    net, reference = fixed(op), fixed(op)
    if mode == "train":
        for layer in (*net.modules(), *reference.modules()):
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 1e-12  # to which alone the scale matters there
    reference.load_state_dict(enlarged(reference, FACTOR))
    net.load_state_dict(reference.state_dict())
    rescaled = rescale(net.trunk)
    images = torch.rand(4, 3, 64, 64) * 255
    torch.manual_seed(1)
    expected = getattr(reference, mode)()(images)
    torch.manual_seed(1)  # of the dropout
    torch.testing.assert_close(getattr(net, mode)()(images), expected, rtol=1e-3, atol=1e-5)
    # All of the trunk's convolutions stand before a BN.
    assert rescaled == len(convolutions(net.trunk))
    assert_norms(convolutions(net.trunk))


@torch.no_grad()
def test_channels_that_hardly_vary_before_a_bn_of_a_large_epsilon_come_out_as_before() -> None:
    torch.manual_seed(0)
    net, reference = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-3)).eval() for _ in range(2))
    reference[0].weight *= 5
    reference[1].running_var.uniform_(0, 1e-4)
    images = torch.rand(2, 3, 8, 8)
    net.load_state_dict(reference.state_dict())
    assert rescale(net) == 1
    torch.testing.assert_close(net(images), reference(images), rtol=1e-4, atol=1e-4)
    assert net[0].weight.norm() < reference[0].weight.norm() / 2


@torch.no_grad()
def test_every_candidate_of_a_block_gets_its_own_scale() -> None:
    torch.manual_seed(0)
    space = ClassifierSpace("tiny", CLASSES)
    assert sum(isinstance(module, LayerChoice) for module in space.modules()) == len(layout("tiny"))
    before = {name: tensor.clone() for name, tensor in convolutions(space.trunk).items()}
    assert rescale(space.trunk) == len(before)
    assert_norms(convolutions(space.trunk))
    for name, tensor in convolutions(space.trunk).items():
        direction = before[name] / before[name].norm()
        torch.testing.assert_close(tensor / tensor.norm(), direction, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_frozen_stages_keep_their_weights_to_the_bit() -> None:
    torch.manual_seed(0)
    net = fixed(0)
    state = enlarged(net, FACTOR)
    freeze(net.trunk, 2, space="tiny")
    net.load_state_dict(state)
    rescale(net.trunk)
    kept = {name for name, tensor in net.state_dict().items() if torch.equal(tensor, state[name])}
    prefixes = ("trunk.stem", "trunk.stages.stage1", "trunk.stages.stage2")
    frozen = {name for name in state if name.startswith(prefixes)}
    assert frozen and frozen <= kept
    assert not any(name.endswith("running_var") for name in kept - frozen if name.startswith("trunk"))


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


class Standardised(nn.Conv2d):
    """Whatever its weight's scale, its output is the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


def sharing() -> nn.Sequential:
    first, second = (nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
    first[0].weight = second[0].weight
    return nn.Sequential(first, second)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
        lambda: nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)),
        sharing,
    ],
    ids=["no BN next to it", "a weight that is normalised", "a weight made of others", "a shared weight"],
)
@torch.no_grad()
def test_what_cannot_be_rescaled_stays_as_it_is(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = build()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert rescale(net) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("size", [0.0, 1e-25, 1e25, math.nan])
@torch.no_grad()
def test_a_norm_that_gives_no_scale_leaves_the_weights_as_they_are(size: float) -> None:
    torch.manual_seed(0)
    net = plain()
    net[0].weight *= size
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    rescale(net)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num())
