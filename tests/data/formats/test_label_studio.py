"""Label Studio's own JSON, and its short form."""

from pathlib import Path
from typing import Any

import pytest

from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, picture, write

BOX = {"x": 10, "y": 25, "width": 40, "height": 50, "rotation": 0}


def result(labels: list[Any] | None = None, kind: str = "rectanglelabels", **value: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "original_width": 100,
        "original_height": 80,
        "value": {**(value or BOX), kind: ["cat"] if labels is None else labels},
    }


def task(*results: Any, name: str = "/data/upload/3/1a2b3c4d-a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": name}, "annotations": [{"id": 2, "result": list(results), **more}]}


def test_percents_become_pixels_and_turned_boxes_upright_ones(tmp_path: Path) -> None:
    picture(tmp_path / "set/images/a.jpg")
    results = (
        result(),
        result(["dog"], "polygonlabels", points=[[10, 10], [50, 10], [30, 90]]),
        result(["dog"], "ellipselabels", x=50, y=50, radiusX=10, radiusY=25, rotation=0),
        # About its upper left corner: 20x8 pixels hang down from (50, 40) to the left.
        result(["dog"], x=50, y=50, width=20, height=10, rotation=90),
        result(["nose"], "keypointlabels", x=50, y=50, width=1),
        {"type": "choices", "value": {"choices": ["blurred"]}},
    )
    write(tmp_path / "set/project-1-at-2026-01-01.json", [task(*results)])
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.form == "labelstudio"
    assert seen.splits["train"]["a.jpg"] == [
        ("cat", 10.0, 20.0, 40.0, 40.0),
        ("dog", 10.0, 8.0, 40.0, 64.0),
        ("dog", 40.0, 20.0, 20.0, 40.0),
        ("dog", 42.0, 40.0, 8.0, 20.0),
    ]
    for words in ("1 rotated box", "2 polygons, masks", "1 point, line"):
        assert words in seen.remarks


@pytest.mark.parametrize(
    "name",
    [
        "/data/upload/3/1a2b3c4d-a.jpg",
        "/data/local-files/?d=home/me/set/images/a.jpg",
        "s3://bucket/set/a.jpg",
        "http://localhost:8080/data/upload/3/a.jpg",
        "https://host/a.jpg?X-Amz-Signature=123",
        "C:\\Users\\me\\a.jpg",
    ],
)
def test_the_picture_is_found_whatever_the_task_calls_it(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "set/images/a.jpg")
    write(tmp_path / "set/export.json", [task(result(), name=name)])
    assert list(converted(tmp_path / "set", tmp_path / "out").splits["train"]) == ["a.jpg"]


def test_an_address_that_is_none_is_one_missing_picture(tmp_path: Path) -> None:
    picture(tmp_path / "set/images/a.jpg")
    write(tmp_path / "set/export.json", [task(result()), task(result(), name="http://[x/?d=gone.jpg")])
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert list(seen.splits["train"]) == ["a.jpg"]
    assert "1 picture is missing" in seen.complaints and "http://[x/?d=gone.jpg" in seen.complaints


def test_the_short_form_says_the_same(tmp_path: Path) -> None:
    picture(tmp_path / "set/images/a.jpg")
    short = {
        "image": "/data/upload/3/1a2b3c4d-a.jpg",
        "id": 1,
        "label": [{**BOX, "rectanglelabels": ["cat"], "original_width": 100, "original_height": 80}],
        "annotator": 1,
        "annotation_id": 2,
    }
    write(tmp_path / "set/export-min.json", [short])
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"]["a.jpg"] == [("cat", 10.0, 20.0, 40.0, 40.0)]


def test_of_several_annotations_the_ground_truth_is_taken_and_a_cancelled_one_never(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    entry = task(result(["cancelled"]), was_cancelled=True)
    entry["annotations"] += [{"result": [result(["first"])]}]
    entry["annotations"] += [{"result": [result(["truth"])], "ground_truth": True}]
    write(tmp_path / "set/export.json", [entry])
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert [row[0] for row in seen.splits["train"]["a.jpg"]] == ["truth"]
    assert "some tasks have several annotations" in seen.remarks


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (result(x=10, y="far", width=1, height=1), r"`\[0\].result\[1\].value` is .*expected percentages"),
        (result([]), r"`\[0\].result\[1\].value.rectanglelabels` is \[\], expected the name of a class"),
        ("x", r"`\[0\].result\[1\]` is 'x', expected an object with a value"),
    ],
)
def test_a_wrong_result_is_left_out_with_its_key_and_value(
    entry: Any, complaint: str, tmp_path: Path
) -> None:
    picture(tmp_path / "set/a.jpg")
    write(tmp_path / "set/export.json", [task(result(), entry)])
    assert len(converted(tmp_path / "set", tmp_path / "out").splits["train"]["a.jpg"]) == 1
    with pytest.raises(DataError, match=rf"export.json: {complaint}"):
        converted(tmp_path / "set", tmp_path / "out", strict=True)
