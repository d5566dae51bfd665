"""The built-in spaces by name: the sizes of the two searched families as plain numbers, and the fixed nets.

Nothing here imports torch or NNI (seconds of start-up), so that what needs only the layout of a space,
such as reading an architecture file or `detnas --help`, stays fast.

Sources: the authors' code, megvii-model/DetNAS (small, large) and megvii-model/ShuffleNet-Series (3.8g);
EfficientNet-Lite in TensorFlow's tpu repository (lite0, lite1, lite2).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

CANDIDATES = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
"""The four candidates of a block; an op is an index into this tuple."""

STAGES = ("stage1", "stage2", "stage3", "stage4")
"""The names of the features that a built-in trunk gives, at strides 4, 8, 16 and 32."""


class Choice(NamedTuple):
    """One decision of a space: its NNI label, and the candidates in op order.

    Candidates are names, or integers 0, 1, … for a foreign space that gives NNI a *list* of candidates.
    """

    label: str
    candidates: tuple[str | int, ...]


@dataclass(frozen=True)
class Size:
    """Widths and depths of one built-in space; the first block of each stage has stride 2."""

    stem: int
    """Channels of the stem, a convolution 3x3 of stride 2."""
    channels: tuple[int, int, int, int]
    """Channels of each stage's output."""
    blocks: tuple[int, int, int, int]
    """Choice blocks of each stage."""
    classifier: int
    """Channels of the convolution 1x1 between the trunk and the classifier's fully connected layer."""

    @property
    def layout(self) -> tuple[Choice, ...]:
        """One choice per block, in the order in which the blocks run."""
        return tuple(Choice(block_label(index), CANDIDATES) for index in range(sum(self.blocks)))


def block_label(index: int) -> str:
    """The NNI label of the block with that index, counted from 0 over all stages."""
    return f"layer_{index:02d}"


SIZES = MappingProxyType(
    {
        # For a CPU and images of about 100 pixels; our own, in the proportions of the authors' sizes.
        "tiny": Size(stem=8, channels=(24, 48, 96, 192), blocks=(2, 2, 3, 2), classifier=256),
        "small": Size(stem=16, channels=(64, 160, 320, 640), blocks=(4, 4, 8, 4), classifier=1024),
        "large": Size(stem=48, channels=(96, 240, 480, 960), blocks=(8, 8, 16, 8), classifier=1024),
        "3.8g": Size(stem=72, channels=(172, 432, 864, 1728), blocks=(8, 8, 16, 8), classifier=1728),
    }
)

LITE_CANDIDATES = ("mbconv_3x3", "mbconv_5x5", "mbconv_7x7", "mbconv_3x3_half", "skip")
"""The candidates of a block of the lite family; `skip` if a block keeps resolution and width."""


class LiteBlock(NamedTuple):
    """An inverted residual as published; a path chooses its variant."""

    stage: str
    kernel: int
    stride: int
    in_channels: int
    out_channels: int

    @property
    def candidates(self) -> tuple[str, ...]:
        keeps = self.stride == 1 and self.in_channels == self.out_channels
        return LITE_CANDIDATES if keeps else LITE_CANDIDATES[:-1]

    @property
    def published_op(self) -> int:
        """The op that is the published block."""
        return LITE_CANDIDATES.index(f"mbconv_{self.kernel}x{self.kernel}")


_LITE_STEM = 32
_LITE_EXPANSION = 6
# Repeats, kernel, stride, channels and stage of the blocks of EfficientNet-B0, which the others scale; the
# first one, with expansion 1, is not a choice.
_LITE_FIRST = 16
_LITE_STAGES = (
    (2, 3, 2, 24, "stage1"),
    (2, 5, 2, 40, "stage2"),
    (3, 3, 2, 80, "stage3"),
    (3, 5, 1, 112, "stage3"),
    (4, 5, 2, 192, "stage4"),
    (1, 3, 1, 320, "stage4"),
)


@dataclass(frozen=True)
class LiteSize:
    """One EfficientNet-Lite: EfficientNet-B0's blocks, with one factor for width and one for depth.

    Unlike EfficientNet, Lite scales neither the stem and the classifier's convolution nor the repeats of the
    first and the last block.
    """

    width: float
    depth: float
    stem: int = _LITE_STEM
    classifier: int = 1280
    expansion: int = _LITE_EXPANSION

    @property
    def first(self) -> int:
        """Channels of the first block's output."""
        return self._channels(_LITE_FIRST)

    @property
    def blocks(self) -> tuple[LiteBlock, ...]:
        """The blocks that are choices, in the order in which they run."""
        blocks, before = [], self.first
        for repeats, kernel, stride, channels, stage in _LITE_STAGES:
            out = self._channels(channels)
            is_last = (channels, stage) == _LITE_STAGES[-1][-2:]
            for number in range(repeats if is_last else math.ceil(self.depth * repeats)):
                blocks.append(LiteBlock(stage, kernel, stride if number == 0 else 1, before, out))
                before = out
        return tuple(blocks)

    @property
    def channels(self) -> dict[str, int]:
        """Channels of each stage's output."""
        return {block.stage: block.out_channels for block in self.blocks}

    @property
    def layout(self) -> tuple[Choice, ...]:
        """One choice per block, in the order in which the blocks run."""
        return tuple(Choice(block_label(i), block.candidates) for i, block in enumerate(self.blocks))

    @property
    def published_ops(self) -> tuple[int, ...]:
        """The path that is the published net."""
        return tuple(block.published_op for block in self.blocks)

    def _channels(self, channels: int) -> int:
        """Scaled, and rounded to a multiple of 8 that is at most a tenth smaller."""
        scaled = self.width * channels
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded


LITE = MappingProxyType(
    {
        "lite0": LiteSize(width=1.0, depth=1.0),
        "lite1": LiteSize(width=1.0, depth=1.1),
        "lite2": LiteSize(width=1.1, depth=1.2),
    }
)

SEARCHED: Mapping[str, Size | LiteSize] = MappingProxyType({**SIZES, **LITE})
"""The built-in spaces in which there is something to choose."""

FIXED = ("resnet50", "resnet101")
"""Hand-crafted nets to compare with, as spaces of one architecture: no block, nothing to choose."""

BUILT_IN = (*SEARCHED, *FIXED)
"""Every space with a name."""
