"""The four choice blocks of DetNAS and the two channel shuffles, block for block as the authors' code.

Convolutions here have no bias, and each is followed by a batch normalisation. The order of the convolutions
inside `main` and `projection` is the authors', so that their weights can be loaded in order.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces.errors import SpaceError
from search_spaces.sizes import CANDIDATES

__all__ = ["CANDIDATES", "SHUFFLES", "ChoiceBlock", "make_block", "split_even_odd", "split_interleave"]


def split_interleave(x: Tensor) -> tuple[Tensor, Tensor]:
    """Interleave the two halves of the channels (c0, c_{C/2}, c1, …), then cut that order in the middle.

    The authors' supernet code does this. `x` is (N, C, H, W) with C even; gives two (N, C/2, H, W).
    """
    n, c, h, w = x.shape
    # Only reshape, permute and select: NNI's FlopsProfiler has no shape formula for transpose or chunk.
    x = x.reshape(n, 2, c // 2, h, w).permute(0, 2, 1, 3, 4).reshape(n, 2, c // 2, h, w)
    return x.select(1, 0), x.select(1, 1)


def split_even_odd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Take the even channels as the first half and the odd ones as the second.

    The authors' released single nets do this. `x` is (N, C, H, W) with C even; gives two (N, C/2, H, W).
    """
    n, c, h, w = x.shape
    x = x.reshape(n, c // 2, 2, h, w)
    return x.select(2, 0), x.select(2, 1)


SHUFFLES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "interleave": split_interleave,
    "even_odd": split_even_odd,
}
"""The channel shuffles by name. Weights trained with one give noise with the other."""


def _pointwise(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def _depthwise(channels: int, kernel_size: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(
            channels, channels, kernel_size, stride, padding=kernel_size // 2, groups=channels, bias=False
        ),
        nn.BatchNorm2d(channels),
    ]


def _shufflenet_branch(in_channels: int, mid: int, out: int, stride: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        *_pointwise(in_channels, mid), *_depthwise(mid, kernel_size, stride), *_pointwise(mid, out)
    )


def _xception_branch(in_channels: int, mid: int, out: int, stride: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        *_depthwise(in_channels, kernel_size, stride),
        *_pointwise(in_channels, mid),
        *_depthwise(mid, kernel_size),
        *_pointwise(mid, mid),
        *_depthwise(mid, kernel_size),
        *_pointwise(mid, out),
    )


_BRANCHES = {
    "shufflenet_3x3": (_shufflenet_branch, 3),
    "shufflenet_5x5": (_shufflenet_branch, 5),
    "shufflenet_7x7": (_shufflenet_branch, 7),
    "xception_3x3": (_xception_branch, 3),
}


class ChoiceBlock(nn.Module):
    """One candidate of one block: (N, in, H, W) to (N, out, H / stride, W / stride), sizes rounded up.

    Stride 1 shuffles and splits its input; the first half passes unchanged. Stride 2 does not: both branches
    see the whole input, the projection gives `in` channels and the main branch `out - in`.
    """

    def __init__(
        self, candidate: str, in_channels: int, out_channels: int, stride: int, shuffle: str = "interleave"
    ) -> None:
        super().__init__()
        if candidate not in _BRANCHES:
            raise SpaceError(f"unknown candidate {candidate!r}; known: {', '.join(CANDIDATES)}")
        if shuffle not in SHUFFLES:
            raise SpaceError(f"unknown channel shuffle {shuffle!r}; known: {', '.join(SHUFFLES)}")
        if stride not in (1, 2):
            raise SpaceError(f"stride {stride} of a block is neither 1 nor 2")
        if stride == 1 and (in_channels != out_channels or in_channels % 2):
            raise SpaceError(
                f"a block of stride 1 keeps an even number of channels, not {in_channels} -> {out_channels}"
            )
        if stride == 2 and out_channels <= in_channels:
            raise SpaceError(
                f"a block of stride 2 has to add channels, not turn {in_channels} to {out_channels}"
            )
        self.shuffle = shuffle
        self.stride = stride
        branch, kernel_size = _BRANCHES[candidate]
        # The paper's blocks have a middle width of half the block's output, in either stride.
        mid = out_channels // 2
        if stride == 1:
            self.projection = None
            self.main = branch(in_channels // 2, mid, out_channels // 2, stride, kernel_size)
        else:
            self.projection = nn.Sequential(
                *_depthwise(in_channels, kernel_size, stride), *_pointwise(in_channels, in_channels)
            )
            self.main = branch(in_channels, mid, out_channels - in_channels, stride, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, ceil(H / stride), ceil(W / stride))."""
        if self.projection is None:
            passed, x = SHUFFLES[self.shuffle](x)
        else:
            passed = self.projection(x)
        return torch.cat((passed, self.main(x)), dim=1)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, shuffle={self.shuffle!r}"


def make_block(
    candidate: str, in_channels: int, out_channels: int, stride: int, shuffle: str = "interleave"
) -> ChoiceBlock:
    """The block with that candidate name; raises `SpaceError` for an impossible name or width."""
    return ChoiceBlock(candidate, in_channels, out_channels, stride, shuffle)
