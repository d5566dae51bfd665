"""Recalibration gives the plain mean of the batches' statistics, and changes nothing else."""

from collections.abc import Iterator

import pytest
import torch
from nni.nas.space import model_context
from torch import Tensor, nn

from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.models import ClassifierSpace
from search_spaces import layout


def forward(net: nn.Module, batch: Tensor) -> Tensor:
    return net(batch)


def without_gradients(net: nn.Module, batch: Tensor) -> Tensor:
    """A forward pass whose activations are not kept for a backward one."""
    output = net(batch)
    assert not output.requires_grad
    return output


@pytest.fixture
def batches() -> list[Tensor]:
    """Batches of different sizes and values, so that an average by images or by time would show."""
    generator = torch.Generator().manual_seed(0)
    sizes = (2, 5, 3, 4)
    return [torch.rand(n, 3, 6, 6, generator=generator) * (1 + n) + n for n in sizes]


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU())
    net[1].running_mean.fill_(100.0)
    net[1].running_var.fill_(0.001)
    return net


def test_the_statistics_are_the_mean_over_the_batches_each_of_equal_weight(
    net: nn.Module, batches: list[Tensor]
) -> None:
    assert recalibrate(net, batches, forward) == 4
    with torch.no_grad():
        features = [net[0](batch).transpose(0, 1).flatten(1) for batch in batches]
    mean = torch.stack([values.mean(dim=1) for values in features]).mean(dim=0)
    variance = torch.stack([values.var(dim=1) for values in features]).mean(dim=0)
    assert torch.allclose(net[1].running_mean, mean, rtol=1e-5)
    assert torch.allclose(net[1].running_var, variance, rtol=1e-5)
    assert net[1].num_batches_tracked == 4


def test_with_a_momentum_the_statistics_are_an_exponential_average_over_the_batches(
    net: nn.Module, batches: list[Tensor]
) -> None:
    assert recalibrate(net, batches, forward, momentum=0.25) == 4
    mean, variance = torch.zeros(4), torch.ones(4)
    with torch.no_grad():
        for batch in batches:
            values = net[0](batch).transpose(0, 1).flatten(1)
            mean = 0.75 * mean + 0.25 * values.mean(dim=1)
            variance = 0.75 * variance + 0.25 * values.var(dim=1)
    assert torch.allclose(net[1].running_mean, mean, rtol=1e-5)
    assert torch.allclose(net[1].running_var, variance, rtol=1e-5)
    assert net[1].momentum == 0.3


def test_a_second_recalibration_finds_nothing_of_the_first(net: nn.Module, batches: list[Tensor]) -> None:
    recalibrate(net, batches, forward)
    first = net[1].running_mean.clone(), net[1].running_var.clone()
    recalibrate(net, [batch * 3 for batch in batches], forward)
    assert not torch.allclose(net[1].running_mean, first[0])
    recalibrate(net, batches, forward)
    assert torch.equal(net[1].running_mean, first[0])
    assert torch.equal(net[1].running_var, first[1])


def test_a_deeper_layer_sees_what_the_layers_before_it_give_in_train_mode(batches: list[Tensor]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    net[0].running_mean.fill_(50.0)
    recalibrate(net, batches, forward)
    with torch.no_grad():
        normal = [nn.functional.batch_norm(batch, None, None, training=True) for batch in batches]
        means = torch.stack([net[1](values).mean(dim=(0, 2, 3)) for values in normal])
    assert torch.allclose(net[2].running_mean, means.mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_parameters_momentum_and_mode_stay_as_they_were(training: bool, batches: list[Tensor]) -> None:
    with model_context({choice.label: choice.candidates[1] for choice in layout("tiny")}):
        net = ClassifierSpace("tiny", 5).train(training)
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    images = [torch.rand(2, 3, 32, 32) * 255 for _ in range(2)]
    recalibrate(net, images, without_gradients)
    assert all(torch.equal(before[name], parameter) for name, parameter in net.named_parameters())
    assert {norm.momentum for norm in norms} == {0.1}
    assert {module.training for module in net.modules()} == {training}
    assert all(norm.num_batches_tracked == 2 for norm in norms)


def test_an_error_in_the_middle_leaves_momentum_and_mode_as_they_were(
    net: nn.Module, batches: list[Tensor]
) -> None:
    def torn() -> Iterator[Tensor]:
        yield batches[0]
        raise OSError("the disk is gone")

    net.eval()
    with pytest.raises(OSError, match="the disk is gone"):
        recalibrate(net, torn(), forward)
    assert net[1].momentum == 0.3
    assert not net.training
