"""Each thing that may be wrong with a user's data, made and found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detnas_nni.errors import DataError
from detnas_nni.init.look import describe, look
from detnas_nni.init.problems import problems
from detnas_nni.init.sources import coco_sources, voc_sources
from tests.data.data_builders import truncate, voc_object, write_voc
from tests.init.own_data import coco, edit


def told(train: list[str], val: list[str] | None = None, test: list[str] | None = None) -> list[str]:
    sources = coco_sources(train, val, test, None)
    return [problem.text for problem in problems(look(sources), sources)]


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """What is told of a set with a change, but not of the same set without it."""
    before = told(coco(tmp_path / "before"))
    return [text for text in told(coco(tmp_path / "after", change=change)) if text not in before]


def test_a_sound_set_has_few_boxes_and_nothing_else(tmp_path: Path) -> None:
    (text,) = told(coco(tmp_path))
    assert text.startswith("fewer than 30 boxes of cat (6), dog (6)")


def test_an_absent_class_is_told(tmp_path: Path) -> None:
    texts = changed(tmp_path, lambda content: content["categories"].append({"id": 4, "name": "emu"}))
    assert texts == ["no box to train on of emu; a net cannot learn it"]


def test_boxes_outside_sticking_out_and_without_area_are_told(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for position, bbox in enumerate(([50, 5, 10, 10], [35, 5, 10, 10], [5, 25, 10, 10], [5, 5, 0, 10])):
            content["annotations"][position]["bbox"] = bbox

    texts = changed(tmp_path, change)
    assert "train: 1 box lies entirely outside the image; left out" in texts
    assert "train: 2 boxes extend beyond the image; clipped at its edge" in texts
    assert "train: 1 box has no area; left out" in texts
    (first,) = (text for text in texts if "the first of what is wrong" in text)
    assert "`annotations[0].bbox` is [50, 5, 10, 10]" in first


def test_missing_files_are_told(tmp_path: Path) -> None:
    pair = coco(tmp_path)
    for name in ("3.png", "4.png"):
        (Path(pair[0]) / name).unlink()
    texts = told(pair)
    assert "train: 2 images have no file; left out with their boxes" in texts
    assert not [text for text in texts if "other" in text]


def test_other_mistakes_are_counted_and_quoted(tmp_path: Path) -> None:
    texts = changed(tmp_path, lambda content: content["annotations"][0].update(category_id=77))
    assert "train: 1 other entry is wrong; left out" in texts
    assert any("`annotations[0].category_id` is 77" in text for text in texts)


def test_empty_images_are_told(tmp_path: Path) -> None:
    texts = changed(tmp_path, lambda content: content["annotations"].__delitem__(slice(0, 3)))
    assert any(text.startswith("train: 3 images have no box (25%)") for text in texts)


def test_images_that_cannot_be_decoded_or_have_another_size_are_told(tmp_path: Path) -> None:
    pair = coco(tmp_path)
    truncate(Path(pair[0]) / "0.png")
    edit(pair, lambda content: content["images"][1].update(width=41))
    (text,) = (text for text in told(pair) if "cannot be used" in text)
    assert text.startswith("train: of 12 images that were decoded, 2 cannot be used: ")


def test_one_picture_under_two_names_is_told(tmp_path: Path) -> None:
    train, test = coco(tmp_path, "train"), coco(tmp_path, "test")
    assert not any("two names" in text for text in told(train, test=test))
    shutil.copy(Path(train[0]) / "5.png", Path(test[0]) / "7.png")
    (text,) = (text for text in told(train, test=test) if "two names" in text)
    assert text.startswith("1 picture is in train and in test under two names")
    assert "5.png" in text and "7.png" in text


def test_pictures_that_only_begin_alike_are_two_pictures(tmp_path: Path) -> None:
    """Uncompressed pictures are large, and the upper part of a scan is often white."""
    rows = np.full((800, 500, 3), 255, dtype=np.uint8)
    train, test = coco(tmp_path, "train"), coco(tmp_path, "test")
    for pair, name in ((train, "5"), (test, "7")):

        def large(content: dict[str, Any], name: str = name) -> None:
            content["images"][int(name)].update(file_name=f"{name}.bmp", width=500, height=800)

        edit(pair, large)
        Image.fromarray(rows).save(Path(pair[0]) / f"{name}.bmp")  # whose first rows are the lowest ones
        rows[0] = 0
    assert not any("two names" in text for text in told(train, test=test))
    shutil.copy(Path(train[0]) / "5.bmp", Path(test[0]) / "7.bmp")
    (text,) = (text for text in told(train, test=test) if "two names" in text)
    assert "5.bmp" in text and "7.bmp" in text


def test_a_film_in_the_test_split_is_no_series_of_training_images(tmp_path: Path) -> None:
    def film(content: dict[str, Any]) -> None:
        for entry in content["images"]:
            entry["file_name"] = f"clip_frame_{entry['file_name']}"

    train, test = coco(tmp_path, "train"), coco(tmp_path, "test", change=film)
    for file in sorted(Path(test[0]).iterdir()):
        file.rename(file.with_name(f"clip_frame_{file.name}"))
    assert not any("one series" in text for text in told(train, test=test))


def test_one_file_in_two_splits_is_what_the_steps_refuse(tmp_path: Path) -> None:
    train = coco(tmp_path)
    sources = coco_sources(train, None, train, None)
    first, *_ = problems(look(sources), sources)
    assert first.refused
    assert first.text.startswith("12 image files are both in train and in test")


def test_coordinates_that_may_count_from_one_are_told(tmp_path: Path) -> None:
    def texts(first: int, one_based: bool = False) -> list[str]:
        root = tmp_path / f"voc{first}{one_based}"
        entries = {f"i{i}": [voc_object("cat", (first, first, 20, 20))] for i in range(12)}
        sources = voc_sources(write_voc(root, entries), None, None, None, one_based, None)
        return [p.text for p in problems(look(sources), sources) if "count pixels from 1" in p.text]

    (text,) = texts(1)
    assert "no box begins at 0, and 24 sides begin at 1" in text and "--one-based" in text
    assert texts(1, one_based=True) == texts(0) == texts(2) == []


def test_a_set_without_a_box_is_an_error(tmp_path: Path) -> None:
    pair = coco(tmp_path, change=lambda content: content["annotations"].clear())
    with pytest.raises(DataError, match=r"train.json: there is no box to train on"):
        told(pair)


def test_what_was_found_is_described(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [0, 0, 40, 30]
        content["annotations"].pop()

    lines = describe(look(coco_sources(coco(tmp_path, change=change), None, None, None)))
    text = "\n".join(lines)
    assert lines[0].split()[:5] == ["train", "12", "images,", "11", "boxes"]
    assert [line.split() for line in lines[2:4]] == [["cat", "6", "54.5%"], ["dog", "5", "45.5%"]]
    assert "min 40x30, median 40x30, max 40x30" in text
    assert "min 14, median 14, max 35 pixels" in text  # 10x20 and 40x30
    assert "small (< 32²) 91%, medium 9%, large (≥ 96²) 0%" in text
    assert "median 1, max 1" in text
