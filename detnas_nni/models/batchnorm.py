"""What the trainings set on the batch normalisations of a net."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_bn_momentum(module: nn.Module, momentum: float | None) -> None:
    """Set the momentum of every batch normalisation of `module`, synchronised ones included, in place.

    `momentum` is torch's: the share, in (0, 1], that a new batch has in the running statistics; None is the
    plain mean over all batches. Raises `ValueError` for another value.
    """
    if momentum is not None and not 0 < momentum <= 1:
        raise ValueError(f"BN momentum {momentum}: expected a share above 0 and up to 1, or None")
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = momentum
