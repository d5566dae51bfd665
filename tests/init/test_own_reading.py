"""What `detnas init` and the steps say of how annotations were read, and what `--strict` refuses."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detnas_nni.cli import main
from detnas_nni.config.reading import load_config
from detnas_nni.data.splits import open_detection
from detnas_nni.errors import DataError
from detnas_nni.init.look import look
from detnas_nni.init.problems import problems
from detnas_nni.init.sources import coco_sources, voc_sources
from detnas_nni.training.jobs import DetectionJob
from tests.data.data_builders import coco_content, voc_object, write_coco, write_image, write_voc
from tests.init.own_data import coco

Detnas = Callable[..., str]


@pytest.fixture
def detnas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Detnas:
    """detnas(argument, …, status=0): `detnas init` in an empty folder; gives what it prints, or its error."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def run(*arguments: object, status: int = 0) -> str:
        capsys.readouterr()
        call = ["init", *arguments, "--no-timing", "--device", "cpu", "--name", "mine"]
        assert main([str(argument) for argument in call]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def swapped(content: dict[str, Any]) -> None:
    for entry in content["annotations"][:3]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x + width, y + height, -width, -height]


def test_what_was_corrected_is_printed_and_stands_in_the_plan(tmp_path: Path, detnas: Detnas) -> None:
    printed = detnas("--coco", *coco(tmp_path / "data", change=swapped))
    line = "train: 3 boxes have their corners swapped (negative sides); sorted; the first: `annotations[0]` "
    assert f"How the annotations were read (docs/data.md)\n  - {line}" in printed
    plan = Path("experiments/mine/PLAN.md").read_text()
    assert f"How the annotations were read:\n\n- {line}" in plan
    config = load_config("experiments/mine/detnas.yaml")
    whole = open_detection(config.data.detection, 0).whole
    assert whole.records[0].boxes.tolist() == [[0, 5, 10, 25]]


def test_of_a_sound_set_nothing_is_said(tmp_path: Path, detnas: Detnas) -> None:
    assert "How the annotations were read" not in detnas("--coco", *coco(tmp_path / "data"))
    assert "read:" not in Path("experiments/mine/PLAN.md").read_text()


def test_strict_refuses_what_would_be_corrected_and_is_written_where_nothing_is(
    tmp_path: Path, detnas: Detnas
) -> None:
    bad, good = coco(tmp_path / "bad", change=swapped), coco(tmp_path / "good")
    error = detnas("--coco", *bad, "--strict", status=1)
    assert "3 boxes have their corners swapped" in error and "--strict" in error and error.count("\n") == 1
    assert not Path("experiments").exists()
    detnas("--coco", *good, "--strict")
    config = load_config("experiments/mine/detnas.yaml")
    assert config.data.strict
    file = Path(good[1])
    content = json.loads(file.read_text())
    swapped(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"Nothing may be corrected, as `strict` is set"):
        open_detection(config.data.detection, 0, strict=config.data.strict)


def test_what_the_user_says_of_the_boxes_is_written_and_read(tmp_path: Path, detnas: Detnas) -> None:
    def corners(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            entry["bbox"] = [1, 2, 20, 25]

    pair = coco(tmp_path / "data", change=corners)
    detnas("--coco", *pair, "--box-form", "xyxy", "--exif", "stored", "--crowds", "objects")
    data = load_config("experiments/mine/detnas.yaml").data.detection
    assert (data.box_form, data.box_units, data.exif, data.crowds) == ("xyxy", "auto", "stored", "objects")
    assert open_detection(data, 0).whole.records[0].boxes.tolist() == [[1, 2, 20, 25]]


# Reasons.


def gone(content: dict[str, Any]) -> None:
    for entry in content["images"]:
        entry["file_name"] = f"lost-{entry['file_name']}"


def no_box(content: dict[str, Any]) -> None:
    for entry in content["annotations"]:
        entry["bbox"] = [1, 2, 3]


def crowds(content: dict[str, Any]) -> None:
    for entry in content["annotations"]:
        entry["iscrowd"] = 1


def other_ids(content: dict[str, Any]) -> None:
    for entry in content["annotations"]:
        entry["image_id"] = f"x{entry['image_id']}"


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (gone, ["`images[0].file_name` is 'lost-0.png'", "(and 11 more like it)", "most similar is '"]),
        (no_box, ["`annotations[0].bbox` is [1, 2, 3], expected four finite numbers", "11 more like it"]),
        (crowds, ["12 boxes are marked as crowds (iscrowd 1)", "6 of cat", "crowds: objects"]),
        (other_ids, ["`annotations[0].image_id` is 'x10', expected the id of an image", "11 more like it"]),
    ],
)
def test_what_all_entries_share_is_the_reason_that_is_given(
    tmp_path: Path, detnas: Detnas, change: Callable[[dict[str, Any]], None], reasons: list[str]
) -> None:
    error = detnas("--coco", *coco(tmp_path / "data", change=change), status=1)
    for reason in reasons:
        assert reason in error
    assert error.count("\n") == 1


def test_a_voc_set_whose_pictures_are_gone_says_which(tmp_path: Path, detnas: Detnas) -> None:
    root = write_voc(
        tmp_path / "voc", {f"i{number}": [voc_object("cat", (1, 2, 9, 9))] for number in range(12)}
    )
    for file in (root / "JPEGImages").iterdir():
        file.unlink()
    error = detnas("--voc", root, status=1)
    assert "`line 1` is 'i0', expected the name of an image" in error and "11 more like it" in error


# VOC without lists.


def test_a_voc_folder_without_lists_is_one_set_and_a_folder_may_be_the_test_split(
    tmp_path: Path, detnas: Detnas
) -> None:
    for name, count in (("train", 12), ("valid", 3)):
        made = write_voc(
            tmp_path / "made" / name,
            {f"{name}{number}": [voc_object("cat", (number, 2, 19, 9))] for number in range(count)},
        )
        (tmp_path / name).mkdir()
        for part in ("JPEGImages", "Annotations"):
            for file in (made / part).iterdir():
                file.rename(tmp_path / name / file.name)
    write_image(tmp_path / "train/empty.jpg", seed=77)
    printed = detnas("--voc", tmp_path / "train", "--test", tmp_path / "valid", "--backgrounds")
    assert "trained on: all images that have an XML file" in printed
    splits = open_detection(load_config("experiments/mine/detnas.yaml").data.detection, 0)
    assert (len(splits.whole), len(splits.test)) == (13, 3)
    assert sorted(record.boxes[0, 0] for record in splits.test.records) == [0, 1, 2]


# Copies.


def named(root: Path, name: str, names: list[str]) -> list[str]:
    """A split of pictures that are unlike each other, of these names."""
    content = coco_content(len(names))
    for entry, file_name in zip(content["images"], names, strict=True):
        entry["file_name"] = file_name
    folder, file = write_coco(root / name, content, images=False)
    for number, file_name in enumerate(names):
        write_image(folder / file_name, seed=1000 * sum(map(ord, name)) + number)
    return [str(folder), str(file)]


def test_copies_are_held_out_together_and_it_is_said(tmp_path: Path, detnas: Detnas) -> None:
    names = [f"{picture}_jpg.rf.{copy}.png" for picture in "abcdefgh" for copy in "vwxyz"]
    printed = detnas("--coco", *named(tmp_path, "train", names))
    assert "40 images are copies in 8 groups of one picture each" in printed
    config = load_config("experiments/mine/detnas.yaml")
    assert config.data.detection.copies == Path("experiments/mine/copies.json").resolve()
    splits = open_detection(config.data.detection, config.seed)
    pictures = [
        {record.file.name[0] for record in part.records}
        for part in (splits.train, splits.search, splits.test)
    ]
    assert [len(of_split) for of_split in pictures] == [6, 1, 1]
    assert set.union(*pictures) == set("abcdefgh")


@pytest.mark.parametrize(
    ("lengths", "tested"),
    [((16, 9, 9), 9), ((12, 17, 2, 12), 0), ((10, 10, 10), 10), ((6,) * 6, 6), ((20, 7, 7, 7), 7)],
)
def test_of_a_few_videos_whole_ones_are_held_out(
    lengths: tuple[int, ...], tested: int, tmp_path: Path, detnas: Detnas
) -> None:
    names = [
        f"clip{video}_frame_{number}.png" for video, length in enumerate(lengths) for number in range(length)
    ]
    detnas("--coco", *named(tmp_path, "train", names))
    splits = open_detection(load_config("experiments/mine/detnas.yaml").data.detection, 0)
    parts = [part for part in (splits.train, splits.search, splits.test) if part is not None]
    videos = [{record.file.name.partition("_")[0] for record in part.records} for part in parts]
    assert sum(map(len, videos)) == len(set.union(*videos)) == len(lengths)
    assert len(splits.test or ()) == tested


def test_two_videos_alone_are_no_training_search_and_test(tmp_path: Path, detnas: Detnas) -> None:
    names = [f"clip{video}_frame_{number}.png" for video in (0, 1) for number in range(15)]
    assert "too few independent images" in detnas("--coco", *named(tmp_path, "train", names))
    splits = open_detection(load_config("experiments/mine/detnas.yaml").data.detection, 0)
    assert [len(splits.train), len(splits.search), splits.test] == [15, 15, None]


def test_copies_that_look_alike_are_found_whatever_they_are_named(tmp_path: Path, detnas: Detnas) -> None:
    pair = named(tmp_path, "train", [f"{number}.png" for number in range(12)])
    with Image.open(Path(pair[0]) / "4.png") as picture:
        picture.point(lambda value: value // 2 + 60).save(Path(pair[0]) / "9.png")
    assert "2 images are copies in 1 group of" in detnas("--coco", *pair)
    assert json.loads(Path("experiments/mine/copies.json").read_text()) == {"groups": [["4.png", "9.png"]]}


def test_one_series_that_no_hold_out_can_part_is_told(tmp_path: Path, detnas: Detnas) -> None:
    printed = detnas(
        "--coco", *named(tmp_path, "train", [f"clip_frame_{number}.png" for number in range(30)])
    )
    assert "30 of 30 images are one series" in printed
    assert "held out for the search and for the test are not independent" in printed


def test_copies_in_two_splits_are_told(tmp_path: Path) -> None:
    train = named(tmp_path, "train", [f"p{number}_jpg.rf.a.png" for number in range(12)])
    test = named(tmp_path, "test", ["p3.png", "q.png"])
    with Image.open(Path(train[0]) / "p5_jpg.rf.a.png") as picture:
        picture.point(lambda value: value // 2 + 60).save(Path(test[0]) / "q.png")
    sources = coco_sources(train, None, test, None)
    (text,) = (found.text for found in problems(look(sources), sources) if "in copies" in found.text)
    assert text.startswith("1 picture is in train and in test in copies") and "q.png" in text


# The steps.


def test_a_training_logs_how_annotations_were_read(
    tmp_path: Path, make_config: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    images, annotations = coco(tmp_path / "data", change=swapped)
    source = {"images": images, "annotations": annotations}
    data = {
        "classification": None,
        "detection": {"train": source, "search": None, "test": None, "holdout": 2},
    }
    config = make_config(tmp_path / "run", data=data)
    with caplog.at_level(logging.INFO):
        DetectionJob(config, config.finetune)
    lines = [record.getMessage() for record in caplog.records if "swapped" in record.getMessage()]
    assert lines and lines[0].startswith("train: 3 boxes have their corners swapped")


def test_sources_of_a_folder_without_lists_are_all_its_pictures(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": [voc_object("cat", (1, 2, 9, 9))]})
    (root / "ImageSets/Main/train.txt").unlink()
    sources = voc_sources(root, None, None, None, False, None)
    assert sources.train.image_set is None and len(look(sources).train) == 1


def test_twelve_bits_in_files_of_sixteen_are_told_to_be_dark(tmp_path: Path) -> None:
    def told(factor: int) -> list[str]:
        pair = coco(tmp_path / str(factor))
        for number in range(12):
            grey = np.random.default_rng(number).integers(0, 4096, (30, 40)).astype(np.uint16)
            Image.fromarray(grey * factor).save(Path(pair[0]) / f"{number}.png")
        sources = coco_sources(pair, None, None, None)
        return [found.text for found in problems(look(sources), sources) if "nearly black" in found.text]

    (text,) = told(1)
    assert text.startswith("train: no value in its images with more than 8 bits is above 15 of 255")
    assert told(16) == []
