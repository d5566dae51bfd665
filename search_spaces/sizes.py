"""The built-in spaces by name: the sizes of the ShuffleNetV2 space as plain numbers, and the fixed nets.

Nothing here imports torch or NNI (seconds of start-up), so that what needs the layout of a space alone,
such as reading an architecture file or `detnas --help`, stays fast.

Source: the authors' code, megvii-model/DetNAS (small, large) and megvii-model/ShuffleNet-Series (3.8g).
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

CANDIDATES = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
"""The four candidates of a block; an op is an index into this tuple."""

STAGES = ("stage1", "stage2", "stage3", "stage4")
"""The names of the features that a built-in trunk gives, at strides 4, 8, 16 and 32."""


class Choice(NamedTuple):
    """One decision of a space: its NNI label, and the candidates in op order.

    Candidates are names; a foreign space that gives NNI a *list* of candidates has the integers 0, 1, …
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
        """One choice a block, in the order in which the blocks run."""
        return tuple(Choice(block_label(index), CANDIDATES) for index in range(sum(self.blocks)))


def block_label(index: int) -> str:
    """The NNI label of the block of that index, counted from 0 over all stages."""
    return f"layer_{index:02d}"


SIZES = MappingProxyType(
    {
        # For a CPU and images of about 100 pixels; ours, in the proportions of the authors' sizes.
        "tiny": Size(stem=8, channels=(24, 48, 96, 192), blocks=(2, 2, 3, 2), classifier=256),
        "small": Size(stem=16, channels=(64, 160, 320, 640), blocks=(4, 4, 8, 4), classifier=1024),
        "large": Size(stem=48, channels=(96, 240, 480, 960), blocks=(8, 8, 16, 8), classifier=1024),
        "3.8g": Size(stem=72, channels=(172, 432, 864, 1728), blocks=(8, 8, 16, 8), classifier=1728),
    }
)

FIXED = ("resnet50", "resnet101")
"""Hand-crafted nets to compare with, as spaces of one architecture: no block, nothing to choose."""

BUILT_IN = (*SIZES, *FIXED)
"""Every space that has a name of its own."""
