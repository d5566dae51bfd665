"""Trunks that are not ours, for the tests: named as "foreign:mobile" and so on."""

from collections import OrderedDict

from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn


def separable(channels: int, out: int, kernel_size: int) -> nn.Sequential:
    """A MobileNet block: depthwise and pointwise, stride 2."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size, 2, kernel_size // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
        nn.Conv2d(channels, out, 1),
    )


class MobileTrunk(nn.Module):
    """Two stages, each a choice of kernel sizes; the second has three candidates, and NNI's integer names."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.out_channels = OrderedDict(low=width, high=2 * width)
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.low = LayerChoice(
            OrderedDict((f"kernel_{k}", separable(width, width, k)) for k in (3, 5)), label="low"
        )
        self.high = LayerChoice([separable(width, 2 * width, k) for k in (3, 5, 7)], label="high")

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        low = self.low(self.stem(x))
        return OrderedDict(low=low, high=self.high(low))


def mobile(width: int = 8) -> nn.Module:
    return MobileTrunk(width)


def without_channels() -> nn.Module:
    trunk = MobileTrunk()
    del trunk.out_channels
    return trunk


def without_choices() -> nn.Module:
    trunk = nn.Conv2d(3, 8, 3)
    trunk.out_channels = {"only": 8}
    return trunk


def with_a_nested_choice() -> nn.Module:
    trunk = MobileTrunk()
    inner = LayerChoice([nn.Identity(), nn.Identity()], label="inner")
    trunk.low = LayerChoice([inner, nn.Identity()], label="outer")
    return trunk


def with_other_channels() -> nn.Module:
    trunk = MobileTrunk()
    trunk.out_channels = {"low": 8, "high": 99}
    return trunk


def not_additive() -> nn.Module:
    """The candidates of one block differ in stride, so that the next block's MACs depend on it."""
    trunk = MobileTrunk()
    trunk.stem = LayerChoice([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(3, 8, 3, 1, 1)], label="stem")
    return trunk


def no_module() -> str:
    return "a trunk"
