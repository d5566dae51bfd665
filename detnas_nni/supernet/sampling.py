"""The ways to sample paths that a config can name: uniform, balanced.

The paper draws every path uniformly, so that by chance some candidates are trained more often than others.
Balanced sampling goes through all candidates of a block before it repeats one.
"""

from __future__ import annotations

import numpy as np

from detnas_nni.architecture import Architecture
from detnas_nni.config import Sampling
from detnas_nni.seeding import generator
from detnas_nni.supernet.paths import PathSampler


class BalancedPathSampler(PathSampler):
    """Draws every candidate of a block once in every k steps, k being the number of its candidates.

    Each block goes through its candidates in one random order after another, a round of k steps each. Orders
    of different blocks and of different rounds are independent.

    Args:
        space: name of the trunk space.
        seed: the config's seed.
    """

    def __init__(self, space: str, seed: int) -> None:
        super().__init__(space, seed)
        self._blocks = {
            k: np.flatnonzero(self._candidates == k) for k in np.unique(self._candidates).tolist()
        }

    def path(self, step: int) -> Architecture:
        ops = np.zeros_like(self._candidates)
        for k, blocks in self._blocks.items():
            round_, place = divmod(step, k)
            rng = generator(self.seed, "balanced paths", k, round_)
            orders = rng.permuted(np.tile(np.arange(k), (len(blocks), 1)), axis=1)
            ops[blocks] = orders[:, place]
        return self._architecture(ops)


def path_sampler(sampling: Sampling, space: str, seed: int) -> PathSampler:
    """The sampler of paths over a whole space that a training's key `sampling` names."""
    return {"uniform": PathSampler, "balanced": BalancedPathSampler}[sampling](space, seed)
