"""Which path a supernet step trains: drawn by (seed, step), under NNI's one-shot strategy.

NNI's own `RandomOneShot` draws from fresh, unseeded generators, on every rank its own. Here a path is a
function of seed and global step alone: two runs agree, a resumed one goes on as if it had never stopped, and
all ranks of a distributed training draw the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from nni.nas.oneshot.pytorch.base_lightning import BaseSuperNetModule
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from nni.nas.strategy import RandomOneShot
from pytorch_lightning import LightningModule
from torch.optim import Optimizer

from detnas_nni.architecture import Architecture
from detnas_nni.errors import ConstraintError
from detnas_nni.seeding import generator
from search_spaces import layout

# A bin that holds one path in 10,000 is found, in 0.2 s; one that holds fewer is a mistake in the config.
_MOST_DRAWS = 100_000
# Many at a time cost little more than one; which of them are drawn does not depend on it.
_DRAWS_AT_ONCE = 100


class PathSampler:
    """Draws the path of a step.

    Args:
        space: name of the trunk space.
        seed: the config's seed.
        bins: ranges [low, high) of MACs; a step draws one of them uniformly, then a path uniformly in it.
            None draws paths uniformly from the space.
        macs: the MACs of many paths, ops (N, blocks) to (N,), in the convention of the bins; needed with
            bins.

    Attributes:
        passes: steps whose gradients are added up to one update of the weights.

    Raises:
        ConstraintError: a bin holds no path.
    """

    passes = 1

    def __init__(
        self,
        space: str,
        seed: int,
        bins: Sequence[tuple[int, int]] | None = None,
        macs: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        if bins and macs is None:
            raise ValueError("bins of MACs need a function that counts them")
        self.space = space
        self.seed = seed
        self.bins = tuple(bins or ())
        self._macs = macs
        self._candidates = np.array([len(choice.candidates) for choice in layout(space)])
        for low, high in self.bins:  # before hours of training, not in their middle
            self._draw_in_bin(generator(seed, "path bin check"), low, high)

    def path(self, step: int) -> Architecture:
        """The path of a global step."""
        rng = generator(self.seed, "path", step)
        if not self.bins:
            return self._architecture(rng.integers(self._candidates))
        return self._draw_in_bin(rng, *self.bins[rng.integers(len(self.bins))])

    def _architecture(self, ops: np.ndarray) -> Architecture:
        return Architecture(self.space, tuple(ops.tolist()))

    def _draw_in_bin(self, rng: np.random.Generator, low: int, high: int) -> Architecture:
        for _ in range(_MOST_DRAWS // _DRAWS_AT_ONCE):
            drawn = rng.integers(self._candidates, size=(_DRAWS_AT_ONCE, len(self._candidates)))
            macs = self._macs(drawn)
            inside = (low <= macs) & (macs < high)
            if inside.any():
                return self._architecture(drawn[inside.argmax()])
        raise ConstraintError(
            f"pretrain.macs_bins: none of {_MOST_DRAWS:,} random paths of {self.space} has between "
            f"{low:,} and {high:,} MACs; give ranges that the space can meet"
        )


class SeededPathOneShot(RandomOneShot):
    """NNI's single-path one-shot strategy with paths from a `PathSampler`."""

    def __init__(self, sampler: PathSampler) -> None:
        super().__init__()
        self._sampler = sampler

    def configure_oneshot_module(self, training_module: LightningModule) -> RandomSamplingLightningModule:
        return _SeededPathModule(training_module, self._sampler)


class _SeededPathModule(RandomSamplingLightningModule):
    def __init__(self, training_module: LightningModule, sampler: PathSampler) -> None:
        super().__init__(training_module)
        self._sampler = sampler
        self._layers: list[BaseSuperNetModule] = []

    def setup(self, stage: str) -> None:
        super().setup(stage)
        # NNI walks through every module of the supernet to find them, which is not for every step.
        self._layers = list(self.supernet_modules())

    def resample(self) -> dict[str, Any]:
        path = self._sampler.path(self.trainer.global_step)
        activate(self._layers, path)
        return path.choices

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        self.resample()
        return self.training_module.training_step(*args, **kwargs)

    # Not by Lightning's `accumulate_grad_batches`, which averages, and counts updates as steps, where the
    # paths, the data, the schedule, the checkpoints and the log count passes.

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        if self.trainer.global_step % self._sampler.passes == 0:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Callable[[], Any]
    ) -> None:
        if (self.trainer.global_step + 1) % self._sampler.passes == 0:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()  # forward and backward; what clips and unscales gradients is in the step


def activate(layers: Iterable[BaseSuperNetModule], path: Architecture) -> None:
    """Let every layer of the supernet run the candidate that the path chooses."""
    choices = path.choices
    for layer in layers:
        layer.resample(memo=choices)
