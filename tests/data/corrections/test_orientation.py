"""Photos that EXIF turns: the boxes are on the objects, whichever frame and size a tool has written."""

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from detnas_nni.data.coco import read_coco
from detnas_nni.data.entries import Conventions
from detnas_nni.data.records import DetectionSet
from detnas_nni.errors import DataError
from tests.data.scenes import Box, as_stored, coco_of, red_in_boxes, save_scene, scene, told, write_json

OBLONG, SQUARE = (96, 64), (80, 80)
# Of the oblong: beyond the width of the other frame; of both: off the middle, so that no turn leaves them.
BOXES: list[Box] = [(70, 6, 20, 14), (10, 40, 22, 16)]
SQUARE_BOXES: list[Box] = [(50, 6, 20, 14), (10, 50, 22, 16)]
INNER: list[Box] = [(6, 8, 20, 14), (34, 40, 22, 16)]  # inside both frames of the oblong

QUARTERS, OTHERS = (5, 6, 7, 8), (2, 3, 4)


def photos(
    root: Path,
    orientations: tuple[int, ...],
    *,
    size: tuple[int, int] = OBLONG,
    boxes: list[Box] = BOXES,
    sized: str,
    drawn: str = "shown",
    suffix: str = ".jpg",
    **conventions: object,
) -> DetectionSet:
    """Photos of these orientations whose sizes and boxes are as shown or as stored, read."""
    entries, of_images = [], []
    for number, orientation in enumerate(orientations):
        name = f"{number}{suffix}"
        stored = save_scene(root / "images" / name, size, boxes, orientation)
        width, height = stored if sized == "stored" else size
        entries.append({"id": number + 1, "file_name": name, "width": width, "height": height})
        of_images.append([as_stored(box, size, orientation) if drawn == "stored" else box for box in boxes])
    file = write_json(root / "train.json", coco_of(entries, of_images))
    return read_coco(root / "images", file, conventions=Conventions(**conventions))


@pytest.mark.parametrize("sized", ["shown", "stored"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_boxes_as_people_see_them_are_on_the_objects(tmp_path: Path, sized: str, suffix: str) -> None:
    images = photos(tmp_path, (*OTHERS, *QUARTERS, 1), sized=sized, suffix=suffix)
    assert min(red_in_boxes(images)) > 0.95
    assert {record.size for record in images.records} == {OBLONG}
    assert told(images, "sizes of the other way up") == (4 if sized == "stored" else 0)


def test_squares_are_turned_as_people_see_them(tmp_path: Path) -> None:
    images = photos(tmp_path, (*OTHERS, *QUARTERS), size=SQUARE, boxes=SQUARE_BOXES, sized="shown", scan=True)
    assert min(red_in_boxes(images)) > 0.95
    assert told(images, "orientations that nothing tells") == 7


def test_boxes_as_they_are_stored_are_recognised_by_lying_beyond_the_shown_frame(tmp_path: Path) -> None:
    images = photos(tmp_path, QUARTERS, sized="shown", drawn="stored")
    assert min(red_in_boxes(images)) > 0.95
    assert {record.size for record in images.records} == {OBLONG[::-1]}
    assert told(images, "sizes of the other way up") == 4


def test_where_boxes_fit_both_ways_the_size_decides(tmp_path: Path) -> None:
    shown = photos(tmp_path / "shown", QUARTERS, boxes=INNER, sized="shown")
    stored = photos(tmp_path / "stored", QUARTERS, boxes=INNER, sized="stored", drawn="stored")
    assert min(red_in_boxes(shown) + red_in_boxes(stored)) > 0.95
    assert told(shown, "sizes of the other way up") == told(stored, "sizes of the other way up") == 0


def test_what_one_photo_shows_of_its_tool_holds_for_the_others(tmp_path: Path) -> None:
    """Label Studio: sizes as stored, boxes as shown, of which only some photos have one that tells."""
    entries, of_images = [], []
    taken = [(6, BOXES), (6, INNER), (8, INNER), (3, INNER), (1, INNER)]
    for number, (orientation, boxes) in enumerate(taken):
        stored = save_scene(tmp_path / "images" / f"{number}.jpg", OBLONG, boxes, orientation)
        size = {"width": stored[0], "height": stored[1]}
        entries.append({"id": number, "file_name": f"{number}.jpg", **size})
        of_images.append(boxes)
    images = read_coco(tmp_path / "images", write_json(tmp_path / "train.json", coco_of(entries, of_images)))
    assert min(red_in_boxes(images)) > 0.95
    assert told(images, "sizes of the other way up") == 3


@pytest.mark.parametrize("size", [OBLONG, SQUARE])
def test_the_user_can_say_that_nothing_is_turned(tmp_path: Path, size: tuple[int, int]) -> None:
    boxes = BOXES if size == OBLONG else SQUARE_BOXES
    every = (*OTHERS, *QUARTERS)
    images = photos(tmp_path, every, size=size, boxes=boxes, sized="stored", drawn="stored", exif="stored")
    assert min(red_in_boxes(images)) > 0.95
    guessed = photos(tmp_path / "b", OTHERS, size=size, boxes=boxes, sized="stored", drawn="stored")
    assert max(red_in_boxes(guessed)) < 0.7


def test_the_user_can_say_that_all_is_turned_whatever_the_sizes_are(tmp_path: Path) -> None:
    images = photos(tmp_path, (*OTHERS, *QUARTERS), boxes=INNER, sized="stored", exif="shown", strict=True)
    assert min(red_in_boxes(images)) > 0.95


def test_strict_refuses_to_guess_and_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 photos have an EXIF orientation .*data.detection.exif.*--strict"):
        photos(tmp_path, OTHERS, sized="shown", strict=True)
    with pytest.raises(DataError, match="4 photos have an EXIF orientation and the size of the other way up"):
        photos(tmp_path / "b", QUARTERS, sized="stored", strict=True)
    photos(tmp_path / "c", (1,), sized="shown", strict=True)


@pytest.mark.parametrize("missing", [{}, {"width": 0, "height": 0}, {"width": None, "height": "?"}])
def test_a_size_that_is_no_size_is_read_from_the_picture_as_it_is_shown(
    tmp_path: Path, missing: dict[str, object]
) -> None:
    entries = []
    for number, orientation in enumerate((1, 6, 3)):
        save_scene(tmp_path / "images" / f"{number}.jpg", OBLONG, BOXES, orientation)
        entries.append({"id": number, "file_name": f"{number}.jpg", **missing})
    images = read_coco(tmp_path / "images", write_json(tmp_path / "a.json", coco_of(entries, [BOXES] * 3)))
    assert [record.size for record in images.records] == [OBLONG] * 3
    assert min(red_in_boxes(images)) > 0.95
    assert told(images, "sizes of pictures") == 3


def test_an_image_without_a_size_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    save_scene(tmp_path / "images/0.png", OBLONG, BOXES)
    (tmp_path / "images/1.png").write_bytes(b"no image")
    entries = [{"id": number, "file_name": f"{number}.png", "width": 0} for number in range(2)]
    file = write_json(tmp_path / "a.json", coco_of(entries, [BOXES, BOXES]))
    with pytest.raises(DataError, match=r"`width and height of 1.png` is None, expected them, or an image"):
        read_coco(tmp_path / "images", file)
    images = read_coco(tmp_path / "images", file, max_bad=1)
    assert [record.file.name for record in images.records] == ["0.png"]
    assert images.records[0].boxes[:, 0].tolist() == [70, 10]


def test_boxes_as_stored_of_photos_without_a_size_are_recognised(tmp_path: Path) -> None:
    entries, of_images = [], []
    for number, orientation in enumerate((*QUARTERS, 1)):
        save_scene(tmp_path / "images" / f"{number}.jpg", OBLONG, BOXES, orientation)
        entries.append({"id": number, "file_name": f"{number}.jpg"})
        of_images.append([as_stored(box, OBLONG, orientation) for box in BOXES])
    images = read_coco(tmp_path / "images", write_json(tmp_path / "a.json", coco_of(entries, of_images)))
    assert min(red_in_boxes(images)) > 0.95
    assert told(images, "sizes of the other way up") == 4 and told(images, "suspected percent") == 0


def test_squares_without_a_size_are_turned_and_told(tmp_path: Path) -> None:
    entries = []
    for number, orientation in enumerate((*OTHERS, *QUARTERS)):
        save_scene(tmp_path / "images" / f"{number}.png", SQUARE, SQUARE_BOXES, orientation)
        entries.append({"id": number, "file_name": f"{number}.png"})
    file = write_json(tmp_path / "a.json", coco_of(entries, [SQUARE_BOXES] * 7))
    images = read_coco(tmp_path / "images", file, conventions=Conventions(scan=True))
    assert min(red_in_boxes(images)) > 0.95
    assert told(images, "orientations that nothing tells") == 7 and told(images, "sizes of pictures") == 7


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "images").mkdir()
    scene(OBLONG, BOXES).save(tmp_path / "images/0.jpg", exif=exif, quality=95)
    entry = {"id": 0, "file_name": "0.jpg", "width": OBLONG[0], "height": OBLONG[1]}
    images = read_coco(
        tmp_path / "images",
        write_json(tmp_path / "a.json", coco_of([entry], [BOXES])),
        conventions=Conventions(scan=True),
    )
    assert min(red_in_boxes(images)) > 0.95 and images.corrections == ()
