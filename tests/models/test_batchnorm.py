"""BN's momentum is set on every batch normalisation, and on nothing else."""

import pytest
import torch
from torch import nn

from detnas_nni.models import set_bn_momentum


def test_every_batch_normalisation_has_the_momentum_and_other_layers_have_not() -> None:
    net = nn.Sequential(
        nn.BatchNorm2d(2),
        nn.Sequential(nn.SyncBatchNorm(2), nn.BatchNorm1d(2)),
        nn.InstanceNorm2d(2, momentum=0.3),
    )
    set_bn_momentum(net, 0.02)
    assert [layer.momentum for layer in (net[0], *net[1], net[2])] == [0.02, 0.02, 0.02, 0.3]
    set_bn_momentum(net, None)
    assert net[0].momentum is None


def test_the_momentum_is_the_share_of_the_new_batch() -> None:
    norm = nn.BatchNorm2d(1)
    set_bn_momentum(norm, 0.25)
    norm(torch.full((2, 1, 2, 2), 8.0))
    assert norm.running_mean.item() == 0.25 * 8


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.5])
def test_a_momentum_that_is_no_share_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=f"BN momentum {momentum}"):
        set_bn_momentum(nn.BatchNorm2d(1), momentum)
