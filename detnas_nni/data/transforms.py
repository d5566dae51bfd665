"""Augmentation and the conversion to the nets' input: torchvision's v2 transforms.

The nets take images as the authors' code does (facts file, "Search space"): channels in the order blue,
green, red, values 0 to 255 as float32, no mean subtracted, no division by a standard deviation. The order
comes from OpenCV, with which the authors read images; the stem's first batch norm absorbs the scale.
Published weights depend on both. So every pipeline here ends in `to_bgr`, and a detector's own normalisation
has to be mean 0, std 1.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


def to_bgr(pixels: Tensor) -> Tensor:
    """uint8 RGB image (3, H, W) → float32 BGR (3, H, W) in 0..255, of the same strides."""
    result = pixels.to(torch.float32, copy=True)
    # Two copies: `flip` takes twice as long with interleaved colours, as decoders give them.
    result[0] = pixels[2]
    result[2] = pixels[0]
    return result


class Pipeline(nn.Module):
    """Called as pipeline(image) or pipeline(image, target): steps, a flip, and the nets' format.

    Draws and results are identical to `v2.Compose` of the same steps, which flattens and rebuilds the target
    in each step; for small images that takes as long as the work itself.

    Args:
        steps: torchvision's transforms that concern only the image and are always applied.
        flip: probability of a horizontal flip, of the boxes too; None draws nothing.
    """

    def __init__(self, *steps: v2.Transform, flip: float | None = None) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.flip = flip

    def extra_repr(self) -> str:
        return f"flip={self.flip}"

    def forward(self, image: Tensor, *target: Any) -> Any:
        """uint8 RGB image (3, H, W), maybe with a label or a target, to the nets' format."""
        pixels = image.as_subclass(Tensor)
        for step in self.steps:
            pixels = step.transform(pixels, step.make_params([pixels]))
        if self.flip is not None and torch.rand(1) < self.flip:
            pixels = functional.horizontal_flip(pixels)
            target = tuple(map(_flipped, target))
        result = to_bgr(pixels)
        return (result, *target) if target else result


def _flipped(target: Any) -> Any:
    if not isinstance(target, dict):
        return target
    return {**target, "boxes": functional.horizontal_flip(target["boxes"])}


def classification_train(size: int, color_jitter: float = 0.4, min_scale: float = 0.08) -> Pipeline:
    """The supernet's ImageNet recipe: a random crop, colour jitter, a flip.

    Args:
        size: side of the resulting square, pixels.
        color_jitter: strength for brightness, contrast and saturation; 0 turns it off.
        min_scale: smallest part of the image's area that a crop takes; 0.08 in the paper, more for small
            images.
    """
    steps: list[v2.Transform] = [v2.RandomResizedCrop(size, scale=(min_scale, 1.0), antialias=True)]
    if color_jitter > 0:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    return Pipeline(*steps, flip=0.5)


def classification_eval(size: int) -> Pipeline:
    """The shorter side to size / 0.875 (256 for 224), then the central square of `size` pixels."""
    return Pipeline(v2.Resize(round(size / 0.875), antialias=True), v2.CenterCrop(size))


def detection_train(flip: float = 0.5) -> Pipeline:
    """A horizontal flip of image and boxes with probability `flip`.

    No resizing: torchvision's `GeneralizedRCNNTransform` does it inside the detector, boxes included.
    """
    return Pipeline(flip=flip)


def detection_eval() -> Pipeline:
    """The conversion alone; the detector resizes."""
    return Pipeline()
