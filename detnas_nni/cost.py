"""What an architecture costs, MACs and parameters, from an additive table; and which ones meet a constraint.

MACs are multiply-adds of convolutions (and fully connected layers) for one image; neither batch
normalisation, bias nor activation counts. Two conventions, as in the authors' release:
- *backbone*: stem and blocks. A search limit is in this convention.
- *classifier*: with the last convolution 1x1, where the classifier has one, and the fully connected layer.
Parameters count biases and the γ and β of batch normalisation.
"""

import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from detnas_nni.architecture import Architecture
from detnas_nni.errors import ArchitectureError, ConstraintError, UsageError
from search_spaces import SHIPPED_RESOLUTION, costs

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one image, and parameters."""

    macs: int
    params: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.macs + other.macs, self.params + other.params)


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
        return Cost(macs, params)

    def costs(self, ops: "np.ndarray") -> "np.ndarray":
        """`cost` of many architectures at once: ops (N, blocks) give MACs and parameters, (N, 2) int64.

        Ops are trusted to fit, as there.
        """
        import numpy as np

        totals = np.tile(np.array([self.base.macs, self.base.params], dtype=np.int64), (len(ops), 1))
        for differences, of_block in zip(self._differences, ops.T, strict=True):
            totals += differences.take(of_block, axis=0)
        return totals

    @cached_property
    def _differences(self) -> "list[np.ndarray]":
        """`blocks` as one (ops, 2) a block."""
        import numpy as np

        return [np.array([(c.macs, c.params) for c in row], dtype=np.int64) for row in self.blocks]

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


def counts(arch: Architecture, resolution: int = SHIPPED_RESOLUTION) -> dict[str, int]:
    """The numbers of `detnas count`: MACs and parameters in both conventions, ImageNet's 1000 classes."""
    table = cost_table(arch.space, resolution)
    backbone, classifier = table.cost(arch), table.classifier_cost(arch)
    return {
        "backbone_macs": backbone.macs,
        "classifier_macs": classifier.macs,
        "backbone_params": backbone.params,
        "classifier_params": classifier.params,
    }


@dataclass(frozen=True)
class Constraint:
    """The most that an architecture may cost, limits included, backbone convention; None is no limit."""

    max_macs: int | None = None
    max_params: int | None = None

    def satisfied(self, cost: Cost) -> bool:
        """Whether the cost is within both limits."""
        return (self.max_macs is None or cost.macs <= self.max_macs) and (
            self.max_params is None or cost.params <= self.max_params
        )

    def __str__(self) -> str:
        limits = [f"MACs <= {self.max_macs:,}"] if self.max_macs is not None else []
        limits += [f"parameters <= {self.max_params:,}"] if self.max_params is not None else []
        return " and ".join(limits) or "no limit"


class FeasibleSet:
    """The architectures of a space that meet a constraint, exactly, without listing them.

    For each block it keeps the Pareto front of what the blocks from there on can cost at the least, so that
    it knows of any beginning of an architecture whether it can be completed within the limits.
    """

    # Uniform draws before the search by depth, 200 in all. The paper's 300M limit takes 1.5 on average, which
    # is faster one by one; a tight one takes them many at a time.
    _SINGLE_DRAWS = 4
    _DRAWS_AHEAD = (32, 164)

    def __init__(self, table: CostTable, constraint: Constraint) -> None:
        self.table = table
        self.constraint = constraint
        self._sizes = [len(differences) for differences in table.blocks]
        limits = (constraint.max_macs, constraint.max_params)
        self._limits = [math.inf if limit is None else float(limit) for limit in limits]
        self._fronts = self._suffix_fronts()

    @property
    def is_empty(self) -> bool:
        """Whether no architecture meets the constraint."""
        return not self._can_complete(0, self.table.base)

    def raise_if_empty(self) -> None:
        """Raise `ConstraintError`, naming the limits and the least that can be had, if it is empty."""
        if self.is_empty:
            least = self._least(self.table.blocks) + self.table.base
            raise ConstraintError(
                f"no architecture of space {self.table.space!r} meets {self.constraint}: the least MACs are "
                f"{least.macs:,} and the least parameters {least.params:,} "
                f"(backbone, {self.table.resolution}x{self.table.resolution}); raise the limit"
            )

    def contains(self, ops: Sequence[int]) -> bool:
        """Whether the architecture of these ops meets the constraint."""
        return self.constraint.satisfied(self.table.cost(ops))

    def mask(self, ops: "np.ndarray") -> "np.ndarray":
        """`contains` of many architectures at once: ops (N, blocks) give (N,) bool."""
        return (self.table.costs(ops) <= self._limits).all(axis=1)

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
        return self._search(rng, seen, (), self.table.base)

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
        self, rng: "np.random.Generator", seen: Set[tuple[int, ...]], begun: tuple[int, ...], cost: Cost
    ) -> tuple[int, ...] | None:
        if len(begun) == len(self._sizes):
            return None if begun in seen else begun
        for op in rng.permutation(self._sizes[len(begun)]).tolist():
            longer, its_cost = (*begun, op), cost + self.table.blocks[len(begun)][op]
            if self._can_complete(len(longer), its_cost):
                found = self._search(rng, seen, longer, its_cost)
                if found is not None:
                    return found
        return None

    def _can_complete(self, block: int, cost: Cost) -> bool:
        """Whether the blocks from this one on can be chosen so that all is within the limits."""
        most_macs, most_params = self._limits
        return any(
            cost.macs + rest.macs <= most_macs and cost.params + rest.params <= most_params
            for rest in self._fronts[block]
        )

    def _suffix_fronts(self) -> list[list[Cost]]:
        """For each block, and for the end, the Pareto-minimal costs of the blocks from there on."""
        fronts = [[Cost(0, 0)]]
        for index in reversed(range(len(self._sizes))):
            before = self.table.base + self._least(self.table.blocks[:index])
            sums = (here + rest for here in self.table.blocks[index] for rest in fronts[0])
            # What is over a limit even after the cheapest beginning needs no place in a front.
            fronts.insert(0, self._pareto(s for s in sums if self.constraint.satisfied(before + s)))
        return fronts

    def _pareto(self, costs: Iterable[Cost]) -> list[Cost]:
        # A cost without a limit is no matter, and must not make the fronts long.
        macs_matter = self.constraint.max_macs is not None
        params_matter = self.constraint.max_params is not None
        front: list[Cost] = []
        for cost in sorted(costs, key=lambda c: (c.macs * macs_matter, c.params * params_matter)):
            if not front or (params_matter and cost.params < front[-1].params):
                front.append(cost)
        return front

    @staticmethod
    def _least(blocks: Iterable[Iterable[Cost]]) -> Cost:
        """The least MACs and the least parameters of these blocks, each by itself."""
        rows = [list(differences) for differences in blocks]
        return Cost(
            sum(min(c.macs for c in row) for row in rows), sum(min(c.params for c in row) for row in rows)
        )
