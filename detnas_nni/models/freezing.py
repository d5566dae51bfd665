"""Frozen first stages of a trunk: neither weights nor BN statistics change, in training mode either.

For a trunk that starts from trained weights, where there are few images to change them by.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_nni.errors import ConfigError
from search_spaces.trunk import throwaway


class FrozenBatchNorm(nn.Module):
    """Takes a BN's place: the same tensors by the same names, always normalised by the running statistics.

    It is no BN of torch's, so that what is done to all of these (training mode, momentum, synchronisation
    over devices, recalibration) passes it by.

    Args:
        norm: with running statistics; its tensors are taken over, not copied.
    """

    track_running_stats = True

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(norm, name))
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …) to the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def freeze(trunk: nn.Module, stages: int, *, space: str, key: str = "finetune.freeze") -> None:
    """Freeze the stem and the first `stages` stages of a trunk, in place; with 0 nothing.

    Every candidate of a block in them is frozen. Parameters get no gradients, BN becomes `FrozenBatchNorm`.

    Raises ConfigError, which names the config's `key`, if the trunk has not so many stages, or does not say
    what they are.
    """
    if stages == 0:
        return
    parts = _first_parts(trunk, stages, space, key)
    frozen = {module for part in parts for module in part.modules()}
    for part in parts:
        part.requires_grad_(False)
    for parent, name, norm in list(_norms(trunk)):
        if norm in frozen:
            setattr(parent, name, FrozenBatchNorm(norm))


def check_freeze(space: str, stages: int, key: str) -> None:
    """Raise ConfigError as `freeze` would, in a second."""
    if stages:
        with throwaway(space) as trunk_space:
            _first_parts(trunk_space.trunk, stages, space, key)


def _first_parts(trunk: nn.Module, stages: int, space: str, key: str) -> list[nn.Module]:
    first_stages = getattr(trunk, "first_stages", None)
    if first_stages is None:
        raise ConfigError(
            f"{key} is {stages}, but the trunk of {space!r} does not say what its stages are; give it a "
            "method first_stages(n) (docs/extending.md), or set 0, with which nothing is frozen"
        )
    most = len(trunk.out_channels)
    if stages > most:
        raise ConfigError(
            f"{key} is {stages}, but the trunk of {space!r} has {most} stages; expected 0 (nothing is "
            f"frozen) or 1 (the stem and the first stage) to {most} (the whole trunk)"
        )
    return list(first_stages(stages))


def _norms(trunk: nn.Module) -> Iterator[tuple[nn.Module, str, _BatchNorm]]:
    """Every BN with running statistics, with the module that holds it and its name there."""
    for parent in trunk.modules():
        for name, child in parent.named_children():
            # One without statistics normalises by the batch in eval mode, too.
            if isinstance(child, _BatchNorm) and child.track_running_stats:
                yield parent, name, child
