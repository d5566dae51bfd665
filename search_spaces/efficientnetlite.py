"""The trunks of EfficientNet-Lite with a choice in every block except the first: a search from a trained net.

EfficientNet (Tan and Le, 2019) without squeeze-and-excitation and with ReLU6, as in TensorFlow's tpu
repository.
"""

from collections import OrderedDict

import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.errors import SpaceError
from search_spaces.initialising import layers_to_draw
from search_spaces.sizes import LITE, LiteBlock, block_label

_EPS, _MOMENTUM = 1e-3, 0.01
"""For batch normalisation, as published; torch's momentum is one minus TensorFlow's."""


class EfficientNetLiteTrunk(ModelSpace):
    """The trunk of an EfficientNet-Lite, without a head.

    The path of the published ops (`LITE[size].published_ops`) computes what the published net does. Images
    come as for every trunk here, BGR 0–255; the normalisation that the published weights expect is a fixed
    first layer, and their stem's input channels are reversed when they are loaded.

    `size` is a name in `LITE`; `SpaceError` for any other.
    """

    out_channels: OrderedDict[str, int]
    """Channels of each feature, in the order of the strides 4, 8, 16 and 32."""
    classifier_channels: int
    """Channels of the last convolution that a classifier puts on the trunk; a detector has none."""

    def __init__(self, size: str = "lite0") -> None:
        super().__init__()
        if size not in LITE:
            raise SpaceError(f"unknown size {size!r} of EfficientNet-Lite; known: {', '.join(LITE)}")
        widths = LITE[size]
        self.out_channels = OrderedDict(widths.channels)
        self.classifier_channels = widths.classifier
        self.stem = nn.Sequential(
            OrderedDict(
                normalise=Normalise(),
                **_conv_bn(3, widths.stem, kernel=3, stride=2),
                relu=nn.ReLU6(),
            )
        )
        self.first = InvertedResidual(widths.stem, widths.first, kernel=3, stride=1, hidden=widths.stem)
        self.stages = nn.ModuleDict({stage: nn.Sequential() for stage in self.out_channels})
        for index, block in enumerate(widths.blocks):
            candidates = OrderedDict(
                (name, _candidate(name, block, widths.expansion)) for name in block.candidates
            )
            self.stages[block.stage].append(LayerChoice(candidates, label=block_label(index)))
        initialise(self)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Images (N, 3, H, W) to "stage1" … "stage4", each (N, C, ceil(H / s), ceil(W / s)), s = 4 … 32."""
        features = OrderedDict()
        x = self.first(self.stem(x))
        for name, stage in self.stages.items():
            x = stage(x)
            features[name] = x
        return features

    def first_stages(self, count: int) -> list[nn.Module]:
        """The modules that run up to the end of a stage, the stem among them; to freeze them."""
        return [self.stem, self.first, *list(self.stages.values())[:count]]

    def classifier_conv(self) -> nn.Sequential:
        """The published convolution between the trunk and the classifier's last layer."""
        last = list(self.out_channels.values())[-1]
        conv = nn.Sequential(OrderedDict(**_conv_bn(last, self.classifier_channels), relu=nn.ReLU6()))
        initialise(conv)
        return conv


class InvertedResidual(nn.Sequential):
    """Expansion 1x1, depthwise convolution, projection 1x1, each with BN; a residual if the shape is kept.

    Args:
        hidden: channels between expansion and projection; no expansion if equal to `in_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, hidden: int) -> None:
        main = OrderedDict()
        if hidden != in_channels:
            main["expand"] = nn.Sequential(OrderedDict(**_conv_bn(in_channels, hidden), relu=nn.ReLU6()))
        main["depthwise"] = nn.Sequential(
            OrderedDict(
                **_conv_bn(hidden, hidden, kernel=kernel, stride=stride, groups=hidden), relu=nn.ReLU6()
            )
        )
        main["project"] = nn.Sequential(OrderedDict(**_conv_bn(hidden, out_channels)))
        super().__init__(main)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = super().forward(x)
        return x + y if self.adds else y


class Normalise(nn.Module):
    """Pixels 0–255 to about -1 … 1, as the published weights were trained."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 127.0) / 128.0


class SamePad(nn.Module):
    """TensorFlow's padding "SAME" for stride 2: an even side gets one row less before than after."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        behind = self.kernel // 2
        # Arithmetic instead of `if`: a traced net would keep the padding of its example image.
        return functional.pad(x, (behind - 1 + width % 2, behind, behind - 1 + height % 2, behind))

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}"


def _conv_bn(
    in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> dict[str, nn.Module]:
    padding = kernel // 2 if stride == 1 else 0
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
    pad = {} if stride == 1 else {"pad": SamePad(kernel)}
    return {**pad, "conv": conv, "bn": nn.BatchNorm2d(out_channels, eps=_EPS, momentum=_MOMENTUM)}


def _candidate(name: str, block: LiteBlock, expansion: int) -> nn.Module:
    if name == "skip":
        return nn.Identity()
    hidden = block.in_channels * expansion // (2 if name.endswith("_half") else 1)
    kernel = int(name.removeprefix("mbconv_")[0])
    return InvertedResidual(
        block.in_channels, block.out_channels, kernel=kernel, stride=block.stride, hidden=hidden
    )


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw the weights as EfficientNet does: N(0, 2 / fan_out), with each depthwise filter on its own."""
    for layer in layers_to_draw(module):
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0, (2 / fan_out) ** 0.5)
