"""Augmentation and the conversion to what the nets take: torchvision's v2 transforms.

The nets take images as the authors' code does (facts file, "Search space"): channels in the order blue,
green, red, values 0 to 255 as float32, no mean subtracted, no division by a standard deviation. The order
comes from OpenCV, which the authors read images with; the stem's first batch norm makes up for the scale.
Published weights depend on both. So every pipeline here ends in `ToBGR`, and a detector's own normalisation
has to be mean 0, std 1.
"""

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2


class ToBGR(v2.Transform):
    """uint8 RGB image (3, H, W) → float32 BGR tensor (3, H, W) in 0..255; boxes and labels pass unchanged."""

    _transformed_types = (tv_tensors.Image,)

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Called by torchvision with the image alone, for the types above."""
        return inpt.as_subclass(torch.Tensor).flip(-3).to(torch.float32)


def classification_train(size: int, color_jitter: float = 0.4, min_scale: float = 0.08) -> v2.Compose:
    """The supernet's ImageNet recipe: a random crop, colour jitter, a flip.

    Args:
        size: side of the square that comes out, pixels.
        color_jitter: strength for brightness, contrast and saturation; 0 turns it off.
        min_scale: smallest part of the image's area that a crop takes; 0.08 in the paper, more for small
            images.
    """
    steps: list[v2.Transform] = [v2.RandomResizedCrop(size, scale=(min_scale, 1.0), antialias=True)]
    if color_jitter > 0:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    return v2.Compose([*steps, v2.RandomHorizontalFlip(), ToBGR()])


def classification_eval(size: int) -> v2.Compose:
    """The shorter side to size / 0.875 (256 for 224), then the central square of `size` pixels."""
    return v2.Compose([v2.Resize(round(size / 0.875), antialias=True), v2.CenterCrop(size), ToBGR()])


def detection_train(flip: float = 0.5) -> v2.Compose:
    """A horizontal flip of image and boxes with probability `flip`.

    No resizing: torchvision's `GeneralizedRCNNTransform` does it inside the detector, boxes included.
    """
    return v2.Compose([v2.RandomHorizontalFlip(flip), ToBGR()])


def detection_eval() -> v2.Compose:
    """The conversion alone; the detector resizes."""
    return v2.Compose([ToBGR()])
