"""Numbers, ids and marks of other types: read where there is one reading, the file's own ids given back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks

from detnas_nni.config import CocoSplit, DetectionData
from detnas_nni.data.coco import read_coco
from detnas_nni.data.corrections.segments import around_segmentation, number
from detnas_nni.data.corrections.values import OTHER_BOXES, Ids, box, flag
from detnas_nni.data.entries import Conventions
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import open_detection
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError
from detnas_nni.metrics import coco_box_ap
from tests.data.data_builders import coco_content, voc_object, write_coco, write_voc
from tests.data.scenes import told

Change = Callable[[dict[str, Any]], None]
BOX = (4, 5, 20, 25)


def changed(tmp_path: Path, change: Change, **options: Any) -> DetectionSet:
    content = coco_content()
    change(content)
    return read_coco(*write_coco(tmp_path, content), **options)


def of_first(**keys: Any) -> Change:
    return lambda content: content["annotations"][0].update(keys)


def of_all(key: str, form: Callable[[Any], Any]) -> Change:
    def change(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            entry[key] = form(entry[key])

    return change


def boxes(images: DetectionSet) -> list[list[float]]:
    return [box for record in images.records for box in record.boxes.tolist()]


PLAIN = [[0, 5, 10, 25], [1, 5, 11, 25], [2, 5, 12, 25], [3, 5, 13, 25]]


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("bbox", lambda box: [str(value) for value in box]),
        ("bbox", lambda box: [f" {value}.00 " for value in box]),
        ("bbox", str),
        ("bbox", lambda box: dict(zip(("x", "y", "width", "height"), box, strict=True))),
        ("bbox", lambda box: [box]),
        ("image_id", str),
        ("image_id", float),
        ("category_id", str),
        ("category_id", float),
        ("category_id", lambda own: {3: "cat", 9: "dog"}[own]),
    ],
)
def test_other_types_with_one_reading_are_read_and_counted(
    tmp_path: Path, key: str, form: Callable[[Any], Any]
) -> None:
    images = changed(tmp_path, of_all(key, form))
    assert boxes(images) == PLAIN
    assert [record.labels.tolist() for record in images.records] == [[1], [2], [1], [2]]
    assert [correction.count for correction in images.corrections] == [4]
    with pytest.raises(DataError, match=r"4 .*Nothing may be corrected"):
        changed(tmp_path, of_all(key, form), conventions=Conventions(strict=True))


@pytest.mark.parametrize("value", ["1,5", "one", "nan", "1_0", "٣", "", None, True, [1], "1" * 500])
def test_what_is_no_number_is_a_problem_with_key_and_value(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError, match=r"`annotations\[0\].bbox` is .*expected four finite numbers"):
        changed(tmp_path, of_first(bbox=[value, 1, 2, 3]))


@pytest.mark.parametrize(
    "change",
    [of_first(area=area) for area in ("big", "150", -3, 0, 0.0, None, [], float("nan"))]
    + [of_first(iscrowd=None), of_first(iscrowd="0"), of_first(iscrowd=False), of_first(segmentation=None)]
    + [of_first(attributes={"occluded": True, "truncated": "yes"}), of_first(attributes=None)]
    + [of_first(score="high", id="x", ignore=None, attributes={"rotation": ""})],
)
def test_a_field_that_is_not_needed_costs_no_box(tmp_path: Path, change: Change) -> None:
    images = changed(tmp_path, change)
    assert boxes(images) == PLAIN
    assert images.records[0].area.tolist() in ([200], [150])
    assert not images.records[0].crowd.any() and not images.records[0].difficult.any()


@pytest.mark.parametrize(
    "marks",
    [
        {"iscrowd": 1},
        {"iscrowd": "1"},
        {"iscrowd": True},
        {"is_crowd": "yes"},
        {"ignore": 1},
        {"attributes": {"ignore": True}},
        {"extra": {"ignore": 1}},
        {"attributes": [{"name": "Ignore", "value": "true"}]},
    ],
)
def test_crowds_and_regions_to_ignore_are_not_trained_on_and_counted(
    tmp_path: Path, marks: dict[str, Any]
) -> None:
    images = changed(tmp_path, of_first(**marks))
    assert images.records[0].crowd.tolist() == [True]
    kind = "crowds" if any("crowd" in key for key in marks) else "ignored boxes"
    assert told(images, kind) == 1 and "1 of cat" in images.corrections[0].text
    # A detector that finds nothing there has missed nothing.
    found = [
        entry
        for record in images.records[1:]
        for entry in images.to_coco_detections(record.image_id, record.boxes, [0.9], record.labels)
    ]
    assert coco_box_ap(images.ground_truth(), found)["AP"] == pytest.approx(1.0)


def test_masks_that_cvat_marks_as_crowds_can_be_read_as_objects(tmp_path: Path) -> None:
    images = changed(tmp_path, of_all("iscrowd", lambda _: 1), conventions=Conventions(crowds="objects"))
    assert sum(record.trainable().sum() for record in images.records) == 4
    assert told(images, "crowds") == 0


@pytest.mark.parametrize(
    "mark", [{"difficult": 1}, {"attributes": {"Difficult": "True"}}, {"is_difficult": "1"}]
)
def test_difficult_objects_of_coco_files_are_flagged(tmp_path: Path, mark: dict[str, Any]) -> None:
    images = changed(tmp_path, of_first(**mark))
    assert images.records[0].difficult.tolist() == [True]
    assert told(images, "difficult boxes") == 1


@pytest.mark.parametrize(
    ("text", "difficult"), [("1", True), ("True", True), ("yes", True), ("Unspecified", False), ("", False)]
)
def test_difficult_in_all_its_spellings_in_voc(tmp_path: Path, text: str, difficult: bool) -> None:
    root = write_voc(tmp_path, {"a": [voc_object("cat", BOX, difficult=text)], "b": [voc_object("cat", BOX)]})
    assert read_voc(root, "train").records[0].difficult.tolist() == [difficult]


@pytest.mark.parametrize(
    ("mark", "value"), [("iscrowd", "maybe"), ("iscrowd", 2), ("ignore", 2), ("difficult", [1])]
)
def test_a_mark_that_is_neither_yes_nor_no_is_a_problem(tmp_path: Path, mark: str, value: Any) -> None:
    with pytest.raises(DataError, match=rf"`annotations\[0\].{mark}` is .*expected 0 or 1"):
        changed(tmp_path, of_first(**{mark: value}))


OWN = [
    {"attributes": {"rotation": "left"}},
    {"attributes": {"rotation": True}},
    {"attributes": {"ignore": "shadow", "occluded": True}},
    {"attributes": {"difficult": ["blurred", "dark"]}},
    {"attributes": [{"name": "Difficult", "value": "rather"}]},
    {"ignore": "shadow"},
]


@pytest.mark.parametrize("own", OWN)
def test_an_attribute_of_ones_own_with_the_name_of_a_mark_is_left_alone(
    tmp_path: Path, own: dict[str, Any]
) -> None:
    images = changed(tmp_path, of_first(**own), conventions=Conventions(strict=True))
    assert boxes(images) == PLAIN
    assert sum(record.trainable().sum() for record in images.records) == 4
    assert told(images, "attributes of one's own") == 1


def test_a_mark_beside_an_attribute_of_ones_own_counts(tmp_path: Path) -> None:
    images = changed(tmp_path, of_first(ignore="shadow", attributes={"difficult": "yes", "rotation": "up"}))
    assert images.records[0].difficult.tolist() == [True] and images.records[0].crowd.tolist() == [False]


def test_attributes_of_ones_own_in_voc_are_left_alone(tmp_path: Path) -> None:
    entry = voc_object("cat", BOX, difficult="1").replace(
        "</object>",
        "<ignore>shadow</ignore><attributes><attribute><name>rotation</name><value>left</value></attribute>"
        "</attributes></object>",
    )
    images = read_voc(write_voc(tmp_path, {"a": [entry]}), "train")
    assert images.records[0].boxes.tolist() == [list(BOX)]
    assert images.records[0].difficult.tolist() == [True] and not images.records[0].crowd.any()
    assert told(images, "attributes of one's own") == 1


# Ids.

UUIDS = [f"0b9e1c1e-5f6a-4a57-9e1b-00000000000{number}" for number in range(4)]


@pytest.mark.parametrize(
    "own", [UUIDS, ["1", "2", "3", "x"], [2**60 + number for number in range(4)], [10.0, 11.0, 12.0, 27.0]]
)
def test_ids_of_any_kind_are_kept_and_metrics_get_numbers(tmp_path: Path, own: list[Any]) -> None:
    def change(content: dict[str, Any]) -> None:
        for entry, identity in zip(content["images"], own, strict=True):
            entry["id"] = identity
        for entry, identity in zip(content["annotations"], own, strict=True):
            entry["image_id"] = identity

    images = changed(tmp_path, change)
    assert boxes(images) == PLAIN
    assert [record.own_id for record in images.records] == own
    assert [record.image_id for record in images.records] == [1, 2, 3, 4]
    truth = images.ground_truth()
    assert [entry["image_id"] for entry in truth["annotations"]] == [1, 2, 3, 4]


def test_category_ids_of_any_kind_are_those_that_results_have(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": "d-9", "name": "dog"}, {"id": "c-3", "name": "cat"}]
        for entry in content["annotations"]:
            entry["category_id"] = {3: "c-3", 9: "d-9"}[entry["category_id"]]

    images = changed(tmp_path, change)
    assert images.classes == ("cat", "dog")
    assert images.own_category_ids == ("c-3", "d-9") and images.category_ids == (1, 2)
    assert [record.labels.tolist() for record in images.records] == [[1], [2], [1], [2]]


def test_a_hold_out_of_a_set_with_plain_ids_is_what_it_was(tmp_path: Path) -> None:
    """A run that was begun with an older version goes on: the choice is of its names and ids."""
    folder, file = write_coco(tmp_path, coco_content(30))
    data = DetectionData(train=CocoSplit(images=folder, annotations=file), holdout=6)
    held = open_detection(data, seed=0).search
    assert [record.image_id for record in held.records] == [14, 20, 21, 31, 35, 36]


def test_an_id_and_its_text_are_one(tmp_path: Path) -> None:
    ids: Ids[str] = Ids()
    assert ids.add(7, "seven") and not ids.add("7", "again") and not ids.add(7.0, "again")
    assert ids.add("x", "letter") and not ids.add(True, "one") and not ids.add([], "none")
    assert ids.find("7") == ("seven", True) and ids.find(7) == ("seven", False)
    assert ids.find(7.5)[0] is ids.find("0x7")[0] is ids.find(None)[0] is ids.find(True)[0] is None


def test_noughts_before_a_number_are_passed_over_where_one_id_is_meant() -> None:
    ids: Ids[str] = Ids()
    assert ids.add("000001", "one") and ids.add("02", "two") and ids.add("2", "another two")
    assert ids.find(1) == ("one", True) and ids.find("01") == ("one", True)
    assert ids.find("02") == ("two", False) and ids.find(2) == ("another two", True)
    assert ids.find("0002") == (None, False)


@pytest.mark.parametrize(
    "bbox",
    [
        "10,20,30,40",
        "10 20 30 40",
        "(10.0, 20, 30, 40)",
        "10; 20; 30; 40",
        {"left": 10, "top": 20, "width": 30, "height": 40},
        {"xmin": 10, "ymin": "20", "xmax": 40, "ymax": 60},
        {"x1": 10, "y1": 20, "x2": 40, "y2": 60},
    ],
)
def test_a_box_that_says_itself_what_it_is_has_one_reading(bbox: object) -> None:
    read = box({"bbox": bbox})
    assert read is not None and read.values == (10, 20, 30, 40) and read.otherwise is OTHER_BOXES


@pytest.mark.parametrize("bbox", ["10,20,30", "10,5,20,30,40", "a b c d", "", {"x1": 1, "y1": 2, "x2": 3}])
def test_a_box_of_more_or_fewer_numbers_than_four_has_none(bbox: object) -> None:
    assert box({"bbox": bbox}) is None


def test_numbers_and_flags() -> None:
    assert [number(text) for text in ("1", "-1.5", "1e3", ".5", "+2")] == [1, -1.5, 1000, 0.5, 2]
    assert [flag(value) for value in (1, 0.0, "TRUE", "no", None, "2", 2, [])] == [
        *(True, False, True, False, False, None, None, None)
    ]


# Boxes of segmentations.


def test_an_annotation_without_a_box_has_the_one_around_its_segmentation(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        shapes = [
            [[0, 5, 10, 5, 10, 25, 0, 25]],
            [[1, 5, 6, 25, 1, 25], [11, 5, 8, 8, 9, 9]],
            {"size": [30, 40], "counts": [2 * 30 + 5, *([20, 10] * 10)[:-1], 40 * 30 - 12 * 30 + 5]},
            [3, 5, 13, 5, 13, 25, 3, 25],
        ]
        for entry, shape in zip(content["annotations"], shapes, strict=True):
            del entry["bbox"]
            entry["segmentation"] = shape

    images = changed(tmp_path, change)
    assert boxes(images) == PLAIN
    assert told(images, "boxes of segments") == 4


@pytest.mark.parametrize("seed", range(20))
def test_the_box_of_a_compressed_mask_is_pycocotools_own(seed: int) -> None:
    draw = np.random.default_rng(seed)
    mask = np.zeros((draw.integers(3, 60), draw.integers(3, 60)), dtype=np.uint8, order="F")
    y, x = draw.integers(0, mask.shape[0] - 1), draw.integers(0, mask.shape[1] - 1)
    mask[y : y + draw.integers(1, 40), x : x + draw.integers(1, 40)] = draw.integers(0, 2)
    mask[draw.integers(0, mask.shape[0]), draw.integers(0, mask.shape[1])] = 1
    packed = masks.encode(mask)
    expected = tuple(masks.toBbox(packed).tolist())
    text = {"size": packed["size"], "counts": packed["counts"].decode()}
    assert around_segmentation(text) == expected


@pytest.mark.parametrize(
    "segmentation",
    [
        *(None, [], [[]], [[1, 2, 3]], [["a", 1, 2, 3]], {}, {"size": [0, 4], "counts": []}),
        *({"size": [2, 2], "counts": counts} for counts in ([9], "zzzzzz~", None)),
        {"size": [10**9] * 2, "counts": [1]},
    ],
)
def test_what_is_no_segmentation_has_no_box(segmentation: Any) -> None:
    assert around_segmentation(segmentation) is None
