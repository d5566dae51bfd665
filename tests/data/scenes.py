"""Pictures of red rectangles, stored any way up, and how much red is where boxes are read to be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from detnas_nni.data.datasets import EvaluationDataset
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.transforms import detection_eval

Box = tuple[int, int, int, int]
"""x, y, width, height, in the picture as people see it."""

# What a camera has done to a picture that EXIF's orientation undoes.
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(size: tuple[int, int], boxes: Sequence[Box]) -> Image.Image:
    """A picture with a red rectangle in each box."""
    pixels = np.full((size[1], size[0], 3), 128, dtype=np.uint8)
    for x, y, width, height in boxes:
        pixels[y : y + height, x : x + width] = (230, 20, 20)
    return Image.fromarray(pixels)


def save_scene(
    file: Path, size: tuple[int, int], boxes: Sequence[Box], orientation: int = 1
) -> tuple[int, int]:
    """Write the picture as a camera stores it; gives width and height as they are stored."""
    picture, method = scene(size, boxes), _STORED[orientation]
    stored = picture if method is None else picture.transpose(method)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file.parent.mkdir(parents=True, exist_ok=True)
    stored.save(file, exif=exif, **({"quality": 95} if file.suffix == ".jpg" else {}))
    return stored.size


def as_stored(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """A box in the stored picture, by the picture itself."""
    alone, method = scene(size, [box]), _STORED[orientation]
    pixels = np.asarray(alone if method is None else alone.transpose(method))
    rows, columns = np.nonzero(pixels[..., 0] > 200)
    x, y = int(columns.min()), int(rows.min())
    return x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y


def coco_of(images: Sequence[dict[str, Any]], boxes: Sequence[Sequence[Any]], **keys: Any) -> dict[str, Any]:
    """A COCO file's content: the boxes of each image, all of one class."""
    annotations = [
        {"id": number, "image_id": image["id"], "category_id": 1, "bbox": list(box)}
        for number, (image, box) in enumerate(
            ((image, box) for image, of_image in zip(images, boxes, strict=True) for box in of_image), start=1
        )
    ]
    content = {"images": list(images), "annotations": annotations, "categories": [{"id": 1, "name": "red"}]}
    return {**content, **keys}


def write_json(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def red_in_boxes(images: DetectionSet) -> list[float]:
    """Of each image, the share of its boxes' pixels that are red, as a net gets them."""
    shares = []
    dataset = EvaluationDataset(images, detection_eval())
    for index, record in enumerate(images.records):
        pixels = dataset[index][0].numpy()  # blue, green, red
        red = (pixels[2] > 180) & (pixels[1] < 80)
        inside = np.zeros(red.shape, dtype=bool)
        for x1, y1, x2, y2 in np.rint(record.boxes).astype(int).tolist():
            inside[y1:y2, x1:x2] = True
        shares.append(float(red[inside].mean()))
    return shares


def told(images: DetectionSet, kind: str) -> int:
    """How many entries are counted under a kind; 0 if it was not met."""
    return {correction.kind: correction.count for correction in images.corrections}.get(kind, 0)
