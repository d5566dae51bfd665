"""Open Images' CSV of boxes."""

from pathlib import Path

import pytest

from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, lines, picture

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)


def row(
    image_id: str = "0a1b", label: str = "/m/01yrx", box: str = "0.1,0.5,0.25,0.75", group: int = 0
) -> str:
    return f"{image_id},xclick,{label},1,{box},1,0,{group},0,0"


def open_images(root: Path, *rows: str) -> Path:
    picture(root / "train/0a1b.jpg")
    lines(root / "class-descriptions-boxable.csv", "/m/01yrx,Cat", '/m/0bt9lr,"Dog, small"')
    lines(root / "train-annotations-bbox.csv", HEADER, *rows)
    return root


def test_shares_become_pixels_groups_crowds_and_ids_names(tmp_path: Path) -> None:
    root = open_images(tmp_path / "set", row(), row(label="/m/0bt9lr", group=1))
    seen = converted(root, tmp_path / "out")
    assert seen.form == "openimages"
    assert seen.splits["train"]["0a1b.jpg"] == [
        ("Cat", 10.0, 20.0, 40.0, 40.0),
        ("Dog, small", 10.0, 20.0, 40.0, 40.0, "crowd"),
    ]
    assert "1 box of a group is kept as a crowd" in seen.remarks
    assert "labels each picture only for the classes that were verified" in seen.remarks


def test_splits_may_have_pictures_of_one_name_and_lack_others(tmp_path: Path) -> None:
    root = open_images(tmp_path / "set", row(), row("not-downloaded"), row("not-downloaded"))
    picture(root / "validation/0a1b.jpg", (50, 40))
    lines(root / "validation-annotations-bbox.csv", HEADER, row(label="/m/unnamed"))
    seen = converted(root, tmp_path / "out")
    assert seen.splits == {
        "train": {"0a1b.jpg": [("Cat", 10.0, 20.0, 40.0, 40.0)]},
        "val": {"0a1b.jpg": [("/m/unnamed", 5.0, 10.0, 20.0, 20.0)]},
    }
    assert "1 picture of the annotations is not in the folder; left out" in seen.remarks
    assert seen.complaints == ""


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (row(box="0.1,wide,0.2,0.3"), "`line 3, XMax` is 'wide', expected a share of the picture, 0 to 1"),
        (row(box="10,50,20,30"), "`line 3, XMin` is '10', expected a share"),
        (row(label=""), "`line 3, LabelName` is '', expected the id of a class"),
    ],
)
def test_a_wrong_row_is_left_out_with_its_line_and_value(wrong: str, complaint: str, tmp_path: Path) -> None:
    root = open_images(tmp_path / "set", row(), wrong)
    assert len(converted(root, tmp_path / "out").splits["train"]["0a1b.jpg"]) == 1
    with pytest.raises(DataError, match=f"train-annotations-bbox.csv: {complaint}"):
        converted(root, tmp_path / "out", strict=True)


def test_a_row_with_other_columns_than_the_header_is_refused(tmp_path: Path) -> None:
    root = open_images(tmp_path / "set", row(), "0a1b,xclick")
    with pytest.raises(DataError, match=r"train-annotations-bbox.csv: line 3 has 2 columns, expected 13"):
        converted(root, tmp_path / "out")
