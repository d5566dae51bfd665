"""VIA: regions of version 1 and 2, as project, export and CSV."""

import json
from pathlib import Path
from typing import Any

import pytest

from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, lines, picture, write

RECT = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def export(*regions: Any, name: str = "a.jpg", size: int = 1) -> dict[str, Any]:
    return {
        f"{name}{size}": {"filename": name, "size": size, "regions": list(regions), "file_attributes": {}}
    }


def test_regions_of_an_export_become_boxes_of_the_pictures_size(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg", (60, 90))
    regions = (
        region(RECT, type="cat"),
        region({"name": "polygon", "all_points_x": [1, 9, 5], "all_points_y": [2, 4, 8]}, type="dog"),
        region({"name": "circle", "cx": 50, "cy": 40, "r": 5.5}, type="cat"),
        region({"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10, "theta": 1.5707963}, type="cat"),
        region(
            {"name": "polyline", "all_points_x": [1, 9, 5, 1], "all_points_y": [2, 4, 8, 2]}, type="dog"
        ),  # closed
        region({"name": "polyline", "all_points_x": [1, 9], "all_points_y": [2, 4]}, type="dog"),
        region({"name": "point", "cx": 5, "cy": 4}, type="dog"),
    )
    write(tmp_path / "set/via_region_data.json", export(*regions))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.form == "via"
    assert seen.splits["train"]["a.jpg"] == [
        ("cat", 10, 20, 30, 40),
        ("dog", 1, 2, 8, 6),
        ("cat", 44.5, 34.5, 11.0, 11.0),
        ("cat", 40.0, 20.0, 20.0, 40.0),
        ("dog", 1, 2, 8, 6),
    ]
    image = seen.content["train"]["images"][0]
    assert (image["width"], image["height"]) == (60, 90)
    for words in ("'type' is the class", "4 polygons, masks", "2 points, lines"):
        assert words in seen.remarks


def test_a_project_the_regions_of_version_1_and_a_csv_say_the_same(tmp_path: Path) -> None:
    regions = [region(RECT, label="cat"), region({**RECT, "x": 0}, label="dog")]
    project = {"_via_settings": {}, "_via_img_metadata": export(*regions), "_via_attributes": {}}
    first = export()
    first["a.jpg1"]["regions"] = {"0": regions[0], "1": regions[1]}
    rows = [
        "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    ]
    for number, entry in enumerate(regions):
        shape, attributes = (
            json.dumps(entry[key]).replace('"', '""') for key in ("shape_attributes", "region_attributes")
        )
        rows.append(f'a.jpg,1,"{{}}",2,{number},"{shape}","{attributes}"')
    for place, name, content in (
        ("project", "via_project.json", project),
        ("one", "via_region_data.json", first),
        ("csv", "via_export_csv.csv", "\n".join(rows) + "\n"),
    ):
        picture(tmp_path / place / "a.jpg")
        write(tmp_path / place / name, content)
        seen = converted(tmp_path / place, tmp_path / f"out-{place}")
        assert seen.splits["train"]["a.jpg"] == [("cat", 10, 20, 30, 40), ("dog", 0, 20, 30, 40)], place


def test_regions_without_attributes_are_of_one_class_and_that_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    write(tmp_path / "set/via_region_data.json", export(region(RECT)))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"]["a.jpg"] == [("object", 10, 20, 30, 40)]
    assert "all are of the class object" in seen.remarks


def test_which_attribute_is_the_class_is_asked_where_it_is_not_clear(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    write(
        tmp_path / "set/via_region_data.json",
        export(region(RECT, colour="red", kind={"cat": True, "dog": False})),
    )
    with pytest.raises(DataError, match=r"attributes \['colour', 'kind'\]; .*--class-key NAME"):
        converted(tmp_path / "set", tmp_path / "out")
    with pytest.raises(
        DataError, match=r"no region has the attribute 'size'.*they have \['colour', 'kind'\]"
    ):
        converted(tmp_path / "set", tmp_path / "out", class_key="size")
    seen = converted(tmp_path / "set", tmp_path / "out", class_key="kind")
    assert seen.splits["train"]["a.jpg"] == [("cat", 10, 20, 30, 40)]  # the box that is ticked


def test_of_two_pictures_with_one_name_the_one_of_the_stated_size_is_taken(tmp_path: Path) -> None:
    picture(tmp_path / "set/first/a.png", (100, 80))
    second = picture(tmp_path / "set/second/a.png", (64, 48))
    write(
        tmp_path / "set/via_region_data.json",
        export(region(RECT), name="a.png", size=second.stat().st_size),
    )
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.content["train"]["images"][0]["width"] == 64
    write(tmp_path / "set/via_region_data.json", export(region(RECT), name="a.png", size=1))
    with pytest.raises(
        DataError, match=r"names 'a.png', of which there are 2 below .*first/a.png and second"
    ):
        converted(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (region({"name": "rect", "x": 1}, type="cat"), r"regions\[1\].shape_attributes` is \{'name': 'rect'"),
        (region({"name": "blob"}, type="cat"), r"is \{'name': 'blob'\}, expected a rect, polygon, circle"),
        (
            region(RECT, type=""),
            r"regions\[1\].region_attributes` is \{'type': ''\}, expected the class in 'type'",
        ),
        ("x", r"regions\[1\].shape_attributes` is 'x'"),
    ],
)
def test_a_wrong_region_is_left_out_with_its_key_and_value(
    entry: Any, complaint: str, tmp_path: Path
) -> None:
    picture(tmp_path / "set/a.jpg")
    write(tmp_path / "set/via_region_data.json", export(region(RECT, type="cat"), entry))
    assert len(converted(tmp_path / "set", tmp_path / "out").splits["train"]["a.jpg"]) == 1
    with pytest.raises(DataError, match=complaint):
        converted(tmp_path / "set", tmp_path / "out", strict=True)


def test_a_project_of_version_3_is_refused_by_name(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    write(tmp_path / "set/via3.json", {"project": {}, "config": {}, "file": {}, "metadata": {}, "view": {}})
    with pytest.raises(DataError, match="is a project of VIA 3; its export as COCO or VIA 2 is read"):
        converted(tmp_path / "set", tmp_path / "out")


def test_a_csv_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    lines(tmp_path / "set/via.csv", "filename,region_attributes", "a.jpg,{}")
    with pytest.raises(DataError, match=r"via.csv: line 1 lacks the column region_shape_attributes"):
        converted(tmp_path / "set/via.csv", tmp_path / "out", form="via")
