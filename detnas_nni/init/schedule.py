"""How long everything is trained and searched: what is wanted, and the same cut down."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_MOST_GENERATIONS = 20  # [P]


@dataclass(frozen=True)
class Schedule:
    """Attributes:
    pretrain: steps; 0 if there is none.
    finetune: steps, of the supernet and of the final net each.
    evaluations: candidates.
    calibration: images that BN statistics come from, a candidate.
    least: the least of each that is worth its name; None of a schedule that is one itself.
    """

    pretrain: int
    finetune: int
    evaluations: int
    calibration: int
    least: Schedule | None = None

    def cut(self, share: float) -> Schedule:
        """A share of it, in 0..1, but not below the least.

        The detector's training is cut by the root of the share alone: with a supernet that detects nothing
        the rest is for nothing.
        """
        least = self.least or self

        def part(name: str, share: float) -> int:
            return max(round(getattr(self, name) * share), min(getattr(least, name), getattr(self, name)))

        others = {name: part(name, share) for name in ("pretrain", "evaluations", "calibration")}
        return replace(self, finetune=part("finetune", math.sqrt(share)), **others)

    @property
    def generations(self) -> int:
        """In the proportion of the paper's 50 × 20 and of the quickstart's 8 × 4."""
        return max(2, min(_MOST_GENERATIONS, round(math.sqrt(0.4 * self.evaluations))))

    @property
    def population(self) -> int:
        return max(4, self.evaluations // self.generations)
