"""Batch normalisation in a net: its momentum for training, and its folding for a net in eval mode."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detnas_nni.models.freezing import FrozenBatchNorm


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


def fold_batch_norm(net: nn.Module) -> int:
    """Fold every BN directly after a convolution in an `nn.Sequential`, in place; return their number.

    The net then computes the same within float error, with fewer passes over its activations, and can no
    longer be trained. Modules that may run in an order other than the one they are listed in are left alone:
    those outside an `nn.Sequential`, in one with its own forward, or used twice.

    Raises ValueError if the net is in training mode.
    """
    if net.training:
        raise ValueError("BN is folded in eval mode; the net is in training mode")
    uses = Counter(module for parent in net.modules() for module in parent._modules.values())
    folded = 0
    for parent in net.modules():
        if not isinstance(parent, nn.Sequential) or type(parent).forward is not nn.Sequential.forward:
            continue
        names = list(parent._modules)
        for name, following in pairwise(names):
            conv, norm = parent._modules[name], parent._modules[following]
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm | FrozenBatchNorm)):
                continue
            if uses[conv] == uses[norm] == 1 and norm.track_running_stats:
                parent._modules[name] = fuse_conv_bn_eval(conv, norm)
                parent._modules[following] = nn.Identity()
                folded += 1
    return folded
