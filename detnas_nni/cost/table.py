"""What an architecture costs, from an additive table, block by block.

Costs are MACs, parameters and, with a table that `detnas latency` has measured, latency.

MACs are multiply-adds of convolutions (and fully connected layers) for one image; neither batch
normalisation, bias nor activation counts. Two conventions, as in the authors' release:
- *backbone*: stem and blocks. A search limit is in this convention.
- *classifier*: with the last convolution 1x1, if the classifier has one, and the fully connected layer.
Parameters count biases and the γ and β of batch normalisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from detnas_nni.architecture import Architecture
from detnas_nni.errors import ArchitectureError, UsageError
from search_spaces import SHIPPED_RESOLUTION, costs

if TYPE_CHECKING:
    import numpy as np

    from detnas_nni.cost.latency_table import LatencyTable


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one image, parameters, and latency if it was measured."""

    macs: int
    params: int
    latency_us: int | None = None
    """predicted, in microseconds, for a batch as in the latency table"""

    def __add__(self, other: "Cost") -> "Cost":
        latency = None
        if self.latency_us is not None and other.latency_us is not None:
            latency = self.latency_us + other.latency_us
        return Cost(self.macs + other.macs, self.params + other.params, latency)

    @property
    def numbers(self) -> tuple[int, ...]:
        """MACs, parameters and, if it was measured, latency."""
        return (self.macs, self.params, *(() if self.latency_us is None else (self.latency_us,)))

    def to_dict(self) -> dict[str, int | float]:
        """`macs`, `params` and, if it was measured, `latency_ms`, as in a journal."""
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
    """(C, H, W) of the last stage, which a classifier uses."""
    classifier_channels: int | None
    """Channels of the classifier's last convolution; None if the linear layer follows the trunk directly."""
    classifier_conv_params: int | None = None
    """Parameters of that convolution with its BN, if the trunk brings it."""

    def cost(self, arch: Architecture | Sequence[int]) -> Cost:
        """Backbone convention, looked up in microseconds.

        Bare ops are assumed to fit; an `Architecture` of another space raises `ArchitectureError`.
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

        With latency, (N, 3), its microseconds last. Ops are assumed to fit, as there.
        """
        import numpy as np

        totals = np.tile(np.array(self.base.numbers, dtype=np.int64), (len(ops), 1))
        for differences, of_block in zip(self._differences, ops.T, strict=True):
            totals += differences.take(of_block, axis=0)
        return totals

    @cached_property
    def _differences(self) -> "list[np.ndarray]":
        """`blocks` as one array (ops, 2) or (ops, 3) per block."""
        import numpy as np

        return [np.array([cost.numbers for cost in row], dtype=np.int64) for row in self.blocks]

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
            # A bias, γ and β per channel, unless the trunk brings its own.
            params = self.classifier_conv_params or weights + 3 * hidden
            cost, channels = cost + Cost(weights * height * width, params), hidden
        linear = channels * num_classes
        return cost + Cost(linear, linear + num_classes)


@lru_cache(maxsize=32)
def cost_table(space: str, resolution: int = SHIPPED_RESOLUTION) -> CostTable:
    """The table of a space for square images; made once per process.

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
        classifier_conv_params=numbers.get("classifier_conv_params"),
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
