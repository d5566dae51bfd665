"""Small real data sets on disk for the tests of this folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detnas_nni.data.coco import read_coco
from detnas_nni.data.records import DetectionSet


def write_image(file: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def truncate(file: Path) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file


def coco_content(count: int = 4) -> dict[str, Any]:
    """`count` images of 40x30 with one box each; the categories are 3 (cat) and 9 (dog)."""
    return {
        "images": [{"id": 10 + i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(count)],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 10 + i,
                "category_id": (3, 9)[i % 2],
                "bbox": [i, 5, 10, 20],
                "area": 150.0,
                "iscrowd": 0,
            }
            for i in range(count)
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def write_coco(root: Path, content: Any, *, images: bool = True) -> tuple[Path, Path]:
    """Write the annotation file and its images; give (image folder, annotation file)."""
    folder, file = root / "images", root / "train.json"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    if images:
        for number, entry in enumerate(content["images"]):
            write_image(folder / entry["file_name"], entry["width"], entry["height"], seed=number)
    return folder, file


def coco_set(root: Path, count: int = 4) -> DetectionSet:
    return read_coco(*write_coco(root, coco_content(count)))


def voc_object(name: str, box: tuple[Any, Any, Any, Any], difficult: Any = 0) -> str:
    xmin, ymin, xmax, ymax = box
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{xmin}</xmin>"
        f"<ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


def write_voc(root: Path, objects: dict[str, list[str]], image_set: str = "train") -> Path:
    """A VOC folder with one image of 40x30 a name."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (name, entries) in enumerate(objects.items()):
        write_image(root / "JPEGImages" / f"{name}.jpg", seed=number)
        (root / "Annotations" / f"{name}.xml").write_text(
            "<annotation><size><width>40</width><height>30</height><depth>3</depth></size>"
            f"{''.join(entries)}</annotation>"
        )
    (root / "ImageSets" / "Main" / f"{image_set}.txt").write_text("".join(f"{name}\n" for name in objects))
    return root
