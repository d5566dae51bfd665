"""Copies of one picture: found by name and by look, and held out together."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from detnas_nni.config import CocoSplit, DetectionData
from detnas_nni.data.copies import (
    by_name,
    find_copies,
    group_numbers,
    groups_text,
    read_groups,
    seeded_choice,
)
from detnas_nni.data.splits import open_detection
from detnas_nni.errors import DataError
from tests.data.data_builders import coco_content, write_coco


def grouped(*names: str) -> list[list[str]]:
    files = [Path("images") / name for name in names]
    return [[files[place].name for place in group] for group in by_name(files)]


@pytest.mark.parametrize(
    "names",
    [
        ["a_jpg.rf.0a11ff.jpg", "a_jpg.rf.7f31aa.jpg"],
        ["a_png.rf.0a11ff.jpg", "a_jpeg.rf.7f31aa.jpg"],
        ["P0001__1__0___0.png", "P0001__1__824___1648.png", "P0001__0.5__0___0.png"],
        ["a_tile_0_1.png", "a_tile_2_3.png"],
        ["a-patch1.png", "a-patch12.png"],
        ["a_crop_x0_y512.png", "a_crop_x512_y0.png"],
        ["a_x0_y0.png", "a_x512_y0.png"],
        ["a_row1_col2.png", "a_row2_col2.png"],
        ["a_0_0_512_512.png", "a_412_0_924_512.png"],
        ["drive_frame_0001.jpg", "drive_frame_0002.jpg"],
        ["frame0001.jpg", "frame0002.jpg"],
        ["video3_0001.jpg", "video3_0002.jpg"],
        ["drive_mp4-12_jpg.rf.0a.jpg", "drive_mp4-13_jpg.rf.0b.jpg"],
        ["a.jpg", "a_aug_1.jpg", "a_aug_2.jpg"],
        ["a.jpg", "a_flipped.jpg", "a_rot90.jpg", "a_bright2.jpg"],
        ["a.jpg", "a_rotate_180.jpg", "a_rotation90.jpg"],
        ["aug_0_a.jpg", "aug_1_a.jpg", "a.jpg", "hflip_a.jpg"],
        ["a.jpg", "a - Copy.jpg", "a - Copy (2).jpg", "Copy of a.jpg"],
        ["a copy.jpg", "a copy 2.jpg", "a.jpg"],
        ["IMG_20210501_1_BURST001.jpg", "IMG_20210501_1_BURST002.jpg"],
        ["scan_r01_c02.tif", "scan_r01_c03.tif"],
        ["trip.avi_000001.jpg", "trip.avi_000050.jpg"],
        ["a_png.rf.Xy12Zq.jpg", "a_webp.rf.0b1c.jpg"],
        [f"a_{row}_{column}.png" for row in range(3) for column in range(4)],
    ],
)
def test_names_tell_copies_tiles_and_frames(names: list[str]) -> None:
    assert grouped("z.jpg", *names, "unlike_0001.jpg", "unlike_0002.jpg") == [names]


@pytest.mark.parametrize(
    "names",
    [
        ["000000000139.jpg", "000000000285.jpg"],
        ["BloodImage_00001.jpg", "BloodImage_00002.jpg"],
        ["IMG_20210501_123456.jpg", "IMG_20210502_090000.jpg"],
        ["2007_000027.jpg", "2007_000032.jpg", "2008_000008.jpg"],
        ["COCO_train2014_000000000009.jpg", "COCO_train2014_000000000025.jpg"],
        ["DSC0001.JPG", "DSC0002.JPG"],
        ["photo (1).jpg", "photo (2).jpg"],
        ["1_jpg.rf.0a.jpg", "2_jpg.rf.0b.jpg", "10_jpg.rf.0c.jpg"],
        ["augsburg_1.jpg", "augsburg_2.jpg", "flipper_1.jpg"],
        ["burst_1.jpg", "burst_2.jpg"],
        ["scene_1_7.png", "scene_3_2.png", "scene_9_5.png"],
    ],
)
def test_numbered_photos_are_no_copies(names: list[str]) -> None:
    assert grouped(*names) == []


def test_frames_of_one_name_in_two_folders_are_of_two_films() -> None:
    files = [Path(folder) / f"frame_{number}.jpg" for folder in ("a", "b") for number in range(3)]
    assert by_name(files) == [[0, 1, 2], [3, 4, 5]]


def picture(seed: int) -> Image.Image:
    cells = np.random.default_rng(seed).integers(40, 200, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((160, 120), Image.Resampling.BICUBIC)


def test_pictures_that_look_alike_are_found_whatever_their_names_are(tmp_path: Path) -> None:
    originals = [picture(seed) for seed in range(6)]
    noise = np.random.default_rng(9).normal(0, 8, (120, 160, 3))
    forms = {
        "bright": originals[0].point(lambda value: min(255, int(value * 1.2))),
        "small": originals[1].resize((80, 60)),
        "mirrored": ImageOps.mirror(originals[2]),
        "noisy": Image.fromarray(np.clip(originals[3] + noise, 0, 255).astype(np.uint8)),
        "flat": Image.new("RGB", (160, 120), (128, 128, 128)),
        "flat too": Image.new("RGB", (160, 120), (90, 90, 90)),
    }
    for number, original in enumerate(originals):
        original.save(tmp_path / f"{number}.png")
    for name, form in forms.items():
        form.save(tmp_path / f"{name}.jpg")
    (tmp_path / "damaged.jpg").write_bytes(b"no image")
    found = find_copies(sorted(tmp_path.iterdir()))
    assert {tuple(file.stem for file in group) for group in found.groups} == {
        ("0", "bright"),
        ("1", "small"),
        ("2", "mirrored"),
        ("3", "noisy"),
    }
    assert (found.by_name, found.by_look, found.images) == (0, 4, 8)


def test_drawn_scenes_on_alike_grounds_are_no_copies(shapes: Path) -> None:
    assert find_copies(sorted((shapes / "detection/train").iterdir())).groups == ()


# The hold-out.


def detection(root: Path, names: list[str], **keys: object) -> DetectionData:
    content = coco_content(len(names))
    for entry, name in zip(content["images"], names, strict=True):
        entry["file_name"] = name
    folder, file = write_coco(root, content)
    return DetectionData(train=CocoSplit(images=folder, annotations=file), **keys)


COPIES = [f"{name}_jpg.rf.{copy}.png" for name in "abcdefgh" for copy in "xyz"]


def pictures(images: object) -> set[str]:
    return {record.file.name[0] for record in images.records}


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_held_out_together(tmp_path: Path, seed: int) -> None:
    data = detection(tmp_path, COPIES, holdout=6)
    files = [record.file for record in open_detection(data, seed).whole.records]
    (tmp_path / "copies.json").write_text(groups_text(find_copies(files).groups, files))
    splits = open_detection(data.model_copy(update={"copies": tmp_path / "copies.json"}), seed)
    assert (len(splits.search), len(splits.train)) == (6, 18)
    assert len(pictures(splits.search)) == 2 and not pictures(splits.search) & pictures(splits.train)
    assert splits.leaks == []


def test_a_hold_out_that_parts_copies_is_told_with_the_key(tmp_path: Path) -> None:
    splits = open_detection(detection(tmp_path, COPIES, holdout=6), seed=0)
    assert pictures(splits.search) & pictures(splits.train)
    (line,) = [line for line in splits.told() if "held-out" in line]
    assert "data.detection.copies" in line and "_jpg.rf." in line


def test_groups_that_are_larger_than_the_hold_out_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "copies.json").write_text(json.dumps({"groups": [COPIES[:12], COPIES[12:]]}))
    data = detection(tmp_path, COPIES, holdout=6, copies=tmp_path / "copies.json")
    with pytest.raises(DataError, match=r"no group of copies of one picture has 6 images or fewer.*holdout"):
        open_detection(data, seed=0)


def rejoined(tmp_path: Path, root: Path, names: list[str], groups: list[list[int]]) -> set[frozenset[str]]:
    """Groups of images, written in one place and read in another; an image that is alone is a group, too."""
    files = [tmp_path / "written here" / name for name in names]
    (tmp_path / "copies.json").write_text(
        groups_text([[files[at] for at in group] for group in groups], files)
    )
    moved = [root / name for name in names]
    numbers = group_numbers(moved, read_groups(tmp_path / "copies.json"))
    assert numbers is not None
    return {
        frozenset(name for name, own in zip(names, numbers, strict=True) if own == number)
        for number in numbers
    }


FILMS = [f"seq{film}/frame_{frame:04}.png" for film in range(5) for frame in range(4)]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (FILMS, [list(range(at, at + 4)) for at in range(0, 20, 4)]),
        (["x/a_flipped.png", "x/a.png", "y/a.png", "y/a_rot90.png"], [[0, 1], [2, 3]]),
        (["x/a.png", "x/b.png", "y/a.png"], [[0, 1]]),  # y/a is no copy
        (["a.png", "b.png", "more/a.png", "more/b.png"], [[0, 1], [2, 3]]),
        (["x/a.png", "x/b.png", "y/x/a.png", "y/x/b.png"], [[0, 1], [2, 3]]),
    ],
)
def test_groups_stay_as_they_are_where_folders_use_the_same_names(
    tmp_path: Path, names: list[str], groups: list[list[int]]
) -> None:
    alone = set(range(len(names))) - {at for group in groups for at in group}
    expected = {frozenset(names[at] for at in group) for group in [*groups, *([at] for at in alone)]}
    for root in (tmp_path / "written here", tmp_path / "moved/there", Path()):
        assert rejoined(tmp_path, root, names, groups) == expected


def test_a_whole_film_is_held_out_where_all_films_number_their_frames_alike(tmp_path: Path) -> None:
    data = detection(tmp_path, FILMS, holdout=4)
    files = [record.file for record in open_detection(data, 0).whole.records]
    (tmp_path / "copies.json").write_text(groups_text(find_copies(files, look=False).groups, files))
    splits = open_detection(data.model_copy(update={"copies": tmp_path / "copies.json"}), 0)
    assert len(splits.search) == 4
    assert len({record.file.parent for record in splits.search.records}) == 1


def test_names_need_folders_only_where_others_have_the_same_name(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("set/x/a.jpg", "set/y/a.jpg", "set/y/b.jpg")]
    assert json.loads(groups_text([files], files)) == {"groups": [["x/a.jpg", "y/a.jpg", "b.jpg"]]}


def test_groups_that_have_a_name_in_common_are_one() -> None:
    files = [Path(name) for name in ("x/a_flipped.jpg", "x/a.jpg", "y/a.jpg", "y/a_rot90.jpg")]
    numbers = group_numbers(files, [["a_flipped.jpg", "a.jpg"], ["a.jpg", "a_rot90.jpg"]])
    assert numbers is not None and len(set(numbers)) == 1


def test_groups_that_are_alone_change_no_choice() -> None:
    keys = [f"{number}.jpg" for number in range(40)]
    assert seeded_choice(keys, 9, 3, list(range(40))) == seeded_choice(keys, 9, 3)
    assert group_numbers([Path(key) for key in keys], [["x.jpg", "y.jpg"], ["1.jpg"]]) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"groups": 3}', '{"groups": ["a.jpg"]}', '{"groups": [[1]]}', "[" * 100_000]
)
def test_what_is_no_file_of_groups_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "copies.json").write_text(text)
    with pytest.raises(DataError, match=r"copies.json: "):
        read_groups(tmp_path / "copies.json")
    with pytest.raises(DataError, match=r"gone.json: cannot be read"):
        read_groups(tmp_path / "gone.json")
