"""Trunks of ordinary PyTorch, whose MACs are worked out by hand in the tests: named as "ordinary:grouped"."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn
from torchvision.ops import DeformConv2d


class Standardised(nn.Conv2d):
    """A convolution that normalises its weights."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / (weight.std() + 1e-5), self.bias, self.stride, self.padding)


class Reflected(nn.Module):
    """A convolution by function, with its padding by function."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8, kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (self.weight.shape[-1] // 2,) * 4, mode="reflect"), self.weight)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.small(x), self.large(x)], dim=1)


class Attention(nn.Module):
    def __init__(self, need_weights: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        y, _ = self.attention(tokens, tokens, tokens, need_weights=self.need_weights)
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class Twice(nn.Module):
    """One convolution that runs two times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset, self.conv = nn.Conv2d(8, 18, 3, padding=1), DeformConv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, self.offset(x))


class Angled(nn.Module):
    """Computes what ONNX has no operator for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class OrdinaryTrunk(nn.Module):
    """A stem of stride 2, a block of stride 1 at 8 channels, a block of stride 2."""

    def __init__(self, candidates: list[nn.Module], labels: tuple[str | None, str | None]) -> None:
        super().__init__()
        self.out_channels = OrderedDict(low=8, high=16)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.low = LayerChoice([nn.Conv2d(8, 8, 3, padding=1), *candidates], label=labels[0])
        self.high = LayerChoice([nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(8, 16, 1, 2)], label=labels[1])

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        low = self.low(self.stem(x))
        return OrderedDict(low=low, high=self.high(low))


def _of(*candidates: nn.Module, labels: tuple[str | None, str | None] = ("low", "high")) -> nn.Module:
    return OrdinaryTrunk(list(candidates), labels)


def subclassed() -> nn.Module:
    return _of(Standardised(8, 8, 3, padding=1))


def functional() -> nn.Module:
    return _of(Reflected(5))


def concatenated() -> nn.Module:
    return _of(Inception())


def grouped() -> nn.Module:
    return _of(nn.Conv2d(8, 8, 3, padding=1, groups=4))


def attention() -> nn.Module:
    return _of(Attention())


def attention_with_weights() -> nn.Module:
    return _of(Attention(need_weights=True))


def twice() -> nn.Module:
    return _of(Twice())


def deformable() -> nn.Module:
    return _of(Deformable())


def angled() -> nn.Module:
    return _of(Angled())


def wider() -> nn.Module:
    return _of(nn.Conv2d(8, 12, 3, padding=1))


def failing() -> nn.Module:
    return _of(nn.Conv2d(9, 8, 3, padding=1))


def unlabelled() -> nn.Module:
    return _of(nn.Identity(), labels=("low", None))


def one_label_for_two() -> nn.Module:
    return _of(nn.Identity(), labels=("block", "block"))


def one_label_for_more() -> nn.Module:
    return _of(nn.Identity(), nn.Identity(), labels=("block", "block"))


def one_label_for_other_names() -> nn.Module:
    trunk = _of(nn.Identity(), labels=("block", "other"))
    trunk.high = LayerChoice({"named": nn.Conv2d(8, 16, 1, 2)}, label="block")
    return trunk


def failing_at_once() -> nn.Module:
    trunk = _of(nn.Identity())
    trunk.stem = nn.Conv2d(4, 8, 3, 2, 1)
    return trunk
