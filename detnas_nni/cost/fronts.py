"""What the rest of an architecture can cost at the least, so that its beginning is known to fit or not."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

Vector = tuple[int, ...]
"""One number for each cost that has a limit."""


class SuffixFronts:
    """For each block, and for the end, the Pareto-minimal sums of the blocks from there on.

    The sums are whole numbers, so that adding them up in another order changes no answer. Kept short by what
    the limits say: a sum that is over one even after the cheapest beginning is left out, and one that
    is within one even after the dearest beginning need not be told from others that are.

    Args:
        base: what an architecture costs beside its blocks.
        blocks: for each block, the cost of each candidate, at most three numbers.
        limits: the most of each.
    """

    def __init__(self, base: Vector, blocks: Sequence[Sequence[Vector]], limits: Sequence[int]) -> None:
        self._limits = limits
        axes = range(len(limits))
        least, most = [base], [base]
        for row in blocks:
            least.append(tuple(least[-1][axis] + min(cost[axis] for cost in row) for axis in axes))
            most.append(tuple(most[-1][axis] + max(cost[axis] for cost in row) for axis in axes))
        self._fronts: list[list[Vector]] = [[(0,) * len(limits)]]
        for index in reversed(range(len(blocks))):
            allowed = [limit - before for limit, before in zip(limits, least[index], strict=True)]
            slack = [limit - before for limit, before in zip(limits, most[index], strict=True)]
            sums = {
                tuple(max(here[axis] + rest[axis], slack[axis]) for axis in axes)
                for here in blocks[index]
                for rest in self._fronts[0]
                if all(here[axis] + rest[axis] <= allowed[axis] for axis in axes)
            }
            self._fronts.insert(0, pareto_minimal(sums))

    def can_complete(self, block: int, spent: Vector) -> bool:
        """Whether the blocks from this one on can be chosen so that all is within the limits."""
        left = [limit - cost for limit, cost in zip(self._limits, spent, strict=True)]
        for rest in self._fronts[block]:
            for cost, most in zip(rest, left, strict=True):
                if cost > most:
                    break
            else:
                return True
        return False

    def __len__(self) -> int:
        """Sums that are kept, over all blocks."""
        return sum(map(len, self._fronts))


def pareto_minimal(vectors: Iterable[Vector]) -> list[Vector]:
    """Those that no other one is below or equal to in each of at most three numbers, in ascending order.

    A sweep in the order of the first number over the staircase of the other two.
    """
    front: list[Vector] = []
    seconds: list[float] = []  # ascending
    thirds: list[float] = []  # descending
    for vector in sorted(vectors):
        second, third = (*vector, 0, 0, 0)[1:3]
        place = bisect_right(seconds, second)
        if place and thirds[place - 1] <= third:
            continue
        front.append(vector)
        start = bisect_left(seconds, second)
        end = start
        while end < len(thirds) and thirds[end] >= third:
            end += 1
        seconds[start:end], thirds[start:end] = [second], [third]
    return front
