"""BN statistics of a path's own: a supernet's were gathered over all paths and fit none."""

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
    net: nn.Module, batches: Iterable[Batch], forward: Callable[[nn.Module, Batch], object]
) -> int:
    """Reset the running statistics of every BN of `net` and gather them anew, in train mode.

    The new statistics are the plain mean over the batches, each with equal weight, rather than an
    exponential average: no batch counts more for coming last, and nothing of the old ones is left.
    Parameters stay as they are, and the net is in the mode in which it came.

    Args:
        net: a fixed net whose tensors are its own.
        batches: training batches, such as 500 of 8 images [R].
        forward: runs the net on one batch.

    Returns:
        The number of batches.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
    count = 0
    with _cumulative(norms), _training(net):
        for batch in batches:
            forward(net, batch)
            count += 1
    return count


@contextmanager
def _cumulative(norms: list[_BatchNorm]) -> Iterator[None]:
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = None  # torch's name for the cumulative mean
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def _training(net: nn.Module) -> Iterator[None]:
    mode = net.training
    try:
        net.train()
        yield
    finally:
        net.train(mode)
