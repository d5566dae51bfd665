"""What candidates cost, and which of them may be proposed under a config's `search.constraint`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detnas_nni.config import Config, Constraint
from detnas_nni.cost.latency_table import LatencyTable, read_latency_table
from detnas_nni.cost.table import Cost, CostTable, cost_table
from detnas_nni.errors import ConstraintError

if TYPE_CHECKING:
    import numpy as np

Vector = tuple[int, ...]
"""One number for each cost that has a limit."""


class SuffixFronts:
    """For each block, and for the end, the Pareto-minimal sums of the blocks from there on.

    The sums are whole numbers, so that the order of addition changes no answer. The limits keep the fronts
    short: a sum that exceeds one even after the cheapest beginning is left out, and sums that are within one
    even after the dearest beginning need not be distinguished.

    Args:
        base: what an architecture costs besides its blocks.
        blocks: for each block, the cost of each candidate, at most three numbers.
        limits: the maximum of each.
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
        """Number of sums that are kept, over all blocks."""
        return sum(map(len, self._fronts))


def pareto_minimal(vectors: Iterable[Vector]) -> list[Vector]:
    """The vectors of at most three numbers that no other is below or equal to in each, in ascending order.

    A sweep in the order of the first number over the staircase of the other two. For (1, 5), (2, 5), (3, 2),
    (4, 4) the staircase is 5 after (1, 5), which beats (2, 5); then 2 after (3, 2), which beats (4, 4):
    (1, 5) and (3, 2) are left.
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


@dataclass(frozen=True)
class Limits:
    """The most that an architecture may cost (inclusive), backbone convention; None is no limit."""

    max_macs: int | None = None
    max_params: int | None = None
    max_latency_ms: float | None = None

    @classmethod
    def of(cls, constraint: Constraint) -> Limits:
        """From a config's `search.constraint`."""
        return cls(constraint.max_macs, constraint.max_params, constraint.max_latency_ms)

    @property
    def limits(self) -> tuple[int | None, int | None, int | None]:
        """The most MACs, parameters and microseconds."""
        latency = self.max_latency_ms
        # Whole, as latencies are: 4.1 ms times 1000 is a little below 4100.
        return self.max_macs, self.max_params, None if latency is None else int(round(latency * 1000, 6))

    def __str__(self) -> str:
        limits = [f"MACs <= {self.max_macs:,}"] if self.max_macs is not None else []
        limits += [f"parameters <= {self.max_params:,}"] if self.max_params is not None else []
        limits += [f"latency <= {self.max_latency_ms:g} ms"] if self.max_latency_ms is not None else []
        return " and ".join(limits) or "no limit"


class FeasibleSet:
    """The architectures of a space that meet a constraint, exactly, without listing them.

    `SuffixFronts` tell for any beginning of an architecture whether it can be completed within the limits.
    Raises `ConstraintError` for a limit on the latency if the table has none.
    """

    # Uniform draws before the search by depth, 200 in all. The paper's 300M limit takes 1.5 on average, which
    # is faster one by one; for a tight one they are drawn in bulk.
    _SINGLE_DRAWS = 4
    _DRAWS_AHEAD = (32, 164)

    def __init__(self, table: CostTable, constraint: Limits) -> None:
        if constraint.max_latency_ms is not None and table.base.latency_us is None:
            raise ConstraintError(
                f"{constraint}: the latencies of space {table.space!r} are not known; measure them with "
                "`detnas latency` and name the file as search.constraint.latency_table"
            )
        self.table = table
        self.constraint = constraint
        self._sizes = [len(differences) for differences in table.blocks]
        # Costs without a limit do not matter.
        self._axes = [axis for axis, limit in enumerate(constraint.limits) if limit is not None]
        self._limits = [limit for limit in constraint.limits if limit is not None]
        self._base = self._limited(table.base)
        self._blocks = [[self._limited(cost) for cost in row] for row in table.blocks]
        # The same per cost: a limit, the base, and each block's number for each op; quick to add up.
        self._sums = [
            (limit, self._base[axis], [[cost[axis] for cost in row] for row in self._blocks])
            for axis, limit in enumerate(self._limits)
        ]
        self._fronts = SuffixFronts(self._base, self._blocks, self._limits)

    @property
    def is_empty(self) -> bool:
        """Whether no architecture meets the constraint."""
        return not self._fronts.can_complete(0, self._base)

    def raise_if_empty(self) -> None:
        """If it is empty, raise `ConstraintError` that names the limits and the lowest possible costs."""
        if self.is_empty:
            least = self.least()
            latency = (
                "" if least.latency_us is None else f", the lowest latency {least.latency_us / 1000:g} ms"
            )
            raise ConstraintError(
                f"no architecture of space {self.table.space!r} meets {self.constraint}: the lowest MACs are "
                f"{least.macs:,} and the lowest parameters {least.params:,} "
                f"(backbone, {self.table.resolution}x{self.table.resolution}){latency}; raise the limit"
            )

    def least(self) -> Cost:
        """The lowest value of each cost in the space, each on its own."""
        of_blocks = (map(min, zip(*(cost.numbers for cost in row), strict=True)) for row in self.table.blocks)
        return Cost(*map(sum, zip(self.table.base.numbers, *of_blocks, strict=True)))

    def contains(self, ops: Sequence[int]) -> bool:
        """Whether the architecture of these ops meets the constraint."""
        for limit, total, blocks in self._sums:
            for of_block, op in zip(blocks, ops, strict=True):
                total += of_block[op]
            if total > limit:
                return False
        return True

    def lowered(self, rng: np.random.Generator, ops: Sequence[int]) -> tuple[int, ...] | None:
        """Ops with other candidates in blocks that are drawn, until the constraint is met.

        No block is changed in vain: with the candidate that it had, what is returned would exceed a limit.
        None if no single change brings the costs closer to the limits before they are met.
        """
        result, excess = list(ops), self._excess(ops)
        order = rng.permutation(len(result)).tolist()
        while excess:
            before = excess
            for block in order:
                closer = {
                    op: left
                    for op in range(self._sizes[block])
                    if (left := self._excess([*result[:block], op, *result[block + 1 :]])) < excess
                }
                if closer:
                    result[block] = list(closer)[rng.integers(len(closer))]
                    excess = closer[result[block]]
                if not excess:
                    break
            if excess == before:
                return None
        changed = [block for block in order if result[block] != ops[block]]
        while True:  # a large saving may have made others needless; of two costs, each put back may lower one
            for block in changed:
                whole = [*result[:block], ops[block], *result[block + 1 :]]
                if self.contains(whole):
                    result = whole
                    changed.remove(block)
                    break
            else:
                return tuple(result)

    def _excess(self, ops: Sequence[int]) -> float:
        """By which shares of the limits the costs exceed them, added up; 0 if the constraint is met."""
        totals = (
            (limit, base + sum(of_block[op] for of_block, op in zip(blocks, ops, strict=True)))
            for limit, base, blocks in self._sums
        )
        return sum((total - limit) / max(1, limit) for limit, total in totals if total > limit)

    def mask(self, ops: np.ndarray) -> np.ndarray:
        """`contains` of many architectures at once: ops (N, blocks) give (N,) bool."""
        import numpy as np

        totals = self.table.costs(ops)
        # A limit may be beyond what int64 holds.
        met = [totals[:, axis] <= float(limit) for axis, limit in zip(self._axes, self._limits, strict=True)]
        return np.logical_and.reduce(met) if met else np.ones(len(ops), dtype=bool)

    def random_unseen(self, rng: np.random.Generator, seen: Set[tuple[int, ...]]) -> tuple[int, ...] | None:
        """Draw ops that meet the constraint and are not in `seen`; None exactly when there are none left.

        Uniform by rejection while that succeeds; if the constraint is tight or nearly all is seen, by a
        search in random order without dead ends. It always ends.
        """
        if self.is_empty:
            return None
        for _ in range(self._SINGLE_DRAWS):
            ops = tuple(rng.integers(self._sizes).tolist())
            if ops not in seen and self.contains(ops):
                return ops
        for draws in self._DRAWS_AHEAD:
            ops = self._draw_ahead(rng, seen, draws)
            if ops is not None:
                return ops
        return self._search(rng, seen, (), self._base)

    def _draw_ahead(
        self, rng: np.random.Generator, seen: Set[tuple[int, ...]], draws: int
    ) -> tuple[int, ...] | None:
        """Draw and leave `rng` as drawing one by one would, in a tenth of the time.

        Suppose that of 32 drawn at once the fifth is the first that fits. Then `rng` goes back to where it
        was and draws five: the next call begins at the sixth, as if the other 27 had not been drawn.
        """
        import numpy as np

        before = rng.bit_generator.state
        drawn = rng.integers(self._sizes, size=(draws, len(self._sizes)))
        for row in np.flatnonzero(self.mask(drawn)).tolist():
            ops = tuple(drawn[row].tolist())
            if ops not in seen:
                rng.bit_generator.state = before
                rng.integers(self._sizes, size=(row + 1, len(self._sizes)))
                return ops
        return None

    def _search(
        self, rng: np.random.Generator, seen: Set[tuple[int, ...]], begun: tuple[int, ...], spent: Vector
    ) -> tuple[int, ...] | None:
        if len(begun) == len(self._sizes):
            return None if begun in seen else begun
        for op in rng.permutation(self._sizes[len(begun)]).tolist():
            longer, of_op = (*begun, op), self._blocks[len(begun)][op]
            its_cost = tuple(before + more for before, more in zip(spent, of_op, strict=True))
            if self._fronts.can_complete(len(longer), its_cost):
                found = self._search(rng, seen, longer, its_cost)
                if found is not None:
                    return found
        return None

    def _limited(self, cost: Cost) -> Vector:
        return tuple(cost.numbers[axis] for axis in self._axes)


def candidate_costs(config: Config) -> CostTable:
    """MACs and parameters of the space, and latencies if the config names a table of them.

    Raises LatencyError if that is missing, damaged, or for another space, other options or runtime.
    """
    table = cost_table(config.space.name, config.search.constraint.resolution)
    latency = latency_table(config)
    return table if latency is None else table.with_latency(latency)


def feasible_set(config: Config) -> FeasibleSet:
    """The architectures within the limits.

    Raises ConstraintError if there is none, and LatencyError like `candidate_costs`.
    """
    feasible = FeasibleSet(candidate_costs(config), Limits.of(config.search.constraint))
    feasible.raise_if_empty()
    return feasible


def latency_table(config: Config) -> LatencyTable | None:
    """The table that the config names, if any. Raises LatencyError like `candidate_costs`."""
    path = config.search.constraint.latency_table
    if path is None:
        return None
    return read_latency_table(
        path,
        space=config.space.name,
        options=config.space.options,
        runtime=config.search.constraint.latency_runtime,
    )
