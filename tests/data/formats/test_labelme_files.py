"""labelme's JSON files, and X-AnyLabeling's, which are of the same form."""

from pathlib import Path
from typing import Any

import pytest

from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, picture, write


def shape(label: Any, points: Any, kind: str | None = "rectangle", **more: Any) -> dict[str, Any]:
    typed = {} if kind is None else {"shape_type": kind}
    return {"label": label, "points": points, "group_id": None, "flags": {}, **typed, **more}


def document(*shapes: Any, name: str = "a.jpg", **more: Any) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": name,
        "imageData": None,
        "imageHeight": 80,
        "imageWidth": 100,
        **more,
    }


def test_every_shape_with_an_area_becomes_the_upright_box_around_it(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    shapes = (
        shape("cat", [[40, 50], [10, 20]]),  # drawn from the lower right
        shape("dog", [[1, 2], [30, 4], [5, 60]], "polygon"),
        shape("dog", [[1, 2], [30, 4], [5, 60]], None),  # as older versions write a polygon
        shape("dog", [[50, 40], [53, 44]], "circle"),  # a middle and a point of the edge
        shape("cat", [[50, 20], [80, 40], [50, 60], [20, 40]], "rotation", difficult=True),
        shape("cat", [[5, 6], [15, 26]], "mask", mask="iVBORw0KGgo="),
        shape("cat", [[5, 6]], "point"),
        shape("cat", [[5, 6], [7, 8]], "line"),
    )
    write(tmp_path / "set/a.json", document(*shapes))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.form == "labelme"
    assert seen.splits["train"]["a.jpg"] == [
        ("cat", 10, 20, 30, 30),
        ("dog", 1, 2, 29, 58),
        ("dog", 1, 2, 29, 58),
        ("dog", 45.0, 35.0, 10.0, 10.0),
        ("cat", 20, 20, 60, 40, "difficult"),
        ("cat", 5, 6, 10, 20),
    ]
    for words in ("4 polygons, masks", "1 rotated box", "2 points, lines"):
        assert words in seen.remarks
    assert seen.complaints == ""


def test_parts_with_one_label_and_group_are_one_object(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    shapes = (
        shape("cat", [[10, 10], [20, 20]], group_id=1),
        shape("dog", [[0, 0], [5, 5]], group_id=1),
        shape("cat", [[60, 30], [70, 50]], group_id=1),
        shape("cat", [[1, 1], [2, 2]], group_id=2),
    )
    write(tmp_path / "set/a.json", document(*shapes))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"]["a.jpg"] == [
        ("cat", 10, 10, 60, 40),
        ("dog", 0, 0, 5, 5),
        ("cat", 1, 1, 1, 1),
    ]
    assert "1 part of an object (one label and group_id) was joined" in seen.remarks


def test_what_is_labelled_ignore_is_a_crowd_of_every_class(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    shapes = (
        shape("__ignore__", [[0, 0], [9, 9]]),
        shape("cat", [[10, 10], [20, 20]]),
        shape("dog", [[0, 0], [5, 5]]),
    )
    write(tmp_path / "set/a.json", document(*shapes))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"]["a.jpg"][2:] == [("cat", 0, 0, 9, 9, "crowd"), ("dog", 0, 0, 9, 9, "crowd")]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("..\\images\\a.jpg", "images/a.jpg"),
        ("C:\\Users\\me\\pictures\\a.jpg", "images/a.jpg"),
        ("../images/a.jpg", "images/a.jpg"),
        ("A.JPG", "json/a.jpg"),
        ("before-it-was-renamed.jpg", "images/b.jpg"),  # the JSON file is b.json
    ],
)
def test_the_picture_is_found_whatever_the_file_calls_it(name: str, place: str, tmp_path: Path) -> None:
    file = picture(tmp_path / "set" / place)
    write(tmp_path / "set/json/b.json", document(shape("cat", [[10, 20], [40, 50]]), name=name))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits == {"train": {file.name: [("cat", 10, 20, 30, 30)]}}


def test_folders_are_splits_and_a_size_that_is_not_stated_is_read_from_the_picture(tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / f"set/{split}/a.jpg", (60, 40))
        write(
            tmp_path / f"set/{split}/a.json",
            document(shape("cat", [[10, 20], [40, 50]]), imageWidth=None, imageHeight=0),
        )
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert list(seen.splits) == ["train", "val"]
    image = seen.content["val"]["images"][0]
    assert (image["width"], image["height"]) == (60, 40)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (
            shape("cat", [[1, 2]]),
            r"`shapes\[1\].points` is \[\[1, 2\]\], expected 2 or more points of a rect",
        ),
        (shape("cat", [[1, "x"], [2, 3]]), r"`shapes\[1\].points` is \[\[1, 'x'\]"),
        (shape("", [[1, 2], [3, 4]]), r"`shapes\[1\].label` is '', expected a class's name"),
        (shape("cat", [[1, 2], [3, 4]], "star"), r"`shapes\[1\].shape_type` is 'star', expected one of rect"),
        (None, r"`shapes\[1\]` is None, expected an object"),
    ],
)
def test_a_wrong_shape_is_left_out_with_its_key_and_value(entry: Any, complaint: str, tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    write(tmp_path / "set/a.json", document(shape("cat", [[10, 20], [40, 50]]), entry))
    assert len(converted(tmp_path / "set", tmp_path / "out").splits["train"]["a.jpg"]) == 1
    with pytest.raises(DataError, match=rf"a.json: {complaint}"):
        converted(tmp_path / "set", tmp_path / "out", strict=True)


def test_a_file_that_is_no_json_or_whose_picture_is_gone_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    write(tmp_path / "set/a.json", document(shape("cat", [[10, 20], [40, 50]])))
    write(tmp_path / "set/gone.json", document(name="gone.jpg"))
    for number in range(12):  # so many that not each file is looked into before it is read
        picture(tmp_path / f"set/{number}.jpg")
        write(tmp_path / f"set/{number}.json", document(name=f"{number}.jpg"))
    write(tmp_path / "set/b.json", "{")
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert "gone.json: `imagePath` names 'gone.jpg', which is not below" in seen.complaints
    assert "1 annotation file cannot be read" in seen.complaints
    assert "b.json: is not JSON in UTF-8" in seen.complaints


def test_flags_and_oriented_rectangles_of_newer_versions_are_read(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg", (100, 80))
    turned = [[10, 20], [20, 10], [40, 30], [30, 40]]
    shapes = [
        {"label": "cat", "points": turned, "shape_type": "oriented_rectangle", "flags": {}},
        {"label": "cat", "points": [[1, 2], [9, 9]], "shape_type": "rectangle", "flags": {"difficult": True}},
        {"label": "cat", "points": [[1, 2], [9, 9]], "shape_type": "rectangle", "flags": {"ignore": True}},
    ]
    content = {"imagePath": "a.jpg", "imageWidth": 100, "imageHeight": 80, "shapes": shapes}
    write(tmp_path / "set/a.json", content)
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"]["a.jpg"] == [
        ("cat", 10, 10, 30, 30),
        ("cat", 1, 2, 8, 7, "difficult"),
        ("cat", 1, 2, 8, 7, "crowd"),
    ]
    assert "1 rotated box" in seen.remarks
