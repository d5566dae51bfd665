"""What a box's four numbers are: recognised over the whole file, corrected where one reading is possible."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from detnas_nni.data.coco import read_coco
from detnas_nni.data.entries import Conventions
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import open_detection
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError
from tests.data.data_builders import voc_object, write_voc
from tests.data.scenes import coco_of, told, write_json

WIDTH, HEIGHT = 40, 30
Numbers = Sequence[float]


def corners(count: int = 24, seed: int = 0) -> np.ndarray:
    """Boxes (count, 4) as x1, y1, x2, y2 all over an image of 40x30."""
    draw = np.random.default_rng(seed)
    first = draw.integers(0, (WIDTH - 8, HEIGHT - 8), (count, 2))
    second = first + draw.integers(5, 9, (count, 2))
    return np.hstack([first, np.minimum(second, (WIDTH, HEIGHT))]).astype(float)


def xywh(box: Numbers) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def centre(box: Numbers) -> list[float]:
    x1, y1, x2, y2 = box
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def shares(form: Callable[[Numbers], list[float]]) -> Callable[[Numbers], list[float]]:
    return lambda box: (np.array(form(box)) / (WIDTH, HEIGHT, WIDTH, HEIGHT)).tolist()


def coco(root: Path, boxes: np.ndarray, form: Callable[[Numbers], list[float]]) -> tuple[Path, Path]:
    """A COCO file with two boxes per image, each written in a form."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for number in range(len(boxes) // 2):
        (root / "images" / f"{number}.png").touch()
        name = f"{number}.png"
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
    written = [form(box) for box in boxes.tolist()]
    pairs = [written[at : at + 2] for at in range(0, len(written), 2)]
    return root / "images", write_json(root / "train.json", coco_of(images, pairs))


def read_boxes(images: DetectionSet) -> np.ndarray:
    return np.concatenate([record.boxes for record in images.records])


FORMS = [
    (list, "corners for sides", False),
    (centre, "centres", False),
    (shares(xywh), None, True),
    (shares(list), "corners for sides", True),
    (shares(centre), "centres", True),
]


@pytest.mark.parametrize(("form", "kind", "in_shares"), FORMS)
def test_boxes_in_another_form_are_recognised_over_the_file(
    tmp_path: Path, form: Callable[[Numbers], list[float]], kind: str | None, in_shares: bool
) -> None:
    boxes = corners()
    boxes[::2] = [[31, 4 + number, 40, 13 + number] for number in range(12)]  # at the right edge
    images = read_coco(*coco(tmp_path, boxes, form))
    np.testing.assert_allclose(read_boxes(images), boxes, atol=1e-4)
    assert told(images, "shares") == (24 if in_shares else 0)
    if kind is not None:
        assert told(images, kind) == 24


@pytest.mark.parametrize("seed", range(5))
def test_boxes_in_coco_form_are_left_as_they_stand(tmp_path: Path, seed: int) -> None:
    boxes = corners(seed=seed)
    images = read_coco(*coco(tmp_path, boxes, xywh))
    np.testing.assert_array_equal(read_boxes(images), boxes)
    assert images.corrections == ()


def reversed_corners(box: Numbers) -> list[float]:
    x1, y1, x2, y2 = box
    return [x2, y2, x1, y1]


def test_corners_that_are_written_second_first_are_recognised_and_sorted(tmp_path: Path) -> None:
    boxes = corners()
    images = read_coco(*coco(tmp_path, boxes, reversed_corners))
    assert np.allclose(read_boxes(images), boxes)
    assert told(images, "corners for sides") == told(images, "swapped corners") == len(boxes)


def test_a_file_of_sides_and_corners_is_refused_and_not_sorted(tmp_path: Path) -> None:
    """Read as corners the sides are boxes, too, and wrong ones."""
    boxes = corners()
    written = [box if at % 2 else xywh(box) for at, box in enumerate(boxes.tolist())]
    folder, file = coco(tmp_path, np.array(written), list)
    with pytest.raises(DataError, match=r"look like x1, y1, x2, y2; .* mix both forms: .*--box-form xyxy"):
        read_coco(folder, file)
    read_coco(folder, file, conventions=Conventions(box_form="xywh"))


def test_boxes_that_are_drawn_over_the_edge_are_cut_and_make_nobody_suspect_corners(tmp_path: Path) -> None:
    boxes = corners()
    boxes[:6] = [(WIDTH - 8, 10 + number, WIDTH + 6, 20 + number) for number in range(6)]
    images = read_coco(*coco(tmp_path, boxes, xywh))
    boxes[:6, 2] = WIDTH
    np.testing.assert_allclose(read_boxes(images), boxes)


def test_shares_that_reach_over_the_edge_are_shares_all_the_same(tmp_path: Path) -> None:
    boxes = corners()
    boxes[0] = (-4, 3, 12, 33)
    boxes[1] = (0, 0, WIDTH, HEIGHT)
    images = read_coco(*coco(tmp_path, boxes, shares(xywh)))
    boxes[0] = (0, 3, 12, HEIGHT)
    assert np.allclose(read_boxes(images), boxes, atol=1e-4)
    assert told(images, "shares") == len(boxes)


def test_boxes_of_whole_images_in_shares_are_not_of_one_pixel(tmp_path: Path) -> None:
    whole = np.tile([0.0, 0.0, WIDTH, HEIGHT], (12, 1))
    images = read_coco(*coco(tmp_path, whole, shares(xywh)))
    assert np.allclose(read_boxes(images), whole)


def test_shares_and_pixels_in_one_file_are_refused_with_how_many_are_which(tmp_path: Path) -> None:
    boxes = corners()
    written = [shares(xywh)(box) if at % 2 else xywh(box) for at, box in enumerate(boxes.tolist())]
    paths = coco(tmp_path, np.array(written), list)
    with pytest.raises(DataError, match=r"12 of 24 boxes lie within 0..1.*12 are far larger.*--box-units"):
        read_coco(*paths)
    read = read_boxes(read_coco(*paths, conventions=Conventions(box_units="pixels", box_form="xywh")))
    assert np.allclose(read[::2], boxes[::2])


def test_areas_are_those_of_the_boxes_as_they_are_read(tmp_path: Path) -> None:
    boxes = corners()
    images = read_coco(*coco(tmp_path, boxes, shares(xywh)))
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = np.concatenate([record.area for record in images.records])
    np.testing.assert_allclose(areas, sides.prod(axis=1), rtol=1e-4)


def test_a_box_drawn_from_any_corner_keeps_its_corners(tmp_path: Path) -> None:
    boxes = corners()

    def drawn(box: Numbers) -> list[float]:
        x, y, width, height = xywh(box)
        turn = int(box[0] + box[1]) % 4
        across, down = turn in (1, 3), turn in (2, 3)
        return [
            x + width * across,
            y + height * down,
            -width if across else width,
            -height if down else height,
        ]

    images = read_coco(*coco(tmp_path, boxes, drawn))
    np.testing.assert_array_equal(read_boxes(images), boxes)
    assert told(images, "swapped corners") == sum(int(box[0] + box[1]) % 4 > 0 for box in boxes)
    assert dict(images.dropped) == {}


def test_swapped_corners_of_voc_are_sorted(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": [voc_object("cat", (20, 25, 4, 5)), voc_object("cat", (4, 25, 20, 5))]})
    images = read_voc(root, "train")
    assert images.records[0].boxes.tolist() == [[4, 5, 20, 25]] * 2
    assert told(images, "swapped corners") == 2


def test_shares_in_voc_are_recognised(tmp_path: Path) -> None:
    entries = {"a": [voc_object("cat", (0.1, 0.2, 0.5, 0.9))], "b": [voc_object("cat", (0, 0, 1, 0.5))]}
    images = read_voc(write_voc(tmp_path, entries), "train")
    assert [record.boxes.tolist() for record in images.records] == [[[4, 6, 20, 27]], [[0, 0, 40, 15]]]


def test_percent_are_suspected_and_read_on_demand(tmp_path: Path) -> None:
    wide, high = 400, 300
    draw = np.random.default_rng(0)
    boxes = np.vstack([np.hstack([low, low + 20]) for low in draw.integers(0, 79, (22, 1, 2))])
    boxes = np.vstack([boxes, [[70, 70, 98, 97], [0, 0, 30, 30]]]).astype(float)
    folder, file = coco(tmp_path, boxes, xywh)
    content = json.loads(file.read_text())
    for entry in content["images"]:
        entry |= {"width": wide, "height": high}
    write_json(file, content)
    as_written = read_coco(folder, file)
    np.testing.assert_array_equal(read_boxes(as_written), boxes)
    assert told(as_written, "suspected percent") == 24
    read = read_coco(folder, file, conventions=Conventions(box_units="percent"))
    np.testing.assert_allclose(read_boxes(read), boxes * (4, 3, 4, 3), rtol=1e-6)
    assert told(read, "percent") == 24


def test_two_possible_readings_are_refused_with_the_key_that_says_which(tmp_path: Path) -> None:
    """Some stick out as they stand and none do as corners: sloppy boxes, or corners."""
    sides = [[1, 1, 20, 20]] * 16 + [[10, 10, 40, 30]] * 8
    folder, file = coco(tmp_path, np.array(sides, dtype=float), list)
    with pytest.raises(DataError, match=r"8 of 24 boxes stick out .*x1, y1, x2, y2 \(box_form: xyxy\)"):
        read_coco(folder, file)
    as_corners = read_coco(folder, file, conventions=Conventions(box_form="xyxy"))
    np.testing.assert_array_equal(read_boxes(as_corners), sides)
    as_sides = read_coco(folder, file, conventions=Conventions(box_form="xywh"))
    assert read_boxes(as_sides)[-1].tolist() == [10, 10, 40, 30]
    assert read_boxes(as_sides)[0].tolist() == [1, 1, 21, 21]


def test_a_few_boxes_that_stick_out_are_cut_as_before(tmp_path: Path) -> None:
    boxes = corners()
    boxes[:2, 2:] += 60
    images = read_coco(*coco(tmp_path, boxes, xywh))
    assert read_boxes(images)[0, 2:].tolist() == [WIDTH, HEIGHT]
    assert images.notes == {"clipped boxes": 2}


def test_a_small_split_is_read_as_the_training_split_was(tmp_path: Path) -> None:
    """One box says nothing of its form; that of the training split does."""
    from detnas_nni.config import CocoSplit, DetectionData

    train = coco(tmp_path / "train", corners(), list)
    test = coco(tmp_path / "test", np.array([[2.0, 3, 12, 14], [1, 2, 9, 9]]), list)
    sources = [CocoSplit(images=images, annotations=file) for images, file in (train, test)]
    splits = open_detection(DetectionData(train=sources[0], test=sources[1], holdout=2), seed=0)
    assert read_boxes(splits.test).tolist() == [[2, 3, 12, 14], [1, 2, 9, 9]]


def test_strict_refuses_each_of_them(tmp_path: Path) -> None:
    strict = Conventions(strict=True)
    backwards = lambda box: [box[2], box[3], box[0] - box[2], box[1] - box[3]]  # noqa: E731
    for number, form in enumerate((list, shares(xywh), backwards)):
        with pytest.raises(DataError, match=r"24 boxes .*`annotations\[0\]`.*Nothing may be corrected"):
            read_coco(*coco(tmp_path / str(number), corners(), form), conventions=strict)
    read_coco(*coco(tmp_path / "plain", corners(), xywh), conventions=strict)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (90, [15, 10, 25, 30]),
        ("90.0", [15, 10, 25, 30]),
        (180, [10, 15, 30, 25]),
        (45, [9.393, 9.393, 30.607, 30]),
        (-30, [8.84, 10.67, 31.16, 29.33]),
    ],
)
@pytest.mark.parametrize("attributes", ["mapping", "list"])
def test_a_rotated_box_becomes_the_upright_one_around_it(
    tmp_path: Path, degrees: object, expected: list[float], attributes: str
) -> None:
    folder, file = coco(tmp_path, corners(2), xywh)
    image = {"id": 0, "file_name": "0.png", "width": WIDTH, "height": HEIGHT}
    content = coco_of([image], [[[10, 15, 20, 10]]])
    turned = {"rotation": degrees} if attributes == "mapping" else [{"name": "rotation", "value": degrees}]
    content["annotations"][0]["attributes"] = turned
    images = read_coco(folder, write_json(file, content))
    np.testing.assert_allclose(images.records[0].boxes[0], expected, atol=0.01)
    assert told(images, "rotated boxes") == 1


def test_rotated_boxes_of_voc_are_read_as_cvat_and_rolabelimg_write_them(tmp_path: Path) -> None:
    cvat = voc_object("cat", (10, 10, 30, 20)).replace(
        "</object>",
        "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes></object>",
    )
    rolabelimg = (
        "<object><name>cat</name><robndbox><cx>20</cx><cy>15</cy><w>20</w><h>10</h><angle>1.5707963</angle>"
        "</robndbox></object>"
    )
    images = read_voc(write_voc(tmp_path, {"a": [cvat, rolabelimg]}), "train")
    np.testing.assert_allclose(images.records[0].boxes, [[15, 5, 25, 25]] * 2, atol=1e-4)


def test_an_angle_of_many_turns_still_gives_a_box(tmp_path: Path) -> None:
    turned = (
        "<object><name>cat</name><robndbox><cx>20</cx><cy>15</cy><w>20</w><h>10</h><angle>-1e308</angle>"
        "</robndbox></object>"
    )  # its degrees are no finite number
    ((left, top, right, bottom),) = (
        read_voc(write_voc(tmp_path, {"a": [turned]}), "train").records[0].boxes.tolist()
    )
    assert left < right and top < bottom
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((20, 15), abs=1e-4)
