"""What a conversion writes and what it leaves alone; splits that were not meant; the reader goes on from "
"it."""

import json
import shlex
from pathlib import Path

import pytest

from detnas_nni.cli import main
from detnas_nni.data.coco import read_coco
from detnas_nni.data.formats.convert import NOTE, convert
from detnas_nni.data.formats.recognise import recognise
from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, lines, picture, write

BOX = "0 0.5 0.5 0.5 0.25"


def yolo(root: Path, *splits: str) -> Path:
    for split in splits:
        picture(root / split / "images" / f"{split}.jpg")
        lines(root / split / "labels" / f"{split}.txt", BOX)
    lines(root / "classes.txt", "cat", "dog")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_the_coco_reader_goes_on_from_what_was_written(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train", "valid", "test")
    written = convert(recognise(root), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        NOTE,
        "test.json",
        "train.json",
        "val.json",
    ]
    images = read_coco(*written.splits["val"])
    assert images.classes == ("cat", "dog")
    assert images.records[0].file == root / "valid/images/valid.jpg"
    assert images.records[0].boxes.tolist() == [[25, 30, 75, 50]]
    assert images.records[0].area.tolist() == [1000]


def test_the_same_data_gives_the_same_bytes_and_the_data_stays_as_it_is(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train", "test")
    before = contents(root)
    convert(recognise(root), tmp_path / "out")
    first = contents(tmp_path / "out")
    convert(recognise(root), tmp_path / "out")
    assert contents(tmp_path / "out") == first
    assert contents(root) == before


def test_a_split_that_is_gone_from_the_data_is_gone_from_the_conversion(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train", "test")
    convert(recognise(root), tmp_path / "out")
    for file in (root / "test").rglob("*.*"):
        file.unlink()
    convert(recognise(root), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [NOTE, "train.json"]


def test_nothing_else_is_ever_replaced(tmp_path: Path) -> None:
    root, other = yolo(tmp_path / "set", "train"), yolo(tmp_path / "other", "train")
    write(tmp_path / "mine/train.json", "precious")
    with pytest.raises(DataError, match=r"mine: exists and is not a conversion .*expected a new or empty"):
        convert(recognise(root), tmp_path / "mine")
    assert (tmp_path / "mine/train.json").read_text() == "precious"
    convert(recognise(root), tmp_path / "out")
    with pytest.raises(
        DataError, match=r"out: is a conversion of .*set; name another folder, or pass --over"
    ):
        convert(recognise(other), tmp_path / "out")
    convert(recognise(other), tmp_path / "out", overwrite=True)
    assert json.loads((tmp_path / "out" / NOTE).read_text())["source"] == str(other)


def test_the_note_says_what_was_read_and_what_was_left_out(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train")
    lines(root / "train/labels/train.txt", BOX, BOX, "9 0.5 0.5 0.5 0.5")
    note = converted(root, tmp_path / "out").note
    assert note["format"] == "yolo"
    assert note["splits"]["train"] == {
        "images_folder": str(root / "train/images"),
        "annotations": "train.json",
        "images": 1,
        "images_without_boxes": 0,
        "boxes": 1,
        "classes": {"cat": 1, "dog": 0},
    }
    counts = {entry["what"]: (entry["count"], entry["mistake"]) for entry in note["counts"]}
    assert counts == {
        "lines occur twice in their files; kept once": (1, False),
        "entries are wrong; left out": (1, True),
    }
    (first,) = (entry["first"] for entry in note["counts"] if entry["mistake"])
    assert first == [
        f"{root}/train/labels/train.txt: `line 3, class` is '9', expected one of the 2 ids that "
        f"{root}/classes.txt names"
    ]


def test_without_a_box_the_reason_is_quoted(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train")
    lines(root / "train/labels/train.txt", "9 0.5 0.5 0.5 0.5", "8 0.5 0.5 0.5 0.5")
    with pytest.raises(
        DataError, match=r"no boxes are left to train on. 2 entries are wrong; .*`line 1, class`"
    ):
        convert(recognise(root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folders", "splits", "said"),
    [
        (("training", "validation"), ["train", "val"], ""),
        (("train2017", "val2017", "test-dev"), ["train", "val"], "are in no folder of train, val or test"),
        (("val",), ["train"], "there is no training split; val is used for training"),
        (("testing",), ["train"], "there is no training split; test is used for training"),
        (("everything",), ["train"], ""),
        (("train", "more"), ["train"], "1 pictures are in no folder of train, val or test"),
    ],
)
def test_folders_name_the_splits(
    folders: tuple[str, ...], splits: list[str], said: str, tmp_path: Path
) -> None:
    seen = converted(yolo(tmp_path / "set", *folders), tmp_path / "out")
    assert list(seen.splits) == splits
    assert said in seen.remarks
    assert sum(map(len, seen.splits.values())) == len(folders)


def test_the_command_writes_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = yolo(tmp_path / "set", "train")
    lines(root / "train/labels/train.txt", BOX, "9 0.5 0.5 0.5 0.5")
    assert main(["data", "convert", str(root), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"{root}: recognised as YOLO" in out
    assert "train: 1 images, 1 boxes, 2 classes" in out
    assert "What may be wrong with it\n  - 1 entry is wrong; left out; the first: " in out
    command = out.splitlines()[-1].removeprefix("Next: detnas ")
    assert shlex.split(command) == [*("init", "--coco", f"{root}/train/images", f"{tmp_path}/out/train.json")]
    assert main(["data", "convert", str(root), "--out", str(tmp_path / "strict"), "--strict"]) == 1
    assert "--strict skips none" in capsys.readouterr().err


def test_what_is_coco_already_is_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "set/x.json", {"images": [], "annotations": [], "categories": []})
    assert main(["data", "convert", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 2
    assert f"it can be read as it is: detnas init {tmp_path / 'set'}" in capsys.readouterr().err
