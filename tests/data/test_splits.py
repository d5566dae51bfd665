"""A config's data sections, opened: several sources as one split, hold-outs, and trial runs on a part."""

from pathlib import Path
from typing import Any

import pytest

from detnas_nni.config import ClassificationData, CocoSplit, DetectionData, VocSplit
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import open_classification, open_detection
from detnas_nni.errors import DataError
from detnas_nni.metrics import coco_box_ap
from detnas_nni.metrics.voc import voc_map
from tests.data.data_builders import coco_content, voc_object, write_coco, write_image, write_voc

BOX = (4, 5, 20, 25)


def voc(root: Path, objects: dict[str, list[str]], one_based: bool = False) -> VocSplit:
    """A VOC folder with these objects, as a source."""
    write_voc(root, objects)
    return VocSplit(root=root, image_set="train", one_based=one_based)


def coco(root: Path, content: dict[str, Any] | None = None) -> CocoSplit:
    folder, file = write_coco(root, coco_content() if content is None else content)
    return CocoSplit(images=folder, annotations=file)


def detection(train: Any, **keys: Any) -> DetectionData:
    sources = train if isinstance(train, tuple) else (train,)
    form = "voc" if isinstance(sources[0], VocSplit) else "coco"
    return DetectionData(format=form, train=train, **{"holdout": 1, **keys})


def train_of(tmp_path: Path, *sources: CocoSplit | VocSplit, **keys: Any) -> DetectionSet:
    """The whole training split: a search split of its own saves it from a hold-out."""
    of_voc = isinstance(sources[0], VocSplit)
    search = voc(tmp_path / "search", {"s": []}) if of_voc else coco(tmp_path / "search")
    return open_detection(detection(sources, search=search, **keys), seed=0).train


def files(images: DetectionSet) -> list[str]:
    return [f"{record.file.parents[1].name}/{record.file.name}" for record in images.records]


def ids(images: DetectionSet) -> list[int]:
    return [record.image_id for record in images.records]


def perfect(images: DetectionSet) -> list[dict[str, Any]]:
    """Each box of the set, detected."""
    return [
        entry
        for record in images.records
        for entry in images.to_coco_detections(
            record.image_id, record.boxes, [0.5] * len(record.boxes), record.labels
        )
    ]


# Several sources.


def test_voc_sources_are_one_set_with_all_classes_sorted(tmp_path):
    """As VOC2007 and VOC2012: line numbers that collide, classes that one of them lacks."""
    first = voc(tmp_path / "2007", {"a": [voc_object("dog", BOX)], "b": [voc_object("cat", BOX, 1)]}, True)
    second = voc(tmp_path / "2012", {"c": [voc_object("dog", BOX), voc_object("ant", BOX)], "d": []})
    images = train_of(tmp_path, first, second)
    assert files(images) == ["2007/a.jpg", "2007/b.jpg", "2012/c.jpg", "2012/d.jpg"]
    assert ids(images) == [1, 2, 3, 4]
    assert images.classes == ("ant", "cat", "dog")
    assert [record.labels.tolist() for record in images.records] == [[3], [2], [3, 1], []]
    assert [record.difficult.tolist() for record in images.records] == [[False], [True], [False, False], []]
    assert images.records[0].boxes.tolist() == [[3, 4, 20, 25]]  # one_based is each source's own
    assert images.records[2].boxes[0].tolist() == [4, 5, 20, 25]
    assert images.name == " + ".join(
        str(tmp_path / year / "ImageSets" / "Main" / "train.txt") for year in ("2007", "2012")
    )


def test_what_was_left_out_is_added_up(tmp_path):
    flat, fine = voc_object("cat", (5, 5, 5, 9)), voc_object("cat", BOX)
    sources = [voc(tmp_path / name, {name: [flat, fine]}) for name in ("x", "y")]
    bad = voc(tmp_path / "z", {"z": [voc_object("cat", (1, 1, "?", 9)), fine]})
    images = train_of(tmp_path, *sources, bad, max_bad_annotations=1)
    assert dict(images.dropped) == {"zero-area boxes": 2, "bad boxes": 1}
    with pytest.raises(TypeError):
        images.dropped["more"] = 1


def test_given_classes_are_those_of_every_source(tmp_path):
    sources = [voc(tmp_path / name, {name: [voc_object(name, BOX)]}) for name in ("cat", "dog")]
    images = train_of(tmp_path, *sources, classes=("horse", "dog", "cat"))
    assert images.classes == ("horse", "dog", "cat")
    assert [record.labels.tolist() for record in images.records] == [[3], [2]]


def test_one_source_in_a_list_keeps_its_ids(tmp_path):
    images = train_of(tmp_path, coco(tmp_path))
    assert ids(images) == [10, 11, 12, 13] and images.category_ids == (3, 9)
    assert images.name == str(tmp_path / "train.json")


def test_coco_sources_with_the_same_ids_and_differently_numbered_categories_are_joined_by_name(tmp_path):
    other = coco_content()
    other["categories"] = [{"id": 1, "name": "dog"}, {"id": 9, "name": "cat"}]
    for entry in other["annotations"]:
        entry["category_id"] = 1
    images = train_of(tmp_path, coco(tmp_path / "first"), coco(tmp_path / "second", other))
    assert images.classes == ("cat", "dog")
    assert [record.labels.tolist() for record in images.records] == [[1], [2], [1], [2], *[[2]] * 4]
    assert ids(images) == [*range(1, 9)]


def test_the_ground_truth_of_joined_sources_fits_their_detections(tmp_path):
    images = train_of(tmp_path, coco(tmp_path / "first"), coco(tmp_path / "second"))
    truth = images.ground_truth()
    assert len({image["id"] for image in truth["images"]}) == 8
    assert coco_box_ap(truth, perfect(images))["AP"] == pytest.approx(1.0)
    # Half of the objects, those of the second file, go missing: an id that stood for two would hide it.
    half = [entry for entry in perfect(images) if entry["image_id"] <= 4]
    assert voc_map(truth, half)["mAP"] == pytest.approx(0.5)


def test_coco_sources_that_list_other_categories_have_the_classes_of_all_and_that_is_told(tmp_path):
    other = coco_content()
    other["categories"] = [{"id": 4, "name": "ant"}, {"id": 9, "name": "dog"}]
    for entry in other["annotations"]:
        entry["category_id"] = 4
    images = train_of(tmp_path, coco(tmp_path / "first"), coco(tmp_path / "second", other))
    assert images.classes == ("cat", "dog", "ant")
    assert [record.labels.tolist() for record in images.records] == [[1], [2], [1], [2], *[[3]] * 4]
    told = [correction.text for correction in images.corrections]
    assert all(text.startswith("1 class is listed in one source of the split and not in") for text in told)
    assert "first/train.json lacks 'ant'" in told[0] and "second/train.json lacks 'cat'" in told[1]


def test_an_image_in_two_sources_is_refused(tmp_path):
    source = coco(tmp_path / "first")
    with pytest.raises(DataError, match=r"share 4 image file.*expected each image in only one source"):
        train_of(tmp_path, source, coco(tmp_path / "second"), source)


def test_files_of_one_name_in_two_folders_are_two_images_also_for_a_hold_out(tmp_path):
    objects = {name: [voc_object("cat", BOX)] for name in "abcdef"}
    sources = (voc(tmp_path / "2007", objects), voc(tmp_path / "2012", objects))
    splits = open_detection(detection(sources, holdout=5), seed=3)
    assert len(splits.search) == 5 and len(splits.train) == 7
    assert len({*files(splits.train), *files(splits.search)}) == 12
    assert splits.search.classes == ("cat",)


def test_a_test_split_of_several_sources_has_the_training_splits_labels(tmp_path):
    train = voc(tmp_path / "train", {n: [voc_object("cat", BOX), voc_object("dog", BOX)] for n in "ab"})
    test = [voc(tmp_path / name, {name: [voc_object("dog", BOX)]}) for name in ("t", "u")]
    splits = open_detection(detection(train, test=tuple(test)), seed=0)
    assert splits.test.classes == ("cat", "dog")
    assert [record.labels.tolist() for record in splits.test.records] == [[2], [2]]
    with pytest.raises(DataError, match=r"share 2 image file.*says nothing about unseen images"):
        open_detection(detection((train, test[0]), test=(test[1], train)), seed=0)


# A part of the images, for a trial run.


def test_a_part_of_a_detection_split_is_its_first_images_with_a_box_to_train_on(tmp_path):
    cat, hard = voc_object("cat", BOX), voc_object("cat", BOX, difficult=1)
    train = voc(tmp_path / "train", {"a": [], "b": [hard], "c": [cat], "d": [hard, cat], "e": [cat]})
    search = voc(tmp_path / "search", {"s": [cat], "t": [cat], "u": [voc_object("cat", BOX)]})
    test = voc(tmp_path / "test", {"x": [], "y": []} | {"z": [cat]})

    def parts(count: int, **keys: Any) -> list[list[str]]:
        splits = open_detection(detection(train, search=search, test=test, **keys), 0, max_images=count)
        return [
            [record.file.stem for record in s.records] for s in (splits.train, splits.search, splits.test)
        ]

    assert parts(2) == [["c", "d"], ["s", "t"], ["x", "z"]]
    assert parts(2, train_difficult=True) == [["b", "c"], ["s", "t"], ["x", "z"]]
    assert parts(4) == [["a", "c", "d", "e"], ["s", "t", "u"], ["x", "y", "z"]]
    assert parts(9) == [[*"abcde"], [*"stu"], [*"xyz"]]


def test_a_part_has_the_classes_of_the_whole_and_its_hold_out(tmp_path):
    objects = {name: [voc_object(f"class {name}", BOX)] for name in "abcdef"}
    source = voc(tmp_path, objects)
    splits = open_detection(detection(source, holdout=3), seed=1)
    part = open_detection(detection(source, holdout=3), seed=1, max_images=2)
    assert part.train.classes == splits.train.classes and len(part.train.classes) == 6
    assert ids(part.train) == ids(splits.train)[:2] and ids(part.search) == ids(splits.search)[:2]
    assert "(2 of 3)" in part.train.name
    with pytest.raises(DataError, match="6 images to hold out"):
        open_detection(detection(source, holdout=6), seed=1, max_images=2)


def classification(root: Path, **keys: Any) -> ClassificationData:
    """Four classes of eight training and three test images."""
    for part, count in (("train", 8), ("test", 3)):
        for name in "abcd":
            for number in range(count):
                write_image(root / part / name / f"{number}.png", 8, 8)
    return ClassificationData(train=root / "train", test=root / "test", **{"holdout": 12, **keys})


def test_a_part_of_a_classification_split_is_spread_over_the_classes(tmp_path):
    data = classification(tmp_path)
    splits = open_classification(data, 0, max_images=4)
    for part in (splits.train, splits.search, splits.test):
        assert part.classes == ("a", "b", "c", "d")
        assert part.labels.tolist() == [0, 1, 2, 3]
        assert [file.parent.name for file in part.files] == ["a", "b", "c", "d"]
    assert len(set(splits.train.files) & set(splits.search.files)) == 0
    assert open_classification(data, 0, max_images=2).train.labels.tolist() == [0, 2]
    whole = open_classification(data, 0)
    assert open_classification(data, 0, max_images=1000).train.files == whole.train.files
    assert [len(part) for part in (whole.train, whole.search, whole.test)] == [20, 12, 12]


def test_a_hold_out_of_all_is_refused_however_few_images_are_used(tmp_path):
    data = classification(tmp_path, holdout=32)
    with pytest.raises(DataError, match="32 images are to be held out"):
        open_classification(data, 0, max_images=4)


def test_a_final_net_is_trained_on_what_the_search_held_out_too(shapes: Path) -> None:
    split = CocoSplit(images=shapes / "detection/train", annotations=shapes / "detection/train.json")
    splits = open_detection(detection(split, holdout=5), seed=0)
    assert (len(splits.train), len(splits.search)) == (19, 5)
    assert sorted(ids(splits.whole)) == sorted(ids(splits.train) + ids(splits.search))
    labelled = ClassificationData(train=shapes / "classification/train", holdout=12)
    classes = open_classification(labelled, seed=0)
    assert sorted(classes.whole.files) == sorted(classes.train.files + classes.search.files)


def test_a_search_split_of_its_own_stays_out_of_every_training(shapes: Path) -> None:
    train, search = (
        CocoSplit(images=shapes / f"detection/{name}", annotations=shapes / f"detection/{name}.json")
        for name in ("train", "search")
    )
    splits = open_detection(detection(train, search=search), seed=0)
    assert files(splits.whole) == files(splits.train)


def test_a_held_out_test_split_is_the_same_for_every_seed_and_in_no_training(shapes: Path) -> None:
    split = CocoSplit(images=shapes / "detection/train", annotations=shapes / "detection/train.json")
    data = detection(split, holdout=5, test_holdout=4)
    opened = [open_detection(data, seed=seed) for seed in (0, 1)]
    assert files(opened[0].test) == files(opened[1].test)
    assert files(opened[0].search) != files(opened[1].search)
    for splits in opened:
        assert [len(part) for part in (splits.test, splits.search, splits.train)] == [4, 5, 15]
        assert set(files(splits.whole)) == {*files(splits.train), *files(splits.search)}
        assert not set(files(splits.whole)) & set(files(splits.test))
    whole = {name for part in (opened[0].whole, opened[0].test) for name in files(part)}
    assert len(whole) == 24


def test_a_test_split_is_named_or_held_out(shapes: Path) -> None:
    split = CocoSplit(images=shapes / "detection/train", annotations=shapes / "detection/train.json")
    with pytest.raises(ValueError, match="`test_holdout` has no meaning"):
        detection(split, test=split, test_holdout=4)


def test_a_test_split_whose_copies_are_trained_on_is_told(tmp_path: Path) -> None:
    content = coco_content(12)
    for number, entry in enumerate(content["images"]):
        entry["file_name"] = f"p{number // 2}_jpg.rf.{number % 2}.png"
    splits = open_detection(detection(coco(tmp_path, content), holdout=1, test_holdout=3), seed=0)
    assert any("so the reported AP is too high. Name a test split" in sentence for sentence in splits.leaks)


def test_a_held_out_test_split_depends_on_the_files_names_alone(tmp_path: Path) -> None:
    def tested(count: int, first_id: int) -> set[str]:
        content = coco_content(count)
        for number, entry in enumerate(content["images"]):
            entry["id"] = content["annotations"][number]["image_id"] = first_id + number
        source = coco(tmp_path / str(first_id), content)
        return {
            record.file.name for record in open_detection(detection(source, test_holdout=4), 0).test.records
        }

    before = tested(20, 1)
    assert tested(20, 500) == before
    assert len(tested(21, 900) & before) >= 3  # the new one takes at most one's place


def test_the_last_image_with_a_class_is_not_held_out_for_the_test(tmp_path: Path) -> None:
    for only in range(10):
        content = coco_content(20)
        for number, annotation in enumerate(content["annotations"]):
            annotation["category_id"] = 9 if number == only else 3
        splits = open_detection(detection(coco(tmp_path / str(only), content), test_holdout=10), 0)
        assert f"{only}.png" in {record.file.name for record in splits.whole.records}
        assert len(splits.test) == 10
