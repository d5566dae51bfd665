"""The ways to sample paths that a config can name: uniform, balanced, fair.

The paper draws every path uniformly, so that by chance some candidates are trained more often than others.
Balanced sampling goes through all candidates of a block before it repeats one. Fair sampling takes the same
paths, and updates the weights once in each round through the candidates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.seeding import generator
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.supernet.updates import passes_per_update


class BalancedPathSampler(PathSampler):
    """Draws every candidate of a block once in every k steps, k being the number of its candidates.

    Each block goes through its candidates in one random order after another, a round of k steps each. Orders
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


def path_sampler(config: Config, step: Literal["pretrain", "finetune"]) -> PathSampler:
    """The sampler of paths over the whole space that a supernet's training names.

    Raises ConfigError if the sampling is fair and does not fit the space or the number of steps.
    """
    passes = passes_per_update(config, step)
    if getattr(config, step).sampling == "uniform":
        return PathSampler(config.space.name, config.seed)
    return BalancedPathSampler(config.space.name, config.seed, passes)
