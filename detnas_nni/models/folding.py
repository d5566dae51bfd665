"""Batch normalisation folded into the convolution before it: in eval mode it is a scale and a shift."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(net: nn.Module) -> int:
    """Fold every BN that directly follows a convolution in an `nn.Sequential`, in place; gives their number.

    The net then computes the same within float error, with fewer passes over its activations, and cannot be
    trained any more. What may run in another order than it stands in is left as it is: modules outside of a
    `nn.Sequential`, in one with a forward of its own, or used twice.

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
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm)):
                continue
            if uses[conv] == uses[norm] == 1 and norm.track_running_stats:
                parent._modules[name] = fuse_conv_bn_eval(conv, norm)
                parent._modules[following] = nn.Identity()
                folded += 1
    return folded
