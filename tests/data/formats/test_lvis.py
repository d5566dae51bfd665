"""LVIS' JSON: COCO without file names, labelled for some classes a picture."""

from pathlib import Path
from typing import Any

import pytest

from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, picture, write


def lvis(**changes: Any) -> dict[str, Any]:
    image = {
        "id": 391895,
        "width": 100,
        "height": 80,
        "coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg",
        "neg_category_ids": [2, 7],
        "not_exhaustive_category_ids": [1],
    }
    box = {"id": 9, "image_id": 391895, "category_id": 7, "bbox": [10.126, 20, 30, 40], "area": 77.5}
    return {
        "images": [image, {**image, "id": 5, "coco_url": "http://images.cocodataset.org/val2017/5.jpg"}],
        "annotations": [box, {**box, "id": 10, "image_id": 5}, *changes.pop("more", [])],
        "categories": [
            {"id": 7, "name": "cat", "frequency": "f", "synset": "cat.n.01"},
            {"id": 1, "name": "dog", "frequency": "r"},
            {"id": 2, "name": "eel", "frequency": "c"},
        ],
        **changes,
    }


def test_pictures_are_found_by_their_address_and_ids_are_kept(tmp_path: Path) -> None:
    picture(tmp_path / "set/train2017/000000391895.jpg")
    write(tmp_path / "set/lvis_v1_train.json", lvis())
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.form == "lvis"
    assert seen.splits == {"train": {"000000391895.jpg": [("cat", 10.13, 20, 30, 40)]}}
    content = seen.content["train"]
    assert [category["id"] for category in content["categories"]] == [1, 2, 7]
    assert content["annotations"][0]["image_id"] == 391895
    assert content["annotations"][0]["area"] == 77.5  # of the mask
    assert "1 picture of the annotations is not in the folder; left out" in seen.remarks
    assert seen.complaints == ""


def test_what_lvis_leaves_unlabelled_is_stated(tmp_path: Path) -> None:
    picture(tmp_path / "set/000000391895.jpg")
    write(tmp_path / "set/lvis_v1_train.json", lvis())
    remarks = converted(tmp_path / "set", tmp_path / "out").remarks
    assert "2 times a class is stated to be absent" in remarks
    assert "1 pictures have classes that are not fully labelled" in remarks
    assert "which is not LVIS' AP" in remarks


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (
            {"image_id": 391895, "category_id": 99, "bbox": [1, 2, 3, 4]},
            r"category_id` is 99, expected the id",
        ),
        (
            {"image_id": 391895, "category_id": 7, "bbox": [1, 2, 3]},
            r"bbox` is \[1, 2, 3\], expected x y width",
        ),
        (
            {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]},
            r"image_id` is 1, expected the id of an image",
        ),
    ],
)
def test_a_wrong_annotation_is_left_out_with_its_key_and_value(
    entry: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    picture(tmp_path / "set/000000391895.jpg")
    write(tmp_path / "set/lvis_v1_train.json", lvis(more=[entry]))
    assert len(converted(tmp_path / "set", tmp_path / "out").splits["train"]["000000391895.jpg"]) == 1
    with pytest.raises(DataError, match=rf"lvis_v1_train.json: `annotations\[2\].{complaint}"):
        converted(tmp_path / "set", tmp_path / "out", strict=True)


def test_categories_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "set/000000391895.jpg")
    write(
        tmp_path / "set/lvis_v1_train.json",
        lvis(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]),
    )
    with pytest.raises(DataError, match=r"`categories\[1\]` is .*whose id or name occurs twice"):
        converted(tmp_path / "set", tmp_path / "out")


def test_pictures_of_version_05_are_found_under_the_name_of_2014_or_by_their_address(tmp_path: Path) -> None:
    for name in ("train2017/000000000009.jpg", "COCO_train2014_000000000025.jpg"):
        picture(tmp_path / "set" / name, (100, 80))
    images = [
        {
            "id": number,
            "width": 100,
            "height": 80,
            "file_name": f"COCO_train2014_{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "not_exhaustive_category_ids": [],
        }
        for number in (9, 25)
    ]
    annotations = [{"image_id": number, "category_id": 1, "bbox": [number, 2, 10, 20]} for number in (9, 25)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    write(tmp_path / "set/lvis_v0.5_train.json", content)
    assert converted(tmp_path / "set", tmp_path / "out").splits["train"] == {
        "000000000009.jpg": [("cat", 9, 2, 10, 20)],
        "COCO_train2014_000000000025.jpg": [("cat", 25, 2, 10, 20)],
    }
