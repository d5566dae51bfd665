"""The unit of a box's numbers: percent and thousandths of the image, recognised over the whole file."""

from pathlib import Path

import numpy as np
import pytest

from detnas_nni.config import CocoSplit, DetectionData
from detnas_nni.data.coco import read_coco
from detnas_nni.data.corrections.scales import suspected
from detnas_nni.data.entries import Conventions
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import open_detection
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError
from tests.data.data_builders import voc_object, write_voc
from tests.data.scenes import coco_of, told, write_json


def on_scale(whole: int, count: int = 24, seed: int = 0) -> np.ndarray:
    """Corners (count, 4) all over an image that is `whole` wide and high; the last ends at its edge."""
    draw = np.random.default_rng(seed)
    sides = draw.integers(whole // 5, whole // 2, (count, 2))
    first = draw.integers(0, whole - sides)
    first[-1] = whole - sides[-1]
    return np.hstack([first, first + sides]).astype(float)


def read(
    root: Path, boxes: np.ndarray, size: tuple[int, int], form: str, **conventions: object
) -> DetectionSet:
    """A COCO file with a box an image, all of one size."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    images, written = [], []
    for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        (root / "images" / f"{number}.png").touch()
        images.append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
        written.append([[x1, y1, x2, y2] if form == "xyxy" else [x1, y1, x2 - x1, y2 - y1]])
    file = write_json(root / "train.json", coco_of(images, written))
    return read_coco(root / "images", file, conventions=Conventions(**conventions))


def read_boxes(images: DetectionSet) -> np.ndarray:
    return np.concatenate([record.boxes for record in images.records])


@pytest.mark.parametrize(
    ("unit", "whole", "size"),
    [
        ("percent", 100, (40, 30)),
        ("percent", 100, (64, 64)),
        ("percent", 100, (48, 90)),
        ("thousandths", 1000, (100, 75)),
        ("thousandths", 1000, (640, 480)),
        ("thousandths", 1000, (480, 854)),
    ],
)
@pytest.mark.parametrize("form", ["xywh", "xyxy"])
def test_a_scale_is_read_where_boxes_in_pixels_would_stick_out(
    tmp_path: Path, unit: str, whole: int, size: tuple[int, int], form: str
) -> None:
    boxes = on_scale(whole)
    images = read(tmp_path, boxes, size, form)
    np.testing.assert_allclose(read_boxes(images), boxes * (*size, *size) / whole, rtol=1e-5)
    assert told(images, unit) == 24 and told(images, "corners for sides") == (24 if form == "xyxy" else 0)
    with pytest.raises(DataError, match=f"24 boxes are in {unit} of the image .*Nothing may be corrected"):
        read(tmp_path, boxes, size, form, strict=True)


def test_thousandths_in_voc_files_are_read(tmp_path: Path) -> None:
    corners = on_scale(1000)
    objects = {
        f"{at}": [voc_object("cat", tuple(box))] for at, box in enumerate(corners.astype(int).tolist())
    }
    images = read_voc(write_voc(tmp_path, objects), "train")
    np.testing.assert_allclose(read_boxes(images), corners * (0.04, 0.03, 0.04, 0.03), rtol=1e-5)
    assert told(images, "thousandths") == 24


@pytest.mark.parametrize(
    ("unit", "whole", "size"),
    [
        ("percent", 100, (140, 105)),
        ("percent", 100, (400, 300)),
        ("thousandths", 1000, (1280, 1024)),
        ("thousandths", 1000, (4000, 3000)),
    ],
)
def test_a_scale_is_suspected_where_pixels_are_possible_and_read_on_demand(
    tmp_path: Path, unit: str, whole: int, size: tuple[int, int]
) -> None:
    boxes = on_scale(whole)
    as_written = read(tmp_path, boxes, size, "xywh")
    np.testing.assert_array_equal(read_boxes(as_written), boxes)
    assert told(as_written, f"suspected {unit}") == 24
    asked = read(tmp_path, boxes, size, "xywh", box_units=unit)
    np.testing.assert_allclose(read_boxes(asked), boxes * (*size, *size) / whole, rtol=1e-5)
    assert told(read(tmp_path, boxes, size, "xywh", box_units="pixels"), f"suspected {unit}") == 0


@pytest.mark.parametrize("size", [(100, 75), (128, 80), (90, 90)])
def test_a_scale_that_may_be_pixels_of_sloppy_boxes_is_refused_or_left_but_never_guessed(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """In images about as large as the scale only some boxes stick out."""
    boxes = on_scale(100)
    try:
        found = read_boxes(read(tmp_path, boxes, size, "xywh"))
    except DataError as error:
        assert "--box-units" in str(error) and "pixels or percent" in str(error)
    else:
        np.testing.assert_array_equal(found, np.minimum(boxes, (*size, *size)))
    asked = read(tmp_path, boxes, size, "xywh", box_units="percent")
    np.testing.assert_allclose(read_boxes(asked), boxes * (*size, *size) / 100, rtol=1e-5)


def test_boxes_that_reach_only_near_the_end_of_a_scale_are_refused_with_the_suspicion(tmp_path: Path) -> None:
    boxes = on_scale(1000) * 0.8
    with pytest.raises(
        DataError, match=r"stick out .*within 0..1000, as thousandths .*--box-units .*pixels or"
    ):
        read(tmp_path, boxes, (320, 240), "xywh")


@pytest.mark.parametrize("size", [(96, 96), (640, 480), (1000, 1000), (1024, 1024), (128, 128)])
def test_boxes_in_pixels_all_over_their_images_are_left_as_they_stand(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    boxes = on_scale(100) * (*size, *size) / 100
    images = read(tmp_path, boxes, size, "xywh")
    np.testing.assert_allclose(read_boxes(images), boxes, rtol=1e-6)
    assert images.corrections == ()


def test_objects_in_the_middle_of_small_images_raise_no_suspicion() -> None:
    boxes = on_scale(64) + 28
    assert suspected(boxes, np.full((len(boxes), 2), 128)) is None


def test_a_small_split_has_the_unit_of_the_training_split(tmp_path: Path) -> None:
    train = read(tmp_path / "train", on_scale(1000), (640, 480), "xywh")
    assert train.reading.units == "thousandths"
    read(tmp_path / "test", np.array([[100.0, 200, 300, 400]]), (640, 480), "xywh")
    sources = [
        CocoSplit(images=tmp_path / name / "images", annotations=tmp_path / name / "train.json")
        for name in ("train", "test")
    ]
    splits = open_detection(DetectionData(train=sources[0], test=sources[1], holdout=2), seed=0)
    np.testing.assert_allclose(splits.test.records[0].boxes, [[64, 96, 192, 192]], rtol=1e-5)
