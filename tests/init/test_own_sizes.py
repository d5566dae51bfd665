"""Input size and anchors from hand-made sets of images and boxes."""

import numpy as np
import pytest
import torch

from detnas_nni.init.sizes import (
    STRIDES,
    SizeLimits,
    anchor_ratios,
    anchor_sizes,
    input_size,
    resize_scales,
)

CPU = SizeLimits(least=96, most=320, box=16, as_they_are=False)
GPU = SizeLimits(least=256, most=800, box=24, as_they_are=True)


def of(image: tuple[int, int], box: tuple[int, int], limits: SizeLimits):
    images, boxes = np.array([image] * 20), np.array([box] * 20, dtype=float)
    return input_size(images, boxes, images, limits)


@pytest.mark.parametrize(
    ("image", "box", "limits", "expected"),
    [
        # A twelfth of the shorter side is to have 16 pixels: 192; the images are 4 to 3.
        ((640, 480), (40, 40), CPU, (192, 256)),
        ((480, 640), (40, 40), CPU, (192, 256)),
        # Large boxes need no more than the least, tiny ones get the most.
        ((640, 480), (300, 300), CPU, (96, 128)),
        ((4000, 3000), (40, 40), CPU, (320, 448)),
        # A GPU takes images as they are, up to 800; small ones are enlarged for small boxes.
        ((640, 480), (40, 40), GPU, (480, 640)),
        ((4000, 3000), (400, 400), GPU, (800, 1088)),
        ((320, 240), (6, 6), GPU, (800, 1088)),
        # Of a panorama the longer side is limited to twice the shorter.
        ((2000, 400), (100, 100), CPU, (96, 192)),
    ],
)
def test_the_input_is_as_large_as_small_boxes_need_and_the_machine_affords(
    image: tuple[int, int], box: tuple[int, int], limits: SizeLimits, expected: tuple[int, int]
) -> None:
    size = of(image, box, limits)
    assert (size.min_size, size.max_size) == expected


def test_the_small_boxes_size_is_told_as_the_net_sees_it() -> None:
    assert of((640, 480), (40, 40), CPU).small_box == pytest.approx(16.0)
    assert of((2000, 400), (100, 100), CPU).small_box == pytest.approx(100 * 192 / 2000)


def test_scales_are_torchvisions() -> None:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(96, 160, [0.0] * 3, [1.0] * 3)
    transform.eval()
    for width, height in ((640, 480), (480, 640), (900, 300)):
        (resized,), _ = transform([torch.zeros(3, height, width)])[0].image_sizes, None
        (scale,) = resize_scales(np.array([(width, height)]), 96, 160)
        assert resized == (int(height * scale), int(width * scale))


def test_anchors_grow_evenly_over_the_boxes() -> None:
    sides = np.geomspace(16, 256, 10_001)
    low, *_, high = anchor_sizes(sides)
    assert low == pytest.approx(16 * 16**0.05, abs=1)
    assert high == pytest.approx(256 / 16**0.05, abs=1)
    factors = np.divide(anchor_sizes(sides)[1:], anchor_sizes(sides)[:-1])
    assert factors == pytest.approx([(high / low) ** 0.25] * 4, rel=0.05)


def test_anchors_of_boxes_that_are_all_alike_still_differ() -> None:
    anchors = anchor_sizes(np.full(50, 100.0))
    assert anchors == (63, 79, 100, 126, 159)


def test_no_anchor_is_smaller_than_its_levels_stride() -> None:
    anchors = anchor_sizes(np.array([3.0, 4.0, 5.0]))
    assert all(size >= stride for size, stride in zip(anchors, STRIDES, strict=True))
    assert sorted(set(anchors)) == list(anchors)


def test_ratios_are_the_authors_unless_boxes_are_very_long() -> None:
    square = np.ones((100, 2)) * 30
    assert anchor_ratios(square) == (0.5, 1.0, 2.0)
    poles = np.concatenate([np.tile((10.0, height), (20, 1)) for height in (20, 40, 50, 60, 80)])
    low, middle, high = anchor_ratios(poles)
    assert middle == 5.0 and 2.0 <= low < middle < high <= 8.0
