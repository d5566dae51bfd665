"""The detector's sizes, derived from those of images and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STRIDES = (4, 8, 16, 32, 64)
"""Strides of the pyramid's levels, pixels: a trunk's four stages, and the level that Faster R-CNN adds."""

CELL = 32
"""The last stage's stride, pixels: images are padded to a multiple of it."""

SMALL_SHARE = 0.05
"""The share of boxes that counts as the smallest ones, and as the largest."""

_LEAST_STEP = 2 ** (1 / 3)  # between two anchor sizes, if all boxes are alike
_RATIOS = (0.5, 1.0, 2.0)  # the authors'; they match boxes of up to three times their width or height
_ALMOST_ALL = 0.05
_FAR_RATIO = 3.0


@dataclass(frozen=True)
class SizeLimits:
    """The input sizes that a machine can afford, in pixels of the shorter side, and what small boxes need.

    Attributes:
        least, most: of the shorter side.
        box: the side that the smallest boxes should have in the resized image, if `most` allows it.
        as_they_are: whether images keep their size up to `most`, or shrink as far as the boxes allow.
    """

    least: int
    most: int
    box: int
    as_they_are: bool


@dataclass(frozen=True)
class InputSize:
    """What images are resized to, as torchvision's detectors do it.

    Attributes:
        min_size: the shorter side, pixels, unless the longer one would pass `max_size`.
        max_size: pixels.
        small_box: the side of the smallest boxes after resizing, pixels.
    """

    min_size: int
    max_size: int
    small_box: float


def input_size(
    image_sizes: np.ndarray, box_sizes: np.ndarray, of_boxes: np.ndarray, limits: SizeLimits
) -> InputSize:
    """The size that images are resized to.

    Args:
        image_sizes: (N, 2) width and height, pixels.
        box_sizes: (B, 2) likewise.
        of_boxes: (B, 2) the size of the image that each box is in.
        limits: what can be afforded.
    """
    # Both as shares of the shorter side, which is what min_size sets.
    short = image_sizes.min(axis=1)
    shares = np.sqrt(box_sizes.prod(axis=1)) / of_boxes.min(axis=1)
    small = float(np.quantile(shares, SMALL_SHARE))
    wanted = limits.box / small
    if limits.as_they_are:
        wanted = max(wanted, float(np.median(short)))
    min_size = int(np.clip(round(wanted / CELL) * CELL, limits.least, limits.most))
    # Long enough that 95 % of the images reach this min_size, but at most twice as long.
    aspect = float(np.quantile(image_sizes.max(axis=1) / short, 1 - _ALMOST_ALL))
    max_size = int(np.ceil(min(max(aspect, 1.0), 2.0) * min_size / CELL) * CELL)
    scales = resize_scales(of_boxes, min_size, max_size)
    sides = np.sqrt(box_sizes.prod(axis=1)) * scales
    return InputSize(min_size, max_size, float(np.quantile(sides, SMALL_SHARE)))


def resize_scales(image_sizes: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """(N,) factors by which torchvision's detectors resize images of (N, 2) width and height."""
    return np.minimum(min_size / image_sizes.min(axis=1), max_size / image_sizes.max(axis=1))


def anchor_sizes(sides: np.ndarray) -> tuple[int, ...]:
    """One anchor side per pyramid level, pixels, growing evenly from the small boxes to the large ones.

    No anchor is smaller than its level's stride: otherwise boxes between two anchors would be missed.

    Args:
        sides: (B,) √area of the boxes in the resized images, pixels.
    """
    low, high = np.quantile(sides, (SMALL_SHARE, 1 - SMALL_SHARE))
    step = max((high / low) ** (1 / (len(STRIDES) - 1)), _LEAST_STEP)
    middle = (len(STRIDES) - 1) / 2
    anchors: list[int] = []
    for level, stride in enumerate(STRIDES):
        size = max(round(float(np.sqrt(low * high)) * step ** (level - middle)), stride)
        anchors.append(max(size, anchors[-1] + 1) if anchors else size)
    return tuple(anchors)


def anchor_ratios(box_sizes: np.ndarray) -> tuple[float, ...]:
    """Height over width of the anchors: the authors', or, for very long boxes, those of the boxes."""
    ratios = box_sizes[:, 1] / box_sizes[:, 0]
    low, high = np.quantile(ratios, (_ALMOST_ALL, 1 - _ALMOST_ALL))
    if low >= 1 / _FAR_RATIO and high <= _FAR_RATIO:
        return _RATIOS
    quantiles = np.quantile(ratios, (0.15, 0.5, 0.85))
    return tuple(sorted({float(f"{ratio:.2g}") for ratio in quantiles}))
