"""Batch normalisation in a net: its momentum, the scale of the convolutions before it, and its folding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
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


@torch.no_grad()
def rescale(net: nn.Module) -> int:
    """Give every convolution before BN a norm with which SGD changes all of them at one pace, in place.

    A convolution before BN has a scale without meaning: BN divides by it. But a step of SGD turns a large
    weight less than a small one, as if the learning rate were lower by the square of the norm (arXiv
    1706.05350). So every convolution directly before BN in an `nn.Sequential` gets the Frobenius norm of
    weights with a standard deviation of 1 / fan_in: √(filters / fan_in), where fan_in is the number of
    weights in a filter. The BN's statistics and γ are made to match: in eval mode the net computes the same.
    In training mode it does up to BN's ε, which counts only where a channel hardly varies.

    Other convolutions keep their scale, those before a frozen BN among them, which no step reaches, and so
    does one whose norm is zero or not finite.

    Returns the number of convolutions before such a BN.
    """
    pairs = [pair for pair in _convs_before_norms(net) if isinstance(pair[-1], _BatchNorm)]
    for *_, conv, norm in pairs:
        fan_in = conv.weight[0].numel()
        scale = math.sqrt(len(conv.weight) / fan_in) / conv.weight.norm()
        if 0 < scale**2 < torch.inf:
            _rescale(conv, norm, scale)
    return len(pairs)


def _rescale(conv: nn.Conv2d, norm: _BatchNorm, scale: Tensor) -> None:
    conv.weight *= scale
    if conv.bias is not None:
        conv.bias *= scale
    if norm.affine:  # as ε is not scaled
        ratio = (scale**2 * norm.running_var + norm.eps) / (norm.running_var + norm.eps)
        norm.weight *= ratio.sqrt() / scale
    norm.running_mean *= scale
    norm.running_var *= scale**2


def fold_batch_norm(net: nn.Module) -> int:
    """Fold every BN directly after a convolution in an `nn.Sequential`, in place; return their number.

    The net then computes the same within float error, with fewer passes over its activations, and can no
    longer be trained. Modules that may run in an order other than the one they are listed in are left alone:
    those outside an `nn.Sequential`, in one with its own forward, or used twice.

    Raises ValueError if the net is in training mode.
    """
    if net.training:
        raise ValueError("BN is folded in eval mode; the net is in training mode")
    pairs = list(_convs_before_norms(net))
    for parent, (name, following), conv, norm in pairs:
        parent._modules[name] = fuse_conv_bn_eval(conv, norm)
        parent._modules[following] = nn.Identity()
    return len(pairs)


_Pair = tuple[nn.Sequential, tuple[str, str], nn.Conv2d, _BatchNorm | FrozenBatchNorm]


def _convs_before_norms(net: nn.Module) -> Iterator[_Pair]:
    """Every convolution with a BN that sees its output alone: where they are, their names there, and both."""
    uses = Counter(module for parent in net.modules() for module in parent._modules.values())
    parameters = Counter(id(one) for module in net.modules() for one in module._parameters.values())
    for parent in net.modules():
        if not isinstance(parent, nn.Sequential) or type(parent).forward is not nn.Sequential.forward:
            continue
        for names in pairwise(parent._modules):
            conv, norm = (parent._modules[name] for name in names)
            if not (_is_plain_conv(conv) and _is_plain_norm(norm)):
                continue
            if uses[conv] == uses[norm] == parameters[id(conv.weight)] == 1:
                yield parent, names, conv, norm


def _is_plain_conv(layer: nn.Module) -> bool:
    """Whether its output is linear in a weight that is a parameter; a subclass may normalise it first."""
    return (
        isinstance(layer, nn.Conv2d)
        and type(layer).forward is nn.Conv2d.forward
        and type(layer)._conv_forward is nn.Conv2d._conv_forward
        and "weight" in layer._parameters
    )


def _is_plain_norm(layer: nn.Module) -> bool:
    """Whether it is a BN with running statistics, and nothing else; a subclass may add an activation."""
    plain = (_BatchNorm.forward, nn.SyncBatchNorm.forward, FrozenBatchNorm.forward)
    return (
        isinstance(layer, _BatchNorm | FrozenBatchNorm)
        and type(layer).forward in plain
        and layer.track_running_stats
    )
