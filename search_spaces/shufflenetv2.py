"""The trunk that DetNAS searches: a stem and choice blocks of ShuffleNetV2, in four stages."""

from collections import OrderedDict

import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from torch import Tensor, nn

from search_spaces.blocks import CANDIDATES, SHUFFLES, ChoiceBlock
from search_spaces.errors import SpaceError
from search_spaces.initialising import layers_to_draw
from search_spaces.sizes import SIZES, STAGES, block_label


class ShuffleNetV2Trunk(ModelSpace):
    """The ShuffleNetV2 space of DetNAS in a built-in size, without a head.

    Inside another `ModelSpace` it is a part of that space; under `nni.nas.space.model_context(choices)` it is
    the fixed net, whose state-dict keys are the supernet's without the candidates' names. There is no pooling
    after the stem, so that the stages have strides 4, 8, 16 and 32.

    `size` is a name in `SIZES`, `shuffle` one in `SHUFFLES`; `SpaceError` for any other.
    """

    out_channels: OrderedDict[str, int]
    """Channels of each feature, in the order of the strides."""
    classifier_channels: int
    """Channels of the last convolution that a classifier puts on the trunk; a detector has none."""

    def __init__(self, size: str = "small", shuffle: str = "interleave") -> None:
        super().__init__()
        if size not in SIZES:
            raise SpaceError(f"unknown size {size!r} of the ShuffleNetV2 space; known: {', '.join(SIZES)}")
        if shuffle not in SHUFFLES:
            raise SpaceError(f"unknown channel shuffle {shuffle!r}; known: {', '.join(SHUFFLES)}")
        widths = SIZES[size]
        self.out_channels = OrderedDict(zip(STAGES, widths.channels, strict=True))
        self.classifier_channels = widths.classifier
        # Only the stem has a bias, as in the authors' code.
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, widths.stem, 3, stride=2, padding=1, bias=True),
                bn=nn.BatchNorm2d(widths.stem),
                relu=nn.ReLU(),
            )
        )
        self.stages = nn.ModuleDict()
        in_channels, index = widths.stem, 0
        for stage, out_channels, blocks in zip(STAGES, widths.channels, widths.blocks, strict=True):
            self.stages[stage] = nn.Sequential()
            for block in range(blocks):
                stride = 2 if block == 0 else 1
                candidates = OrderedDict(
                    (name, ChoiceBlock(name, in_channels, out_channels, stride, shuffle))
                    for name in CANDIDATES
                )
                self.stages[stage].append(LayerChoice(candidates, label=block_label(index)))
                in_channels, index = out_channels, index + 1
        initialise(self)
        nn.init.normal_(self.stem.conv.weight, 0, 0.01)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Images (N, 3, H, W) to "stage1" … "stage4", each (N, C, ceil(H / s), ceil(W / s)), s = 4 … 32."""
        features = OrderedDict()
        x = self.stem(x)
        for name, stage in self.stages.items():
            x = stage(x)
            features[name] = x
        return features

    def first_stages(self, count: int) -> list[nn.Module]:
        """The modules that run up to the end of a stage, including the stem; to freeze them."""
        return [self.stem, *list(self.stages.values())[:count]]


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw the weights as the authors do, except for the stem, N(0, 0.01), which the trunk draws itself.

    Convolutions N(0, 1 / weight.shape[1]), where that is the standard deviation and shape[1] is 1 in a
    depthwise convolution; linear layers N(0, 0.01); biases 0; batch normalisation γ 1 and β 1e-4.
    Source: `_initialize_weights` in megvii-model/DetNAS.
    """
    for layer in layers_to_draw(module):
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, 1 / layer.weight.shape[1])
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.constant_(layer.bias, 1e-4)
            continue
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
