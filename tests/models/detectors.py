"""Small detectors and batches for the tests of both of them."""

import pytest
import torch
from nni.nas.space import model_context
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Detector
from detnas_nni.models import DetectorSpace
from search_spaces import layout

PATH = Architecture("tiny", tuple((2, 1, 0, 3, 1)[index % 5] for index in range(len(layout("tiny")))))
CLASSES = 3
LOSSES = {
    "faster_rcnn": {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"},
    "retinanet": {"classification", "bbox_regression"},
}

both = pytest.mark.parametrize("name", LOSSES)


def settings(name: str, **changes: object) -> Detector:
    values = {
        "name": name,
        "min_size": 64,
        "max_size": 96,
        "fpn_channels": 16,
        "anchor_sizes": (8, 16, 24, 32, 48),
        "rpn_proposals_train": 32,
        "rpn_proposals_test": 16,
        "box_samples": 16,
        "box_head_convs": 2,
        "box_head_channels": 16,
        "box_head_width": 32,
    }
    return Detector(**values | changes)


def fixed(name: str, **changes: object) -> DetectorSpace:
    torch.manual_seed(0)
    with model_context(PATH.choices):
        return DetectorSpace("tiny", CLASSES, settings(name, **changes))


def images() -> list[Tensor]:
    """Two images of different sizes, BGR, 0–255."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator) * 255 for size in ((64, 80), (72, 64))]


def target(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] = ()) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


FULL = (
    target((4, 4, 30, 40), (20, 10, 60, 50), labels=(1, CLASSES)),
    target((8, 16, 40, 48), labels=(2,)),
)
EMPTY = (target(), target())
