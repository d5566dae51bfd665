"""Categories as classes: unused roots, names that occur twice, splits that list others."""

from pathlib import Path
from typing import Any

import pytest

from detnas_nni.config import CocoSplit, DetectionData
from detnas_nni.data.coco import read_coco
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import DetectionSplits, open_detection
from detnas_nni.errors import DataError
from tests.data.data_builders import coco_content, write_coco
from tests.data.scenes import told

CAT = {"id": 3, "name": "cat", "supercategory": "pets"}
DOG = {"id": 9, "name": "dog", "supercategory": "pets"}


def read(tmp_path: Path, categories: list[dict[str, Any]], **options: Any) -> DetectionSet:
    content = {**coco_content(), "categories": categories}
    return read_coco(*write_coco(tmp_path, content), **options)


def labels(images: DetectionSet) -> list[int]:
    return [label for record in images.records for label in record.labels.tolist()]


def splits(
    tmp_path: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], **keys: Any
) -> DetectionSplits:
    sources = []
    for name, categories in (("train", train), ("test", test)):
        content = {**coco_content(), "categories": categories}
        if len(categories) == 1:
            content["annotations"] = content["annotations"][:: 2 if categories[0]["id"] == 3 else 1]
        folder, file = write_coco(tmp_path / name, content)
        sources.append(CocoSplit(images=folder, annotations=file))
    return open_detection(DetectionData(train=sources[0], test=sources[1], holdout=1, **keys), seed=0)


@pytest.mark.parametrize("root", ["pets", "cat"])
def test_roboflows_unused_root_is_no_class(tmp_path: Path, root: str) -> None:
    below = [{**CAT, "supercategory": root}, {**DOG, "supercategory": root}]
    images = read(tmp_path, [{"id": 0, "name": root, "supercategory": "none"}, *below])
    assert images.classes == ("cat", "dog") and images.own_category_ids == (3, 9)
    assert labels(images) == [1, 2, 1, 2]
    assert told(images, "unused roots") == 1 and "categories[0]" in images.corrections[0].text


def test_a_root_that_has_boxes_or_that_the_config_names_is_a_class(tmp_path: Path) -> None:
    used = [{"id": 3, "name": "pets", "supercategory": "none"}, DOG]
    assert read(tmp_path / "used", used).classes == ("pets", "dog")
    unused = [{"id": 0, "name": "pets", "supercategory": "none"}, CAT, DOG]
    images = read(tmp_path / "named", unused, classes=["dog", "cat", "pets"])
    assert images.classes == ("dog", "cat", "pets") and labels(images) == [2, 1, 2, 1]


def test_an_unused_class_that_stands_above_no_other_stays_one(tmp_path: Path) -> None:
    """As COCO's own, where `person` has the supercategory person."""
    person = {"id": 1, "name": "person", "supercategory": "person"}
    assert read(tmp_path, [person, CAT, DOG]).classes == ("person", "cat", "dog")


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    images = read(tmp_path, [{"id": 9, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 5, "name": "emu"}])
    assert images.classes == ("emu", "cat") and labels(images) == [2, 2, 2, 2]
    assert told(images, "categories of one name") == 1


def test_names_that_people_see_alike_are_one(tmp_path: Path) -> None:
    """A blank behind it, the other form of Unicode; another case is another name."""
    names = ["caf\u00e9", "cafe\u0301", "caf\u00e9 ", "Caf\u00e9"]
    images = read(
        tmp_path, [{"id": own, "name": name} for own, name in zip([3, 9, 4, 5], names, strict=True)]
    )
    assert images.classes == ("caf\u00e9", "Caf\u00e9") and set(labels(images)) == {1}
    assert told(images, "categories of one name") == 2


def test_a_number_as_a_name_is_its_text(tmp_path: Path) -> None:
    images = read(tmp_path, [{"id": 3, "name": 7}, {"id": 9, "name": "8"}])
    assert images.classes == ("7", "8") and told(images, "numbers as names") == 1


def test_ids_of_text_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {"10": "x", "9": "dog", "3": "cat"}
    images = read(tmp_path, [{"id": own, "name": name} for own, name in names.items()])
    assert images.classes == ("cat", "dog", "x") and labels(images) == [1, 2, 1, 2]


@pytest.mark.parametrize("missing", [[], {}, {"supercategory": None}, {"supercategory": 5}])
def test_a_supercategory_is_not_needed(tmp_path: Path, missing: Any) -> None:
    categories = [{"id": 3, "name": "cat", **dict(missing)}, {"id": 9, "name": "dog"}]
    assert read(tmp_path, categories).classes == ("cat", "dog")


def test_a_split_in_another_order_has_the_training_splits_labels(tmp_path: Path) -> None:
    found = splits(tmp_path, [CAT, DOG], [{"id": 9, "name": "cat"}, {"id": 3, "name": "dog"}])
    assert found.test.classes == ("cat", "dog") and labels(found.test) == [2, 1, 2, 1]
    assert found.test.own_category_ids == (9, 3)


def test_a_split_may_lack_a_class_and_it_is_told(tmp_path: Path) -> None:
    found = splits(tmp_path, [CAT, DOG], [CAT])
    assert found.test.classes == ("cat", "dog") and labels(found.test) == [1, 1]
    assert told(found.test, "absent classes") == 1
    assert any("test: 1 class" in line and "'dog'" in line for line in found.told())
    assert len(found.test.category_ids) == len(set(found.test.category_ids)) == 2


def test_names_in_other_letters_are_matched_where_one_fits(tmp_path: Path) -> None:
    found = splits(tmp_path, [CAT, DOG], [{"id": 3, "name": "Cat "}, {"id": 9, "name": "DOG"}])
    assert labels(found.test) == [1, 2, 1, 2] and told(found.test, "names in other letters") == 2


def test_a_class_that_only_another_split_has_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"category_id` is 3 \('emu'\).*the training split, lacks"):
        splits(tmp_path, [CAT, DOG], [{"id": 3, "name": "emu"}, DOG])
    with pytest.raises(DataError, match=r"no category 'cats'.*nearest 'cat'"):
        splits(tmp_path / "typo", [CAT, DOG], [CAT, DOG], classes=("cats", "dog"))


@pytest.mark.parametrize("again", [CAT, {"id": 3, "name": "cat"}, {"id": "3", "name": "cat "}])
def test_a_category_listed_twice_is_taken_once(tmp_path: Path, again: dict[str, Any]) -> None:
    images = read(tmp_path, [DOG, CAT, again])
    assert images.classes == ("cat", "dog") and images.own_category_ids == (3, 9)
    assert labels(images) == [1, 2, 1, 2]
    assert told(images, "categories listed twice") == 1 and "categories[2]" in images.corrections[0].text


def test_one_id_of_two_names_is_refused_with_both(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`categories\[2\].id` is 9, expected .*'dog' and 'emu' have it"):
        read(tmp_path, [DOG, CAT, {"id": 9, "name": "emu"}])
