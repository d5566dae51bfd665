"""The ImageNet classifier around a trunk: the supernet is pre-trained in it, and ClsNAS searches with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from search_spaces import build_trunk
from search_spaces.shufflenetv2 import initialise


class ClassifierSpace(ModelSpace):
    """Trunk, conv1x1-BN-ReLU, Dropout2d, global average pool, fully connected layer, initialised as by the
    authors [R].

    A trunk that has a `classifier_conv` brings the convolution, BN and activation itself. On a trunk whose
    `classifier_channels` is None, such as a ResNet, it is the trunk's own classifier: trunk, global average
    pool, fully connected layer as torch initialises it, no dropout.

    Args:
        space: name of the trunk space, as `search_spaces.build_trunk` takes it.
        num_classes: width of the output.
        dropout: probability of Dropout2d, which drops whole channels; only after the last convolution.
        options: keyword arguments of the trunk.
    """

    def __init__(
        self,
        space: str,
        num_classes: int,
        dropout: float = 0.2,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = build_trunk(space, **(options or {}))
        channels = list(self.trunk.out_channels.values())[-1]
        width = self.trunk.classifier_channels
        if width is None:
            self.last_conv, self.dropout = nn.Identity(), nn.Identity()
            self.fc = nn.Linear(channels, num_classes)
        else:
            own = getattr(self.trunk, "classifier_conv", None)
            self.last_conv = _last_conv(channels, width) if own is None else own()
            self.dropout = nn.Dropout2d(dropout)
            self.fc = nn.Linear(width, num_classes)
            # Drawn after both are made, in this order: a seed gives the same weights in every release.
            if own is None:
                initialise(self.last_conv)
            initialise(self.fc)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, num_classes)."""
        return self.fc(self.dropout(self._features(images)).mean(dim=(2, 3)))

    def calibration_pass(self, images: Tensor) -> None:
        """A training pass as far as the last BN. The net is in training mode."""
        self._features(images)

    def _features(self, images: Tensor) -> Tensor:
        return self.last_conv(list(self.trunk(images).values())[-1])


def _last_conv(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )
