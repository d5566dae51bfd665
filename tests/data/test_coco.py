"""The COCO reader: what it keeps, what it leaves out, what it refuses and how it says so."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from detnas_nni.data.coco import read_coco
from detnas_nni.errors import DataError
from tests.data.data_builders import coco_content, write_coco


def refused(tmp_path, content, *, images=True, **options) -> str:
    """The message of the refusal."""
    folder, file = write_coco(tmp_path, content, images=images)
    with pytest.raises(DataError) as caught:
        read_coco(folder, file, **options)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message and len(message) < 1000
    return message


def test_category_ids_with_gaps_become_labels_in_the_order_of_the_ids(tmp_path):
    images = read_coco(*write_coco(tmp_path, coco_content()))
    assert images.classes == ("cat", "dog")
    assert images.category_ids == (3, 9)
    assert [record.labels.tolist() for record in images.records] == [[1], [2], [1], [2]]
    first = images.records[0]
    assert first.boxes.dtype == np.float32
    assert first.boxes.tolist() == [[0, 5, 10, 25]]
    assert first.area.tolist() == [150]
    assert first.file == tmp_path / "images" / "0.png"


def test_classes_set_the_order_of_the_labels(tmp_path):
    images = read_coco(*write_coco(tmp_path, coco_content()), classes=["dog", "cat"])
    assert images.category_ids == (9, 3)
    assert [record.labels.tolist() for record in images.records] == [[2], [1], [2], [1]]


def test_images_without_boxes_and_crowd_boxes_are_kept(tmp_path):
    content = coco_content()
    del content["annotations"][0]
    content["annotations"][0]["iscrowd"] = 1
    images = read_coco(*write_coco(tmp_path, content))
    assert len(images) == 4
    assert images.records[0].boxes.shape == (0, 4)
    assert images.records[1].crowd.tolist() == [True]
    assert dict(images.dropped) == {}


def test_zero_area_boxes_are_left_out_and_counted_but_are_no_problem(tmp_path, caplog):
    content = coco_content()
    content["annotations"][0]["bbox"] = [3, 3, 0, 8]
    content["annotations"][1]["bbox"] = [3, 3, 5, 0]
    images = read_coco(*write_coco(tmp_path, content), max_bad=0)
    assert [len(record.boxes) for record in images.records] == [0, 0, 1, 1]
    assert dict(images.dropped) == {"zero-area boxes": 2}
    assert "2 zero-area boxes" in caplog.text


def test_boxes_that_stick_out_are_clipped(tmp_path):
    content = coco_content()
    content["annotations"][0]["bbox"] = [-5, -5, 100, 10]
    assert read_coco(*write_coco(tmp_path, content)).records[0].boxes.tolist() == [[0, 0, 40, 5]]


def test_optional_keys_may_be_missing(tmp_path):
    content = coco_content(1)
    del (
        content["annotations"][0]["iscrowd"],
        content["annotations"][0]["area"],
        content["annotations"][0]["id"],
    )
    (record,) = read_coco(*write_coco(tmp_path, content)).records
    assert record.area.tolist() == [200]
    assert not record.crowd.any()


ANNOTATION_PROBLEMS = [
    ("bbox", [50, 5, 10, 10], "40x30"),
    ("bbox", [-20, 5, 10, 10], "40x30"),
    ("bbox", [1, 2, float("nan"), 4], "four finite numbers"),
    ("bbox", [1, 2, float("inf"), 4], "four finite numbers"),
    ("bbox", [1, 2, 10**400, 4], "four finite numbers"),
    ("bbox", [1, 2, 3], "four finite numbers"),
    ("bbox", [1, 2, True, 4], "four finite numbers"),
    ("bbox", "1 2 3", "four finite numbers"),
    ("bbox", None, "four finite numbers"),
    ("category_id", 77, "[3, 9]"),
    ("image_id", 99, "id of an image"),
    ("image_id", [10], "id of an image"),
    ("iscrowd", 2, "0 or 1"),
]


@pytest.mark.parametrize(("key", "value", "expected"), ANNOTATION_PROBLEMS)
def test_a_bad_annotation_is_refused_with_key_and_value_or_left_out(tmp_path, key, value, expected):
    content = coco_content()
    content["annotations"][2][key] = value
    message = refused(tmp_path, content)
    assert f"`annotations[2].{key}` is" in message
    assert repr(value)[:15] in message
    assert expected in message
    assert "1 problem in all, 0 allowed" in message and "max_bad_annotations" in message

    images = read_coco(*write_coco(tmp_path, content), max_bad=1)
    assert [len(record.boxes) for record in images.records] == [1, 1, 0, 1]
    assert dict(images.dropped) == {"bad boxes": 1}


IMAGE_PROBLEMS = [
    ("id", 10, "an id that no other image has"),
    ("id", None, "a number or a text"),
    ("id", "10", "an id that no other image has"),
    ("file_name", "missing.png", "a file that exists"),
    ("file_name", "0.png", "a file that image 10 does not have"),
    ("file_name", "./0.png", "a file that image 10 does not have"),
    ("file_name", 7, "the name of an image file"),
    ("file_name", "a\0b.png", "a file that exists"),
    ("file_name", "no/such/folder.png", "a file that exists"),
]


@pytest.mark.parametrize(("key", "value", "expected"), IMAGE_PROBLEMS)
def test_a_bad_image_entry_is_refused_with_key_and_value_or_left_out(tmp_path, key, value, expected):
    write_coco(tmp_path, coco_content())
    content = coco_content()
    content["images"][2][key] = value
    # Where the id itself is the problem, no image answers to the annotation's id any more.
    content["annotations"][2]["image_id"] = 12 if key != "id" else 13
    message = refused(tmp_path, content, images=False)
    assert f"`images[2].{key}` is {value!r}" in message
    assert expected in message and "max_bad_annotations" in message

    images = read_coco(*write_coco(tmp_path, content, images=False), max_bad=1)
    assert [record.image_id for record in images.records] == [10, 11, 13]
    assert images.dropped["bad images"] == 1
    assert images.dropped.get("boxes of bad images", 0) == (0 if key == "id" else 1)


def test_many_problems_are_counted_in_a_short_message(tmp_path):
    content = coco_content(200)
    for annotation in content["annotations"]:
        annotation["bbox"] = [float("nan")] * 4
    folder, file = write_coco(tmp_path, content)
    with pytest.raises(
        DataError, match=r"\(and 199 more like it\). 200 problems in all, 199 allowed"
    ) as caught:
        read_coco(folder, file, max_bad=199)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "C:\\x.png", "..\\x.png"])
def test_a_path_out_of_the_image_folder_is_refused_whatever_is_tolerated(tmp_path, name):
    write_coco(tmp_path, coco_content())
    (tmp_path / "secret.png").write_bytes(b"x")
    content = coco_content()
    content["images"][1]["file_name"] = name
    message = refused(tmp_path, content, images=False, max_bad=1000)
    assert (
        "`images[1].file_name`" in message and repr(name) in message and "out of the image folder" in message
    )


def test_a_category_that_classes_lack_is_refused_when_it_is_used(tmp_path):
    message = refused(tmp_path, coco_content(), classes=["cat"], max_bad=1000)
    assert "`annotations[1].category_id` is 9 ('dog')" in message and "`classes`" in message
    unused = coco_content()
    unused["annotations"] = unused["annotations"][::2]
    assert read_coco(*write_coco(tmp_path, unused), classes=["cat"]).classes == ("cat",)


def test_a_class_that_the_file_lacks_is_refused(tmp_path):
    message = refused(tmp_path, coco_content(), classes=["cat", "dog", "horse"])
    assert "'horse'" in message and "`classes`" in message


def test_classes_named_twice_are_refused(tmp_path):
    assert "`classes`" in refused(tmp_path, coco_content(), classes=["cat", "cat"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{not json", "is not JSON"),
        ("[]", "holds a list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [], "annotations": []}', "lacks the key `categories`"),
        ('{"images": {}, "annotations": [], "categories": []}', "`images` is a dict"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "`images` is empty"),
        ('{"images": [1], "annotations": [], "categories": []}', "`categories` is empty"),
        (
            '{"images": [1], "annotations": [], "categories": [{"id": [], "name": "a"}]}',
            "`categories[0].id`",
        ),
        ('{"images": [1], "annotations": [], "categories": [{"id": 1, "name": ""}]}', "`categories[0].name`"),
        ('{"images": [1], "annotations": [], "categories": [7]}', "`categories[0]` is 7"),
        (
            '{"images": [1], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
            "no usable image is left of 1: `images[0]` is 1",
        ),
    ],
)
def test_a_file_that_is_no_annotation_file_is_refused_whatever_is_tolerated(tmp_path, text, expected):
    assert expected in refused(tmp_path, text, images=False, max_bad=1000)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    folder, file = write_coco(tmp_path, coco_content())
    file.write_bytes(b"\xff\xfe\x00\xd8" * 9)
    with pytest.raises(DataError, match="is not JSON"):
        read_coco(folder, file)


def test_a_missing_annotation_file_or_folder_is_refused(tmp_path):
    folder, file = write_coco(tmp_path, coco_content())
    with pytest.raises(DataError, match=r"none.json: cannot be read \(No such file"):
        read_coco(folder, tmp_path / "none.json")
    with pytest.raises(DataError, match=r"nowhere: the folder cannot be read.*`images`"):
        read_coco(tmp_path / "nowhere", file)


def test_duplicate_categories_are_refused(tmp_path):
    content = coco_content()
    content["categories"][1]["id"] = 9
    assert "`categories[1].id` is 9" in refused(tmp_path, content)
    content["categories"][1]["id"] = "9"
    assert "`categories[1].id` is '9'" in refused(tmp_path, content)


def test_images_in_folders_below_are_found_with_one_listing_a_folder(tmp_path, monkeypatch):
    content = coco_content(6)
    for number, entry in enumerate(content["images"]):
        entry["file_name"] = f"part{number % 2}/{entry['file_name']}"
    folder, file = write_coco(tmp_path, content)
    listed: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path)) or scandir(path))
    assert len(read_coco(folder, file)) == 6
    assert sorted(listed) == [folder, folder / "part0", folder / "part1"]


def test_what_is_read_can_be_written_and_read_again(tmp_path):
    content = coco_content()
    content["annotations"][0]["iscrowd"] = 1
    folder, file = write_coco(tmp_path, content)
    images = read_coco(folder, file)
    file.write_text(json.dumps(images.ground_truth()))
    again = read_coco(folder, file)
    for one, other in zip(images.records, again.records, strict=True):
        for name in ("boxes", "labels", "crowd", "area"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (again.classes, again.category_ids) == (images.classes, images.category_ids)
