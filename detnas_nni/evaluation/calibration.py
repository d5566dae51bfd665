"""BN statistics for a single path: a supernet's were gathered over all paths and fit none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Batch = TypeVar("Batch")


@torch.no_grad()
def recalibrate(
    net: nn.Module,
    batches: Iterable[Batch],
    forward: Callable[[nn.Module, Batch], object],
    momentum: float | None = None,
) -> int:
    """Reset the running statistics of every BN of `net` and recompute them, in train mode.

    Without a momentum the new statistics are the plain mean over the batches, each with equal weight: no
    batch counts more for coming last, and nothing of the old ones is left. Parameters stay as they are, and
    the net is returned to its previous mode.

    Args:
        net: a fixed net whose tensors are its own.
        batches: training batches, such as 500 of 8 images [R].
        forward: runs the net on one batch.
        momentum: share of a new batch in an exponential average [R: 0.1], which starts at mean 0, variance 1.

    Returns:
        The number of batches.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
    count = 0
    with _momentum(norms, momentum), _training(net):
        for batch in batches:
            forward(net, batch)
            count += 1
    return count


@contextmanager
def _momentum(norms: list[_BatchNorm], momentum: float | None) -> Iterator[None]:
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = momentum  # None is torch's name for the cumulative mean
        yield
    finally:
        for norm, before in zip(norms, momenta, strict=True):
            norm.momentum = before


@contextmanager
def _training(net: nn.Module) -> Iterator[None]:
    mode = net.training
    try:
        net.train()
        yield
    finally:
        net.train(mode)
