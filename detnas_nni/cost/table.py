"""What an architecture costs, from an additive table, and which ones meet a constraint.

Costs are MACs, parameters and, with a table that `detnas latency` has measured, latency.

MACs are multiply-adds of convolutions (and fully connected layers) for one image; neither batch
normalisation, bias nor activation counts. Two conventions, as in the authors' release:
- *backbone*: stem and blocks. A search limit is in this convention.
- *classifier*: with the last convolution 1x1, where the classifier has one, and the fully connected layer.
Parameters count biases and the γ and β of batch normalisation.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from detnas_nni.architecture import Architecture
from detnas_nni.cost.fronts import SuffixFronts, Vector
from detnas_nni.errors import ArchitectureError, ConstraintError, UsageError
from search_spaces import SHIPPED_RESOLUTION, costs

if TYPE_CHECKING:
    import numpy as np

    from detnas_nni.cost.latency_table import LatencyTable


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one image, parameters, and latency where it was measured."""

    macs: int
    params: int
    latency_us: int | None = None
    """predicted, in microseconds, of a batch as the latency table has it"""

    def __add__(self, other: "Cost") -> "Cost":
        latency = None
        if self.latency_us is not None and other.latency_us is not None:
            latency = self.latency_us + other.latency_us
        return Cost(self.macs + other.macs, self.params + other.params, latency)

    def to_dict(self) -> dict[str, int | float]:
        """`macs`, `params` and, where it was measured, `latency_ms`: as a journal has it."""
        numbers: dict[str, int | float] = {"macs": self.macs, "params": self.params}
        if self.latency_us is not None:
            numbers["latency_ms"] = self.latency_us / 1000
        return numbers


@dataclass(frozen=True)
class CostTable:
    """The cost of every architecture of one space at one resolution, as a sum over its blocks."""

    space: str
    resolution: int
    """Height and width of the image, in pixels."""
    base: Cost
    """The architecture of zeros."""
    blocks: tuple[tuple[Cost, ...], ...]
    """For each block and op, the difference to op 0."""
    last_feature: tuple[int, int, int]
    """(C, H, W) of the last stage, which a classifier builds on."""
    classifier_channels: int | None
    """Channels of the classifier's last convolution; None where the linear layer follows the trunk."""

    def cost(self, arch: Architecture | Sequence[int]) -> Cost:
        """Backbone convention, looked up in microseconds.

        Bare ops are trusted to fit; an `Architecture` of another space raises `ArchitectureError`.
        """
        ops = arch
        if isinstance(arch, Architecture):
            if arch.space != self.space:
                raise ArchitectureError(
                    f"architecture {arch} is of space {arch.space!r}; the costs are those of {self.space!r}"
                )
            ops = arch.ops
        macs, params = self.base.macs, self.base.params
        for differences, op in zip(self.blocks, ops, strict=True):
            macs += differences[op].macs
            params += differences[op].params
        if self.base.latency_us is None:
            return Cost(macs, params)
        of_blocks = (differences[op].latency_us for differences, op in zip(self.blocks, ops, strict=True))
        return Cost(macs, params, self.base.latency_us + sum(of_blocks))

    def costs(self, ops: "np.ndarray") -> "np.ndarray":
        """`cost` of many architectures at once: ops (N, blocks) give MACs and parameters, (N, 2) int64.

        With latency, (N, 3), its microseconds last. Ops are trusted to fit, as there.
        """
        import numpy as np

        totals = np.tile(np.array(_numbers(self.base), dtype=np.int64), (len(ops), 1))
        for differences, of_block in zip(self._differences, ops.T, strict=True):
            totals += differences.take(of_block, axis=0)
        return totals

    @cached_property
    def _differences(self) -> "list[np.ndarray]":
        """`blocks` as one (ops, 2) or (ops, 3) a block."""
        import numpy as np

        return [np.array([_numbers(cost) for cost in row], dtype=np.int64) for row in self.blocks]

    def with_latency(self, latency: "LatencyTable") -> "CostTable":
        """This table with latencies, measured for the same space."""
        base = latency.rest_us + sum(row[0] for row in latency.blocks_us)
        return replace(
            self,
            base=replace(self.base, latency_us=base),
            blocks=tuple(
                tuple(
                    replace(cost, latency_us=us - of_block[0]) for cost, us in zip(row, of_block, strict=True)
                )
                for row, of_block in zip(self.blocks, latency.blocks_us, strict=True)
            ),
        )

    def classifier_cost(self, arch: Architecture | Sequence[int], num_classes: int = 1000) -> Cost:
        """Classifier convention: with the last convolution, its batch normalisation and the linear layer."""
        channels, height, width = self.last_feature
        cost, hidden = self.cost(arch), self.classifier_channels
        if hidden is not None:
            weights = channels * hidden
            # A bias, γ and β a channel.
            cost, channels = cost + Cost(weights * height * width, weights + 3 * hidden), hidden
        linear = channels * num_classes
        return cost + Cost(linear, linear + num_classes)


def _numbers(cost: Cost) -> tuple[int, ...]:
    return (cost.macs, cost.params, *(() if cost.latency_us is None else (cost.latency_us,)))


@lru_cache(maxsize=32)
def cost_table(space: str, resolution: int = SHIPPED_RESOLUTION) -> CostTable:
    """The table of a space for square images; made once in a process.

    Raises `UsageError` for a resolution below 1, and `SpaceError` for a space that cannot be built or whose
    costs do not add up over its blocks.
    """
    if resolution < 1:
        raise UsageError(f"resolution {resolution}: expected the side of an image in pixels, at least 1")
    numbers = costs(space, resolution)
    return CostTable(
        space=space,
        resolution=resolution,
        base=Cost(*numbers["base"]),
        blocks=tuple(tuple(Cost(*pair) for pair in of_block) for of_block in numbers["blocks"]),
        last_feature=tuple(numbers["last_feature"]),
        classifier_channels=numbers["classifier_channels"],
    )


def counts(
    arch: Architecture, resolution: int = SHIPPED_RESOLUTION, latency: "LatencyTable | None" = None
) -> dict[str, int | float]:
    """The numbers of `detnas count`: MACs and parameters in both conventions, ImageNet's 1000 classes.

    With a latency table of the architecture's space also `latency_ms`, the backbone's.
    """
    table = cost_table(arch.space, resolution)
    backbone, classifier = table.cost(arch), table.classifier_cost(arch)
    numbers: dict[str, int | float] = {
        "backbone_macs": backbone.macs,
        "classifier_macs": classifier.macs,
        "backbone_params": backbone.params,
        "classifier_params": classifier.params,
    }
    if latency is not None:
        numbers["latency_ms"] = latency.predict(arch.ops) / 1000
    return numbers


@dataclass(frozen=True)
class Constraint:
    """The most that an architecture may cost, limits included, backbone convention; None is no limit."""

    max_macs: int | None = None
    max_params: int | None = None
    max_latency_ms: float | None = None

    def satisfied(self, cost: Cost) -> bool:
        """Whether the cost is within every limit; a limit on a latency that nobody measured is not kept."""
        for limit, number in zip(self.limits, (cost.macs, cost.params, cost.latency_us), strict=True):
            if limit is not None and (number is None or number > limit):
                return False
        return True

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

    `SuffixFronts` know of any beginning of an architecture whether it can be completed within the limits.
    Raises `ConstraintError` for a limit on the latency where the table has none.
    """

    # Uniform draws before the search by depth, 200 in all. The paper's 300M limit takes 1.5 on average, which
    # is faster one by one; a tight one takes them many at a time.
    _SINGLE_DRAWS = 4
    _DRAWS_AHEAD = (32, 164)

    def __init__(self, table: CostTable, constraint: Constraint) -> None:
        if constraint.max_latency_ms is not None and table.base.latency_us is None:
            raise ConstraintError(
                f"{constraint}: the latencies of space {table.space!r} are not known; measure them by "
                "`detnas latency` and name the file as search.constraint.latency_table"
            )
        self.table = table
        self.constraint = constraint
        self._sizes = [len(differences) for differences in table.blocks]
        # Costs without a limit are no matter.
        self._axes = [axis for axis, limit in enumerate(constraint.limits) if limit is not None]
        self._limits = [limit for limit in constraint.limits if limit is not None]
        self._base = self._limited(table.base)
        self._blocks = [[self._limited(cost) for cost in row] for row in table.blocks]
        # The same by cost, each a limit, the base and for each block the number of each op: quick to add up.
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
        """Raise `ConstraintError`, naming the limits and the least that can be had, if it is empty."""
        if self.is_empty:
            least = self.least()
            latency = (
                "" if least.latency_us is None else f", the least latency {least.latency_us / 1000:g} ms"
            )
            raise ConstraintError(
                f"no architecture of space {self.table.space!r} meets {self.constraint}: the least MACs are "
                f"{least.macs:,} and the least parameters {least.params:,} "
                f"(backbone, {self.table.resolution}x{self.table.resolution}){latency}; raise the limit"
            )

    def least(self) -> Cost:
        """The least of each cost that an architecture of the space can have, each by itself."""
        of_blocks = (map(min, zip(*map(_numbers, row), strict=True)) for row in self.table.blocks)
        return Cost(*map(sum, zip(_numbers(self.table.base), *of_blocks, strict=True)))

    def contains(self, ops: Sequence[int]) -> bool:
        """Whether the architecture of these ops meets the constraint."""
        for limit, total, blocks in self._sums:
            for of_block, op in zip(blocks, ops, strict=True):
                total += of_block[op]
            if total > limit:
                return False
        return True

    def mask(self, ops: "np.ndarray") -> "np.ndarray":
        """`contains` of many architectures at once: ops (N, blocks) give (N,) bool."""
        import numpy as np

        totals = self.table.costs(ops)
        # A limit may be beyond what int64 holds.
        met = [totals[:, axis] <= float(limit) for axis, limit in zip(self._axes, self._limits, strict=True)]
        return np.logical_and.reduce(met) if met else np.ones(len(ops), dtype=bool)

    def random_unseen(self, rng: "np.random.Generator", seen: Set[tuple[int, ...]]) -> tuple[int, ...] | None:
        """Draw ops that meet the constraint and are not in `seen`; None exactly when there are none left.

        Uniform by rejection while that succeeds; where the constraint is tight or nearly all is seen, by a
        search in random order that walks into no dead end. It always ends.
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
        self, rng: "np.random.Generator", seen: Set[tuple[int, ...]], draws: int
    ) -> tuple[int, ...] | None:
        """Draw and leave `rng` as drawing one by one would, in a tenth of the time."""
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
        self, rng: "np.random.Generator", seen: Set[tuple[int, ...]], begun: tuple[int, ...], spent: Vector
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
        numbers = _numbers(cost)
        return tuple(numbers[axis] for axis in self._axes)
