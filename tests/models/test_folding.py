"""Folded BN: the same outputs within float error, and what cannot be folded stays."""

from collections import OrderedDict

import pytest
import torch
from nni.nas.space import model_context
from torch import nn

from detnas_nni.architecture import Architecture
from detnas_nni.models import ClassifierSpace
from detnas_nni.models.batchnorm import fold_batch_norm
from search_spaces import CANDIDATES, layout
from tests.models.detectors import CLASSES, both, fixed, images


@torch.no_grad()
def unlike_fresh(net: nn.Module) -> nn.Module:
    """Statistics, scales and shifts as a training leaves them; a fresh BN computes nothing."""
    torch.manual_seed(3)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
            for tensor in (layer.running_var, layer.weight):
                tensor.uniform_(0.5, 1.5)
            for tensor in (layer.running_mean, layer.bias):
                tensor.normal_(0, 0.2)
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())


@both
@torch.no_grad()
def test_a_folded_detector_finds_the_same_within_float_error(name: str) -> None:
    net = unlike_fresh(fixed(name, score_threshold=0.0))
    before, count = net(images()), norms(net)
    assert fold_batch_norm(net) == count > 0 and norms(net) == 0
    for found, expected in zip(net(images()), before, strict=True):
        assert torch.equal(found["labels"], expected["labels"])
        torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(found["scores"], expected["scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", range(len(CANDIDATES)), ids=CANDIDATES)
@torch.no_grad()
def test_every_candidate_can_be_folded(op: int) -> None:
    path = Architecture("tiny", (op,) * len(layout("tiny")))
    torch.manual_seed(0)
    with model_context(path.choices):
        net = unlike_fresh(ClassifierSpace("tiny", CLASSES))
    batch = torch.rand(4, 3, 48, 48) * 255
    expected = net(batch)
    assert fold_batch_norm(net) > 0 and norms(net) == 0
    torch.testing.assert_close(net(batch), expected, rtol=1e-4, atol=1e-4)


class OutOfOrder(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[0](self[1](x))


class Attributes(nn.Module):
    """Who knows in which order these run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))


class NormAndActivation(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class Doubling(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def used_twice() -> nn.Module:
    conv = nn.Conv2d(3, 3, 1)
    return nn.Sequential(conv, nn.BatchNorm2d(3), conv)


def with_something_between() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 1), act=nn.ReLU(), norm=nn.BatchNorm2d(3)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: OutOfOrder(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
        Attributes,
        used_twice,
        with_something_between,
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), NormAndActivation(3)),
        lambda: nn.Sequential(Doubling(3, 3, 1), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)),
    ],
    ids=[
        *("forward of its own", "attributes", "used twice", "not neighbours", "no statistics"),
        *("a BN that does more", "a convolution that does more", "a weight that is made of others"),
    ],
)
@torch.no_grad()
def test_what_may_run_otherwise_is_left_as_it_is(build) -> None:
    torch.manual_seed(0)
    net = unlike_fresh(build())
    batch = torch.rand(2, 3, 8, 8)
    expected = net(batch)
    assert fold_batch_norm(net) == 0
    assert torch.equal(net(batch), expected)


def test_a_net_that_is_trained_is_not_folded() -> None:
    with pytest.raises(ValueError, match="training mode"):
        fold_batch_norm(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train())
