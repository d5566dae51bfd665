"""Weights at the scale of drawn ones: the net computes the same, and steps turn it as fast as a fresh one."""

from collections import OrderedDict

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from nni.nas.space import model_context
from torch import nn

from detnas_nni.architecture import Architecture
from detnas_nni.models import ClassifierSpace, freeze
from detnas_nni.models.batchnorm import scale_of_drawn_weights
from search_spaces import CANDIDATES, layout

CLASSES = 3
FACTOR = 4.0


@torch.no_grad()
def enlarged(net: nn.Module, factor: float) -> dict[str, torch.Tensor]:
    """The net's state as if the convolutions before BN had grown in a training; it computes the same."""
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and name != "alone":
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


@pytest.mark.parametrize("op", range(len(CANDIDATES)), ids=CANDIDATES)
@pytest.mark.parametrize("mode", ["eval", "train"])
@torch.no_grad()
def test_the_net_computes_the_same_with_weights_of_the_drawn_scale(mode: str, op: int) -> None:
    torch.manual_seed(0)
    drawn, reference = fixed(op), fixed(op)
    for layer in (*drawn.modules(), *reference.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-12  # to which alone the scale matters
    norms = {name: tensor.norm() for name, tensor in convolutions(drawn.trunk).items()}
    reference.load_state_dict(enlarged(reference, FACTOR))
    with scale_of_drawn_weights(drawn.trunk):
        drawn.load_state_dict(reference.state_dict())
    images = torch.rand(4, 3, 64, 64) * 255
    torch.manual_seed(1)
    expected = getattr(reference, mode)()(images)
    torch.manual_seed(1)  # of the dropout
    torch.testing.assert_close(getattr(drawn, mode)()(images), expected, rtol=1e-3, atol=1e-5)
    # All of the trunk's convolutions stand before a BN.
    for name, tensor in convolutions(drawn.trunk).items():
        torch.testing.assert_close(tensor.norm(), norms[name], rtol=1e-5, atol=0)


@torch.no_grad()
def test_every_candidate_of_a_block_gets_its_own_scale() -> None:
    torch.manual_seed(0)
    space = ClassifierSpace("tiny", CLASSES)
    assert sum(isinstance(module, LayerChoice) for module in space.modules()) == len(layout("tiny"))
    norms = {name: tensor.norm() for name, tensor in convolutions(space.trunk).items()}
    other = ClassifierSpace("tiny", CLASSES).state_dict()
    with scale_of_drawn_weights(space.trunk):
        space.load_state_dict({name: tensor * 3 for name, tensor in other.items()})
    for name, tensor in convolutions(space.trunk).items():
        torch.testing.assert_close(tensor.norm(), norms[name], rtol=1e-5, atol=0)
        direction = other[f"trunk.{name}"]
        torch.testing.assert_close(tensor / tensor.norm(), direction / direction.norm(), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_frozen_stages_compute_what_they_computed() -> None:
    torch.manual_seed(0)
    drawn, reference = fixed(0), fixed(0)
    state = enlarged(reference, FACTOR)
    reference.load_state_dict(state)
    freeze(drawn.trunk, 2, space="tiny")
    with scale_of_drawn_weights(drawn.trunk):
        drawn.load_state_dict(state)
    images = torch.rand(4, 3, 64, 64) * 255
    torch.testing.assert_close(drawn.eval()(images), reference.eval()(images), rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_convolutions_without_a_norm_and_those_of_zeros_stay_as_they_are() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3),
            norm=nn.BatchNorm2d(4),
            alone=nn.Conv2d(4, 4, 3),
            act=nn.ReLU(),
            between=nn.BatchNorm2d(4),
        )
    )
    given = {name: tensor * 2 for name, tensor in net.state_dict().items()}
    given["conv.weight"] = torch.zeros_like(given["conv.weight"])
    with scale_of_drawn_weights(net):
        net.load_state_dict(given)
    assert all(torch.equal(tensor, given[name]) for name, tensor in net.state_dict().items())
