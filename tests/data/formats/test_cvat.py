"""CVAT's XML: of images, of jobs and projects, of videos."""

from pathlib import Path

import pytest

from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, picture, write

BOX = '<box label="cat" xtl="10.50" ytl="20.00" xbr="40.50" ybr="60.00" occluded="1" z_order="0"/>'
LABELS = (
    "<labels><label><name>dog</name><type>any</type></label><label><name>cat</name></label>"
    "<label><name>scene</name><type>tag</type></label></labels>"
)


def xml(*images: str, meta: str = f"<task>{LABELS}</task>") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta>{meta}</meta>{''.join(images)}</annotations>\n"
    )


def image(name: str, *shapes: str, more: str = "") -> str:
    return f'<image id="0" name="{name}" width="100" height="80" {more}>{"".join(shapes)}</image>'


def test_boxes_and_the_order_of_the_labels_are_those_of_the_file(tmp_path: Path) -> None:
    picture(tmp_path / "set/images/a.jpg")
    picture(tmp_path / "set/images/b.jpg")
    write(tmp_path / "set/annotations.xml", xml(image("a.jpg", BOX), image("b.jpg")))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.form == "cvat"
    assert seen.splits == {"train": {"a.jpg": [("cat", 10.5, 20.0, 30.0, 40.0)], "b.jpg": []}}
    assert [category["name"] for category in seen.content["train"]["categories"]] == ["dog", "cat"]
    assert seen.complaints == ""


def test_rotated_boxes_and_other_shapes_become_upright_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    shapes = (
        '<box label="cat" xtl="20" ytl="30" xbr="60" ybr="50" rotation="90.0"/>',
        '<box label="cat" xtl="30" ytl="20" xbr="50" ybr="40" rotation="45"/>',
        '<polygon label="dog" points="1.00,2.00;30.00,4.00;5.00,60.00"/>',
        '<ellipse label="dog" cx="50" cy="40" rx="20" ry="10" rotation="90"/>',
        '<mask label="dog" rle="1, 2" left="7" top="8" width="9" height="10"/>',
        '<polyline label="dog" points="1,2;3,4"/>',
        '<points label="dog" points="1,2"/>',
        '<skeleton label="dog"><points label="1" points="3,4"/></skeleton>',
        '<tag label="scene"/>',
    )
    write(tmp_path / "set/annotations.xml", xml(image("a.jpg", *shapes)))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"]["a.jpg"] == [
        ("cat", 30.0, 20.0, 20.0, 40.0),
        ("cat", 25.86, 15.86, 28.28, 28.28),  # 20 √2
        ("dog", 1.0, 2.0, 29.0, 58.0),
        ("dog", 40.0, 20.0, 20.0, 40.0),
        ("dog", 7.0, 8.0, 9.0, 10.0),
    ]
    for words in ("2 rotated boxes", "3 polygons, masks", "3 points, lines", "1 tag of a whole picture"):
        assert words in seen.remarks


def test_subsets_are_splits_and_jobs_on_one_picture_are_joined(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"set/images/{name}.jpg")
    write(
        tmp_path / "set/annotations.xml",
        xml(
            image("a.jpg", BOX, more='subset="Train"'),
            image("b.jpg", BOX, more='subset="Validation"'),
            image("c.jpg", BOX, more='subset="Test"'),
            image("a.jpg", BOX.replace("cat", "dog"), more='subset="Train"'),
            meta=f"<project>{LABELS}</project>",
        ),
    )
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert {split: list(files) for split, files in seen.splits.items()} == {
        "train": ["a.jpg"],
        "val": ["b.jpg"],
        "test": ["c.jpg"],
    }
    assert [row[0] for row in seen.splits["train"]["a.jpg"]] == ["cat", "dog"]


def test_tracks_of_a_video_are_boxes_of_its_frames(tmp_path: Path) -> None:
    for frame in (0, 1, 2):
        picture(tmp_path / f"set/images/frame_{frame:06d}.PNG")
    boxes = "".join(
        f'<box frame="{frame}" outside="{outside}" keyframe="0" xtl="{frame}" ytl="2" xbr="30" ybr="40"/>'
        for frame, outside in ((0, 0), (1, 0), (2, 1))
    )
    write(tmp_path / "set/annotations.xml", xml(f'<track id="0" label="cat">{boxes}</track>'))
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"] == {
        "frame_000000.PNG": [("cat", 0.0, 2.0, 30.0, 38.0)],
        "frame_000001.PNG": [("cat", 1.0, 2.0, 29.0, 38.0)],
        "frame_000002.PNG": [],
    }
    assert "1 box of a track that has left the picture was left out" in seen.remarks


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        (BOX.replace("40.50", "wide"), r"`image\[0\].box\[1\].xbr` is 'wide', expected a finite number"),
        (BOX.replace('xtl="10.50"', ""), r"`image\[0\].box\[1\].xtl` is None"),
        (BOX.replace('label="cat"', ""), r"`image\[0\].box\[1\].label` is None, expected a class's name"),
        ('<polygon label="cat" points="1,2;3"/>', r"`image\[0\].polygon\[1\].points` is '1,2;3'"),
    ],
)
def test_a_wrong_shape_is_left_out_with_its_key_and_value(shape: str, complaint: str, tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    write(tmp_path / "set/annotations.xml", xml(image("a.jpg", BOX, shape)))
    assert len(converted(tmp_path / "set", tmp_path / "out").splits["train"]["a.jpg"]) == 1
    with pytest.raises(DataError, match=rf"annotations.xml: {complaint}"):
        converted(tmp_path / "set", tmp_path / "out", strict=True)


def test_an_export_without_its_pictures_says_where_they_come_from(tmp_path: Path) -> None:
    write(tmp_path / "set/annotations.xml", xml(image("a.jpg", BOX)))
    with pytest.raises(DataError, match=r"but no picture; .*--images DIR.*unless you choose to save images"):
        converted(tmp_path / "set", tmp_path / "out")


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.jpg")
    bomb = '<!DOCTYPE annotations [<!ENTITY x "cat">]>\n<annotations><meta/>'
    write(
        tmp_path / "set/annotations.xml", f"{bomb}{image('a.jpg', BOX.replace('cat', '&x;'))}</annotations>"
    )
    with pytest.raises(DataError, match=r"annotations.xml: has a DOCTYPE, expected plain XML without one"):
        converted(tmp_path / "set", tmp_path / "out")


def test_attributes_that_change_the_ground_truth_are_applied_and_others_left_alone(tmp_path: Path) -> None:
    picture(tmp_path / "set/images/a.jpg", (100, 80))
    marks = [("ignore", "true"), ("difficult", "true"), ("ignore", "shadow"), ("difficult", "3"), ("x", "1")]
    boxes = "".join(
        f'<box label="cat" xtl="{at}" ytl="2" xbr="40" ybr="30">'
        f'<attribute name="{name}">{value}</attribute></box>'
        for at, (name, value) in enumerate(marks)
    )
    image = f'<image id="0" name="a.jpg" width="100" height="80">{boxes}</image>'
    write(tmp_path / "set/annotations.xml", f"<annotations><version>1.1</version>{image}</annotations>")
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"]["a.jpg"] == [
        ("cat", 0, 2, 40, 28, "crowd"),
        ("cat", 1, 2, 39, 28, "difficult"),
        *[("cat", at, 2, 40 - at, 28) for at in (2, 3, 4)],
    ]
