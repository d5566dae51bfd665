"""Photos that EXIF turns, in every format: the boxes are on the objects as people see them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detnas_nni.data.coco import read_coco
from detnas_nni.data.formats.convert import convert
from detnas_nni.data.formats.recognise import recognise
from detnas_nni.data.voc import read_voc
from tests.data.data_builders import voc_object
from tests.data.formats.exports import lines, write
from tests.data.scenes import Box, red_in_boxes, save_scene

SHOWN = (96, 64)
BOXES: list[Box] = [(70, 6, 20, 14), (10, 40, 22, 16)]
CORNERS = [(x, y, x + width, y + height) for x, y, width, height in BOXES]
ORIENTATIONS = (1, 2, 3, 4, 5, 6, 7, 8)

Size = tuple[int, int] | None
Write = Callable[[Path, dict[str, Size]], None]
"""Writes the annotations of the photos, whose names and stated sizes it gets, into a folder."""


def voc(root: Path, photos: dict[str, Size]) -> None:
    for name, size in photos.items():
        width, height = size or (0, 0)
        objects = "".join(voc_object("red", box) for box in CORNERS)
        text = (
            f"<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"
        )
        write((root / name).with_suffix(".xml"), text)


def cvat(root: Path, photos: dict[str, Size]) -> None:
    boxes = "".join(
        f'<box label="red" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/>' for x1, y1, x2, y2 in CORNERS
    )
    images = "".join(
        f'<image id="{number}" name="{name}" width="{(size or (0, 0))[0]}" height="{(size or (0, 0))[1]}">'
        f"{boxes}</image>"
        for number, (name, size) in enumerate(photos.items())
    )
    write(root / "annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")


def labelme(root: Path, photos: dict[str, Size]) -> None:
    shapes = [
        {"label": "red", "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]]}
        for x1, y1, x2, y2 in CORNERS
    ]
    for name, size in photos.items():
        width, height = size or (None, None)
        content = {"imagePath": name, "imageWidth": width, "imageHeight": height, "shapes": shapes}
        write((root / name).with_suffix(".json"), content)


def coco(root: Path, photos: dict[str, Size]) -> None:
    images, annotations = [], []
    for number, (name, size) in enumerate(photos.items()):
        width, height = size or (0, 0)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations += [{"image_id": number, "category_id": 1, "bbox": list(box)} for box in BOXES]
    categories = [{"id": 1, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write(root / "train.json", content)


def via(root: Path, photos: dict[str, Size]) -> None:
    shapes = [
        {"name": "rect", "x": x, "y": y, "width": width, "height": height} for x, y, width, height in BOXES
    ]
    regions = [{"shape_attributes": shape, "region_attributes": {"class": "red"}} for shape in shapes]
    write(
        root / "via.json",
        {f"{name}-1": {"filename": name, "size": -1, "regions": regions} for name in photos},
    )


def shares() -> list[tuple[float, ...]]:
    return [(x1 / 96, y1 / 64, x2 / 96, y2 / 64) for x1, y1, x2, y2 in CORNERS]


def yolo(root: Path, photos: dict[str, Size]) -> None:
    rows = [f"0 {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}" for x1, y1, x2, y2 in shares()]
    for name in photos:
        lines((root / name).with_suffix(".txt"), *rows)


def label_studio(root: Path, photos: dict[str, Size]) -> None:
    results = [
        {
            "value": {
                "x": 100 * x1,
                "y": 100 * y1,
                "width": 100 * (x2 - x1),
                "height": 100 * (y2 - y1),
                "rectanglelabels": ["red"],
            }
        }
        for x1, y1, x2, y2 in shares()
    ]
    tasks = [
        {"data": {"image": f"/data/upload/{name}"}, "annotations": [{"result": results}]} for name in photos
    ]
    write(root / "tasks.json", tasks)


def open_images(root: Path, photos: dict[str, Size]) -> None:
    rows = [f"{Path(name).stem},/m/1,{x1},{x2},{y1},{y2}" for name in photos for x1, y1, x2, y2 in shares()]
    lines(root / "train-annotations-bbox.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax", *rows)


def kitti(root: Path, photos: dict[str, Size]) -> None:
    rows = [f"red 0 0 0 {x1} {y1} {x2} {y2} 0 0 0 0 0 0 0" for x1, y1, x2, y2 in CORNERS]
    for name in photos:
        lines((root / name).with_suffix(".txt"), *rows)


def lvis(root: Path, photos: dict[str, Size]) -> None:
    coco(root, photos)
    file = root / "train.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"
        image["not_exhaustive_category_ids"] = []
    write(file, content)


WITH_SIZES: list[Write] = [coco, voc, cvat, labelme, lvis]
WITHOUT: list[Write] = [via, yolo, label_studio, open_images, kitti]


@pytest.mark.parametrize(
    ("format_", "sizes"),
    [(format_, sizes) for format_ in WITH_SIZES for sizes in ("stored", "shown", "none")]
    + [(format_, "none") for format_ in WITHOUT],
)
def test_boxes_are_on_the_objects_as_people_see_them(tmp_path: Path, format_: Write, sizes: str) -> None:
    root = tmp_path / "set"
    photos: dict[str, Size] = {}
    for orientation in ORIENTATIONS:
        name = f"photo{orientation}.jpg"
        stored = save_scene(root / name, SHOWN, BOXES, orientation)
        photos[name] = {"stored": stored, "shown": SHOWN, "none": None}[sizes]
    format_(root, photos)
    found = recognise(root)
    if found.form == "coco":
        images = read_coco(root, root / "train.json")
    elif found.form == "voc":
        images = read_voc(root)
    else:
        images = read_coco(*convert(found, tmp_path / "out").splits["train"])
    assert len(images) == len(ORIENTATIONS)
    assert min(red_in_boxes(images)) > 0.95
    assert {record.size for record in images.records} == {SHOWN}
