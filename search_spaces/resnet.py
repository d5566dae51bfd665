"""The hand-crafted nets to compare searched ones with: torchvision's ResNets, with nothing to choose."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from search_spaces.errors import SpaceError
from search_spaces.sizes import FIXED, STAGES

_BLOCKS = {"resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}


class ResNetTrunk(ResNet):
    """torchvision's ResNet-50 or ResNet-101 up to its last stage, with torchvision's initialisation.

    The state dict is torchvision's without `fc`, so that weights can be loaded by name. Images come as for
    every trunk here, BGR 0–255 without normalisation: the batch normalisation after the first convolution,
    which is trained like all others, removes their scale.

    `name` is one in `FIXED`; `SpaceError` for any other.
    """

    out_channels: OrderedDict[str, int]
    """Channels of C2 … C5 by the names of the stages, at strides 4 … 32."""
    classifier_channels: None = None
    """A classifier has no convolution between the trunk and its linear layer."""

    def __init__(self, name: str = "resnet50") -> None:
        if name not in FIXED:
            raise SpaceError(f"unknown ResNet {name!r}; known: {', '.join(FIXED)}")
        super().__init__(Bottleneck, _BLOCKS[name])
        del self.avgpool, self.fc  # a head is not part of a trunk
        self.out_channels = OrderedDict(
            (stage, 64 * 2**index * Bottleneck.expansion) for index, stage in enumerate(STAGES)
        )

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Images (N, 3, H, W) to "stage1" … "stage4", each (N, C, ceil(H / s), ceil(W / s)), s = 4 … 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = OrderedDict()
        for name, layer in zip(STAGES, (self.layer1, self.layer2, self.layer3, self.layer4), strict=True):
            x = layer(x)
            features[name] = x
        return features

    def first_stages(self, count: int) -> list[nn.Module]:
        """The modules that run up to the end of a stage, including the stem; to freeze them."""
        return [self.conv1, self.bn1, *(self.layer1, self.layer2, self.layer3, self.layer4)[:count]]
