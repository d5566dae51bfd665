"""The VOC reader, and that it agrees with the COCO reader on a real set that has both forms."""

import os
from pathlib import Path

import numpy as np
import pytest
from data_builders import voc_object, write_voc

from detnas_nni.data.coco import read_coco
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError
from detnas_nni.voc_metric import voc_map

BOX = (4, 5, 20, 25)


def small_voc(tmp_path) -> Path:
    return write_voc(
        tmp_path,
        {
            "b": [voc_object("dog", BOX), voc_object("cat", (1, 1, 9.5, 9), difficult=1)],
            "a": [],
            "c": [voc_object("cat", BOX)],
        },
    )


def refused(root: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_voc(root, "train", **options)
    message = str(caught.value)
    assert str(root / "ImageSets" / "Main" / "train.txt") in message
    assert "\n" not in message and len(message) < 1000
    return message


def test_a_set_is_read_in_its_order_with_sorted_classes_and_flags(tmp_path):
    images = read_voc(small_voc(tmp_path), "train")
    assert images.classes == ("cat", "dog")
    assert [record.image_id for record in images.records] == [1, 2, 3]
    assert [record.file.name for record in images.records] == ["b.jpg", "a.jpg", "c.jpg"]
    first, empty, _ = images.records
    assert first.boxes.tolist() == [[4, 5, 20, 25], [1, 1, 9.5, 9]]
    assert first.labels.tolist() == [2, 1]
    assert first.difficult.tolist() == [False, True]
    assert not first.crowd.any()
    assert empty.boxes.shape == (0, 4)


def test_one_based_pixels_are_the_devkits(tmp_path):
    images = read_voc(small_voc(tmp_path), "train", one_based=True)
    assert images.records[0].boxes.tolist() == [[3, 4, 20, 25], [0, 0, 9.5, 9]]


def test_the_devkits_pixels_give_the_devkits_overlaps(tmp_path):
    """The first ten pixels of five rows against those of ten: 50 of 100 pixels, an overlap of exactly 0.5."""
    root = write_voc(tmp_path, {"a": [voc_object("cat", (1, 1, 10, 10))]})
    found = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 5], "score": 0.9}]
    values = [
        voc_map(read_voc(root, "train", one_based=one_based).ground_truth(), found)["mAP"]
        for one_based in (True, False)
    ]
    assert values == [1.0, 0.0]


def test_classes_set_the_labels(tmp_path):
    images = read_voc(small_voc(tmp_path), "train", classes=["dog", "horse", "cat"])
    assert images.records[0].labels.tolist() == [1, 3]
    assert images.classes == ("dog", "horse", "cat")


def test_a_name_that_classes_lack_is_refused(tmp_path):
    message = refused(small_voc(tmp_path), classes=["cat"], max_bad=100)
    assert "`Annotations/b.xml: object[0].name` is 'dog'" in message and "`classes`" in message


def test_zero_area_boxes_are_counted_and_boxes_that_stick_out_are_clipped(tmp_path):
    root = write_voc(tmp_path, {"a": [voc_object("cat", (5, 5, 5, 5)), voc_object("cat", (30, 2, 90, 9))]})
    images = read_voc(root, "train")
    assert images.records[0].boxes.tolist() == [[30, 2, 40, 9]]
    assert dict(images.dropped) == {"zero-area boxes": 1}


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        (voc_object("cat", (50, 5, 60, 9)), "object[0].bndbox", "[50, 5, 60, 9]"),
        (voc_object("cat", ("nan", 5, 60, 9)), "object[0].bndbox.xmin", "'nan'"),
        (voc_object("cat", (1, 5, 60, "inf")), "object[0].bndbox.ymax", "'inf'"),
        (voc_object("cat", (1, "x", 60, 9)), "object[0].bndbox.ymin", "'x'"),
        (voc_object("cat", BOX, difficult=5), "object[0].difficult", "'5'"),
        (voc_object("", BOX), "object[0].name", "''"),
        ("<object><name>cat</name></object>", "object[0].bndbox.xmin", "None"),
    ],
)
def test_a_bad_object_is_refused_with_key_and_value_or_left_out(tmp_path, entry, key, value):
    root = write_voc(tmp_path, {"a": [entry, voc_object("cat", BOX)], "b": [voc_object("cat", BOX)]})
    message = refused(root)
    assert f"`Annotations/a.xml: {key}` is {value}" in message
    assert "1 problem in all, 0 allowed" in message and "max_bad_annotations" in message
    images = read_voc(root, "train", max_bad=1)
    assert [len(record.boxes) for record in images.records] == [1, 1]
    assert dict(images.dropped) == {"bad boxes": 1}


BOMB = '<!DOCTYPE a [<!ENTITY x "yyyyyyyy"><!ENTITY z "&x;&x;">]><annotation>&z;</annotation>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<annotation><size>", "a.xml is not XML"),
        ("", "a.xml is not XML"),
        (BOMB, "a.xml has a DOCTYPE"),
        (BOMB.encode("utf-16"), "a.xml has a DOCTYPE"),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "a.xml is not XML"),
        (None, "a.xml cannot be read (No such file"),
    ],
)
def test_a_bad_annotation_file_is_refused_or_leaves_its_image_out(tmp_path, text, expected):
    root = write_voc(tmp_path, {"a": [voc_object("cat", BOX)], "b": [voc_object("cat", BOX)]})
    file = root / "Annotations" / "a.xml"
    if text is None:
        file.unlink()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert expected in refused(root)
    images = read_voc(root, "train", max_bad=1)
    assert [record.file.name for record in images.records] == ["b.jpg"]
    assert dict(images.dropped) == {"bad images": 1}


@pytest.mark.parametrize(("line", "expected"), [("missing", ".jpg, .png"), ("a", "no other line has")])
def test_a_bad_line_of_the_image_set_is_refused_or_left_out(tmp_path, line, expected):
    root = write_voc(tmp_path, {"a": [voc_object("cat", BOX)]})
    (root / "ImageSets" / "Main" / "train.txt").write_text(f"a\n\n{line}\n")
    message = refused(root)
    assert f"`line 3` is '{line}'" in message and expected in message
    assert len(read_voc(root, "train", max_bad=1)) == 1


def test_a_name_out_of_the_folder_is_refused_whatever_is_tolerated(tmp_path):
    root = write_voc(tmp_path, {"a": [voc_object("cat", BOX)]})
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n../../b\n")
    message = refused(root, max_bad=100)
    assert "`line 2` is '../../b'" in message and "out of" in message
    with pytest.raises(DataError, match=r"image set is '../train'"):
        read_voc(root, "../train")


def test_missing_and_empty_sets_are_refused(tmp_path):
    root = write_voc(tmp_path, {"a": []})
    assert "no image of the set has an object" in refused(root)
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n")
    assert "is empty" in refused(root)
    (root / "ImageSets" / "Main" / "train.txt").unlink()
    assert "cannot be read" in refused(root)
    (root / "ImageSets" / "Main" / "train.txt").write_text("b\n")
    assert "no usable image" in refused(root, max_bad=1)


def test_images_may_lie_elsewhere_or_behind_a_link_that_git_wrote_as_text(tmp_path):
    root = write_voc(tmp_path, {"a": [voc_object("cat", BOX)]})
    (root / "JPEGImages").rename(root / "images")
    assert read_voc(root, "train", images=root / "images").records[0].file == root / "images" / "a.jpg"
    (root / "JPEGImages").write_text("images")
    assert read_voc(root, "train").records[0].file == root / "images" / "a.jpg"
    (root / "JPEGImages").write_text("../images")
    with pytest.raises(DataError, match="JPEGImages"):
        read_voc(root, "train")


@pytest.mark.skipif(
    "DETNAS_REAL_DATA" not in os.environ, reason="DETNAS_REAL_DATA does not name the BCCD folder"
)
@pytest.mark.parametrize(("split", "images", "boxes"), [("train", 291, 3954), ("val", 73, 932)])
def test_both_forms_of_bccd_give_the_same_boxes(split, images, boxes):
    root = Path(os.environ["DETNAS_REAL_DATA"])
    classes = ("RBC", "WBC", "Platelets")
    coco = read_coco(root / "images", root / f"{split}.json", classes=classes)
    voc = read_voc(root, split, classes=classes)
    assert len(coco) == len(voc) == images
    assert sum(len(record.boxes) for record in voc.records) == boxes
    by_name = {record.file.name: record for record in coco.records}
    for record in voc.records:
        other = by_name[record.file.name]
        assert (record.width, record.height) == (other.width, other.height)
        np.testing.assert_array_equal(record.boxes, other.boxes)
        np.testing.assert_array_equal(record.labels, other.labels)
        np.testing.assert_array_equal(record.area, other.area)
