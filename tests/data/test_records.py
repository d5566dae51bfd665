"""Splitting detection sets, and their way to pycocotools and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detnas_nni.data.coco import read_coco
from detnas_nni.data.records import check_disjoint
from detnas_nni.errors import DataError, EvaluationError
from tests.data.data_builders import coco_content, coco_set, write_coco


def ids(images) -> list[int]:
    return [record.image_id for record in images.records]


def test_a_hold_out_is_seeded_disjoint_complete_and_in_order(tmp_path):
    images = coco_set(tmp_path, 30)
    rest, held = images.hold_out(10, seed=1)
    assert (len(rest), len(held)) == (20, 10)
    assert sorted(ids(rest) + ids(held)) == ids(images)
    assert ids(rest) == sorted(ids(rest)) and ids(held) == sorted(ids(held))
    assert ids(images.hold_out(10, seed=1)[1]) == ids(held)
    assert ids(images.hold_out(10, seed=2)[1]) != ids(held)
    check_disjoint(rest, held)


def test_a_hold_out_is_the_same_when_the_file_lists_its_images_in_another_order(tmp_path):
    images = coco_set(tmp_path, 30)
    turned = images.subset(range(29, -1, -1))
    assert sorted(ids(turned.hold_out(10, seed=1)[1])) == ids(images.hold_out(10, seed=1)[1])


@pytest.mark.parametrize("count", [0, -1, 4, 5])
def test_a_hold_out_that_leaves_a_split_empty_is_refused(tmp_path, count):
    with pytest.raises(DataError, match=rf"train.json: data.detection.holdout is {count}, expected 1 to 3"):
        coco_set(tmp_path).hold_out(count, seed=0)


def test_splits_that_share_a_file_are_refused_also_behind_a_link(tmp_path):
    first = coco_set(tmp_path / "first")
    second = coco_set(tmp_path / "second")
    check_disjoint(first, second)
    shared = tmp_path / "second" / "images" / "2.png"
    shared.unlink()
    shared.symlink_to(first.records[1].file)
    with pytest.raises(DataError, match=r"share 1 image file.*first/images/1\.png"):
        check_disjoint(first, second)
    (tmp_path / "link").symlink_to(tmp_path / "first" / "images")
    linked = read_coco(tmp_path / "link", tmp_path / "first" / "train.json")
    with pytest.raises(DataError, match="share 4 image file"):
        check_disjoint(first, linked)


def test_the_ground_truth_keeps_the_sets_own_ids_flags_and_areas(tmp_path):
    content = coco_content()
    content["annotations"][1]["iscrowd"] = 1
    images = read_coco(*write_coco(tmp_path, content))
    truth = images.ground_truth()
    assert [image["id"] for image in truth["images"]] == [10, 11, 12, 13]
    assert truth["categories"] == [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    assert truth["annotations"][1] == {
        "id": 2,
        "image_id": 11,
        "category_id": 9,
        "bbox": [1.0, 5.0, 10.0, 20.0],
        "area": 150.0,
        "iscrowd": 1,
        "difficult": 0,
    }


def test_detections_carry_the_sets_category_ids(tmp_path):
    images = coco_set(tmp_path)
    boxes = torch.tensor([[1.0, 2.0, 4.0, 8.0], [0.0, 0.0, 1.0, 1.0]], requires_grad=True)
    found = images.to_coco_detections(11, boxes, torch.tensor([0.5, 0.25]), torch.tensor([2, 1]))
    assert found == [
        {"image_id": 11, "category_id": 9, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5},
        {"image_id": 11, "category_id": 3, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.25},
    ]
    assert images.to_coco_detections(11, np.zeros((0, 4)), [], []) == []


@pytest.mark.parametrize("label", [0, 3])
def test_a_label_without_a_class_is_refused(tmp_path, label):
    with pytest.raises(EvaluationError, match=f"label {label}, expected 1 to 2"):
        coco_set(tmp_path).to_coco_detections(10, [[0, 0, 1, 1]], [0.5], [label])


def test_records_cannot_be_changed(tmp_path):
    images = coco_set(tmp_path)
    with pytest.raises(AttributeError):
        images.name = "other"
    with pytest.raises(TypeError):
        images.dropped["more"] = 1
    assert replace(images, name="other").name == "other"
