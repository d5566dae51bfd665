"""The authors' nets once more, in plain functions written from their description, to compare ours with.

Widths and depths are those of megvii-model/DetNAS (small, large) and megvii-model/ShuffleNet-Series (3.8g).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NETS = {
    "small": (16, ((64, 4), (160, 4), (320, 8), (640, 4))),
    "large": (48, ((96, 8), (240, 8), (480, 16), (960, 8))),
    "3.8g": (72, ((172, 8), (432, 8), (864, 16), (1728, 8))),
}
"""Channels of the stem, then channels and blocks of each stage."""


def split(x: Tensor, shuffle: str) -> tuple[Tensor, Tensor]:
    """The two shuffles by explicit lists of channels."""
    channels = x.shape[1]
    half = channels // 2
    if shuffle == "even_odd":
        return x[:, list(range(0, channels, 2))], x[:, list(range(1, channels, 2))]
    order = [channel for pair in zip(range(half), range(half, channels), strict=True) for channel in pair]
    return x[:, order[:half]], x[:, order[half:]]


def trunk(
    state: Mapping[str, Tensor], space: str, ops: Sequence[int], x: Tensor, shuffle: str
) -> list[Tensor]:
    """The four stages' outputs in eval mode, for the state dict of one of our fixed nets.

    Fails if a convolution has another shape than the authors', or a layer is missing or left over.
    """
    stem, stages = NETS[space]
    layers = Layers(state, "stem.")
    x = layers.convolve(x, stem, kernel=3, stride=2, bias=True)
    used, features, number = layers.used(), [], 0
    for stage, (channels, blocks) in enumerate(stages, 1):
        for block in range(blocks):
            prefix = f"stages.stage{stage}.{block}."
            projection, main = Layers(state, f"{prefix}projection."), Layers(state, f"{prefix}main.")
            x = _block(projection, main, ops[number], x, channels, reduce=block == 0, shuffle=shuffle)
            used += projection.used() + main.used()
            number += 1
        features.append(x)
    assert number == len(ops)
    assert used == sum(not name.endswith("num_batches_tracked") for name in state)
    return features


class Layers:
    """The tensors under a prefix, taken one layer after the other."""

    def __init__(self, state: Mapping[str, Tensor], prefix: str) -> None:
        names = [name for name in state if name.startswith(prefix)]
        self._tensors = [state[name] for name in names if not name.endswith("num_batches_tracked")]
        self._taken = 0

    def used(self) -> int:
        """How many there were; all have to be taken."""
        assert self._taken == len(self._tensors)
        return self._taken

    def convolve(
        self,
        x: Tensor,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
    ) -> Tensor:
        """A convolution and its batch normalisation; a ReLU unless it is depthwise."""
        groups = x.shape[1] if depthwise else 1
        weight = self._take()
        assert weight.shape == (out, x.shape[1] // groups, kernel, kernel)
        x = F.conv2d(x, weight, self._take() if bias else None, stride, kernel // 2, groups=groups)
        gamma, beta, mean, variance = (self._take() for _ in range(4))
        x = F.batch_norm(x, mean, variance, gamma, beta)
        return x if depthwise else F.relu(x)

    def _take(self) -> Tensor:
        self._taken += 1
        return self._tensors[self._taken - 1]


def _block(
    projection: Layers, main: Layers, op: int, x: Tensor, channels: int, reduce: bool, shuffle: str
) -> Tensor:
    kernel, mid, inputs = (3, 5, 7, 3)[op], channels // 2, x.shape[1]
    if reduce:
        stride, out = 2, channels - inputs
        passed = projection.convolve(x, inputs, kernel, stride=2, depthwise=True)
        passed = projection.convolve(passed, inputs)
    else:
        stride, out = 1, channels // 2
        passed, x = split(x, shuffle)
    if op == 3:
        for width, its_stride in ((mid, stride), (mid, 1), (out, 1)):
            x = main.convolve(x, x.shape[1], kernel=3, stride=its_stride, depthwise=True)
            x = main.convolve(x, width)
    else:
        x = main.convolve(x, mid)
        x = main.convolve(x, mid, kernel, stride, depthwise=True)
        x = main.convolve(x, out)
    return torch.cat((passed, x), dim=1)
