"""KITTI's label files."""

from pathlib import Path

import pytest

from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, lines, picture

REST = "1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"


def row(name: str, box: str = "10.5 20.00 40.5 60.00") -> str:
    return f"{name} 0.00 0 -1.58 {box} {REST}"


def kitti(root: Path) -> Path:
    """training/label_2 beside training/image_2, and testing/image_2, of which no label is published."""
    for name in ("000000", "000001"):
        picture(root / f"training/image_2/{name}.png")
        picture(root / f"testing/image_2/{name}.png", (50, 50))
    lines(root / "training/label_2/000000.txt", row("Car"), row("Van", "0 0 5 5"))
    lines(root / "training/label_2/000001.txt", row("Car"))
    return root


def test_labels_belong_to_the_pictures_of_the_folder_beside_them(tmp_path: Path) -> None:
    seen = converted(kitti(tmp_path / "set"), tmp_path / "out")
    assert seen.form == "kitti"
    assert seen.splits == {
        "train": {
            "000000.png": [("Car", 10.5, 20.0, 30.0, 40.0), ("Van", 0.0, 0.0, 5.0, 5.0)],
            "000001.png": [("Car", 10.5, 20.0, 30.0, 40.0)],
        }
    }
    assert {image["width"] for image in seen.content["train"]["images"]} == {100}
    assert "2 pictures that no annotation names were left out" in seen.remarks


def test_a_region_that_nobody_cares_about_is_a_crowd_of_every_class(tmp_path: Path) -> None:
    root = kitti(tmp_path / "set")
    box = "DontCare -1 -1 -10 50 10 70 30 -1 -1 -1 -1000 -1000 -1000 -10"
    lines(root / "training/label_2/000001.txt", box, row("Car"))
    seen = converted(root, tmp_path / "out")
    assert seen.splits["train"]["000001.png"] == [
        ("Car", 10.5, 20.0, 30.0, 40.0),
        ("Car", 50.0, 10.0, 20.0, 20.0, "crowd"),
        ("Van", 50.0, 10.0, 20.0, 20.0, "crowd"),
    ]
    assert "1 region to ignore (DontCare, __ignore__) is a crowd of every class" in seen.remarks


def test_scores_of_predictions_are_counted_and_empty_files_are_background(tmp_path: Path) -> None:
    root = kitti(tmp_path / "set")
    lines(root / "training/label_2/000000.txt", f"{row('Car')} 0.93")
    lines(root / "training/label_2/000001.txt")
    seen = converted(root, tmp_path / "out", form="kitti")
    assert seen.splits["train"]["000000.png"] == [("Car", 10.5, 20.0, 30.0, 40.0)]
    assert "1 box has a confidence" in seen.remarks


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("Car 0 0 0 1 2 3", "`line 2` is 'Car 0 0 0 1 2 3', expected 15 columns"),
        (row("Car", "10 twenty 30 40"), "`line 2` is 'twenty', expected a finite number of pixels"),
    ],
)
def test_a_wrong_line_is_left_out_with_its_number_and_value(
    line: str, complaint: str, tmp_path: Path
) -> None:
    root = kitti(tmp_path / "set")
    lines(root / "training/label_2/000001.txt", row("Car"), line)
    assert len(converted(root, tmp_path / "out").splits["train"]["000001.png"]) == 1
    with pytest.raises(DataError, match=f"000001.txt: {complaint}"):
        converted(root, tmp_path / "out", strict=True)


def test_labels_without_a_picture_are_named(tmp_path: Path) -> None:
    root = kitti(tmp_path / "set")
    lines(root / "training/label_2/000007.txt", row("Car"))
    seen = converted(root, tmp_path / "out")
    assert "000007.txt, by its own name, names 'training/image_2/000007'" in seen.complaints


def test_a_name_with_blanks_moves_no_column(tmp_path: Path) -> None:
    picture(tmp_path / "set/training/image_2/000000.png", (100, 80))
    row = "Person sitting 0.00 0 1.5 10 20 40 50 1 2 3 4 5 6 1.5"
    lines(tmp_path / "set/training/label_2/000000.txt", row, f"{row} 0.75")
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"] == {"000000.png": [("Person sitting", 10, 20, 30, 30)] * 2}
    assert "1 box has a confidence" in seen.remarks
