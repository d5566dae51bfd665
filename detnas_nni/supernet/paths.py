"""Which path a supernet step trains: drawn by (seed, step), under NNI's one-shot strategy.

NNI's own `RandomOneShot` draws from fresh, unseeded generators, a different one on every rank. Here a path is
a function of seed and global step alone: two runs agree, a resumed one continues as if it had never stopped,
and all ranks of a distributed training draw the same path.

There are four ways to sample paths. The paper draws every path uniformly, so that by chance some candidates
are trained more often than others. Balanced sampling goes through all candidates of a block before it repeats
one. Fair sampling takes the same paths, and updates the weights once per round through the candidates. Around
a net that is known to be good, each block takes that net's candidate in half of the steps or more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from nni.nas.oneshot.pytorch.base_lightning import BaseSuperNetModule
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from nni.nas.strategy import RandomOneShot
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import SGD, Optimizer

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.updates import passes_per_update
from detnas_nni.errors import ConstraintError
from detnas_nni.supernet.known_net import known_net
from detnas_nni.util.seeding import generator
from search_spaces import layout

# A bin that holds one path in 10,000 is hit, in 0.2 s; one that holds fewer is a mistake in the config.
_MOST_DRAWS = 100_000
# Drawing many at a time costs little more than one, and does not change which are drawn.
_DRAWS_AT_ONCE = 100


class PathSGD(SGD):
    """torch's SGD, to the bit, but visiting only those parameters that a gradient has reached.

    torch's own checks every parameter for a gradient, and most of a supernet's have none. Here hooks mark
    those that have one during the backward pass, once per step.

    Args:
        params: as in torch; the groups, and with them the state dict, hold all parameters.
        settings: as in torch.
    """

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)
        # A dictionary's keys are an ordered set, and `setdefault` returns what a hook has to return: None.
        self._reached: list[dict[Tensor, None]] = [{} for _ in self.param_groups]
        for group, reached in zip(self.param_groups, self._reached, strict=True):
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(reached.setdefault)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on what the closure's backward pass, or the last one, has reached; returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._reached_alone():
            super().step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients since the last call."""
        with self._reached_alone():
            super().zero_grad(set_to_none)
        if set_to_none:  # otherwise a gradient of zeros still needs a step
            for reached in self._reached:
                reached.clear()

    @contextmanager
    def _reached_alone(self) -> Iterator[None]:
        """Within the context the groups hold only what a gradient has reached."""
        whole = [group["params"] for group in self.param_groups]
        try:
            for group, reached in zip(self.param_groups, self._reached, strict=True):
                group["params"] = list(reached)
            yield
        finally:
            for group, params in zip(self.param_groups, whole, strict=True):
                group["params"] = params


class PathSampler:
    """Draws the path of a step.

    Args:
        space: name of the trunk space.
        seed: the config's seed.
        bins: ranges [low, high) of MACs; a step draws one of them uniformly, then a path uniformly from it.
            None draws paths uniformly from the space.
        macs: the MACs of many paths, ops (N, blocks) to (N,), in the convention of the bins; needed with
            bins.

    Attributes:
        passes: steps whose gradients are summed into one update of the weights.

    Raises:
        ConstraintError: a bin holds no path.
    """

    optimizer = PathSGD
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
        for low, high in self.bins:  # before hours of training, not in the middle of them
            self._draw_in_bin(generator(seed, "path bin check"), low, high)

    def path(self, step: int) -> Architecture:
        """The path of a global step."""
        rng = generator(self.seed, "path", step)
        if not self.bins:
            return self._architecture(rng.integers(self._candidates))
        return self._draw_in_bin(rng, *self.bins[rng.integers(len(self.bins))])

    def one_shot(self) -> SeededPathOneShot:
        """NNI's strategy that trains the paths of this sampler."""
        return SeededPathOneShot(self)

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
            f"{low:,} and {high:,} MACs; give ranges that occur in the space"
        )


class BalancedPathSampler(PathSampler):
    """Draws every candidate of a block once in every k steps, k being the number of its candidates.

    Each block goes through its candidates in a new random order in each round of k steps. Orders
    of different blocks and of different rounds are independent.

    Args:
        space: name of the trunk space.
        seed: the config's seed.
        passes: steps whose gradients are added up to one update of the weights.
    """

    def __init__(self, space: str, seed: int, passes: int = 1) -> None:
        super().__init__(space, seed)
        self.passes = passes
        sizes = np.unique(self._candidates).tolist()
        self._blocks = {k: np.flatnonzero(self._candidates == k) for k in sizes}

    def path(self, step: int) -> Architecture:
        ops = np.zeros_like(self._candidates)
        for k, blocks in self._blocks.items():
            round_, place = divmod(step, k)
            rng = generator(self.seed, "balanced paths", k, round_)
            orders = rng.permuted(np.tile(np.arange(k), (len(blocks), 1)), axis=1)
            ops[blocks] = orders[:, place]
        return self._architecture(ops)


class NearbyPathSampler(PathSampler):
    """Draws each block's candidate of a known net with a chance of one half, otherwise uniformly.

    For a supernet whose weights come from that net: a path of uniformly drawn candidates is far from what
    was trained, and a few hundred steps do not make up for that.

    Args:
        net: what the paths are drawn around.
        seed: the config's seed.
    """

    def __init__(self, net: Architecture, seed: int) -> None:
        super().__init__(net.space, seed)
        self._net = np.array(net.ops)

    def path(self, step: int) -> Architecture:
        rng = generator(self.seed, "nearby path", step)
        known = rng.random(len(self._net)) < 0.5
        return self._architecture(np.where(known, self._net, rng.integers(self._candidates)))


def path_sampler(config: Config, step: Literal["pretrain", "finetune"]) -> PathSampler:
    """The sampler of paths over the whole space that a supernet training's config names.

    Raises ConfigError if the sampling is fair and does not fit the space or the number of steps, or if the
    net to draw paths around is not of the space.
    """
    passes = passes_per_update(config, step)
    net = known_net(config, step) if step == "finetune" else None
    if net is not None:
        return NearbyPathSampler(net, config.seed)
    if getattr(config, step).sampling == "uniform":
        return PathSampler(config.space.name, config.seed)
    return BalancedPathSampler(config.space.name, config.seed, passes)


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
        # NNI walks through every module of the supernet to find them, too slow to do at every step.
        self._layers = list(self.supernet_modules())

    def resample(self) -> dict[str, Any]:
        path = self._sampler.path(self.trainer.global_step)
        activate(self._layers, path)
        return path.choices

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        self.resample()
        return self.training_module.training_step(*args, **kwargs)

    # Not with Lightning's `accumulate_grad_batches`, which averages, and counts updates as steps, whereas
    # paths, data, schedule, checkpoints and log count passes.

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
    """Make every layer of the supernet run the candidate that the path chooses."""
    choices = path.choices
    for layer in layers:
        layer.resample(memo=choices)
