"""YOLO in the layouts that people have, and what is odd in their label files."""

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from detnas_nni.data.formats.note import Note
from detnas_nni.data.formats.pictures import Listing, Pictures
from detnas_nni.errors import DataError
from tests.data.formats.exports import converted, lines, picture, write

# Of 100x80 pixels: 50 % and 25 % of the sides around the middle.
MIDDLE = "0.5 0.5 0.5 0.25"
MIDDLE_BOX = (25.0, 30.0, 50.0, 20.0)


def ultralytics(root: Path) -> Path:
    """images/SPLIT beside labels/SPLIT, and a data.yaml."""
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        picture(root / f"images/{split}/{name}.jpg")
        lines(root / f"labels/{split}/{name}.txt", f"{'abc'.index(name) % 2} {MIDDLE}")
    write(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n")
    return root


def labelimg(root: Path) -> Path:
    """Pictures and labels side by side, with classes.txt."""
    for name in "ab":
        picture(root / f"{name}.png")
    lines(root / "a.txt", f"1 {MIDDLE}")
    lines(root / "classes.txt", "cat", "dog")
    return root


def test_ultralytics_layout_is_read_with_its_splits_and_class_ids(tmp_path: Path) -> None:
    seen = converted(ultralytics(tmp_path / "set"), tmp_path / "out")
    assert seen.form == "yolo"
    assert seen.splits == {
        "train": {"a.jpg": [("cat", *MIDDLE_BOX)], "b.jpg": [("dog", *MIDDLE_BOX)]},
        "val": {"c.jpg": [("cat", *MIDDLE_BOX)]},
    }
    assert seen.content["train"]["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert (seen.remarks.count("\n"), seen.complaints) == (1, "")


@pytest.mark.parametrize(
    "entries",
    [
        "train: ../train/images\nval: ../valid/images\n",  # Roboflow's, wrong by one folder
        "path: /content/drive/my-set-3\ntrain: train/images\nval: valid/images\n",  # of another machine
        "train: ['./train/images']\nval: C:\\Users\\me\\set\\valid\\images\n",
    ],
)
def test_places_in_a_data_yaml_of_another_machine_are_found(entries: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split, name in (("train", "a"), ("valid", "b")):
        picture(root / split / "images" / f"{name}.jpg")
        lines(root / split / "labels" / f"{name}.txt", f"0 {MIDDLE}")
    write(root / "data.yaml", f"{entries}test: ../test/images\nnc: 1\nnames: ['cat']\n")
    seen = converted(root, tmp_path / "out")
    assert {split: list(files) for split, files in seen.splits.items()} == {
        "train": ["a.jpg"],
        "val": ["b.jpg"],
    }
    assert "`test` is '../test/images', which does not exist; left out" in seen.remarks


def test_a_data_yaml_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    ultralytics(tmp_path / "elsewhere")
    root = tmp_path / "set"
    picture(root / "own/a.jpg")
    write(root / "data.yaml", f"train: {tmp_path}/elsewhere/images/train\nnames: [cat]\n")
    with pytest.raises(DataError, match=r"data.yaml: `train` is .*elsewhere/images/train', which is neither"):
        converted(root, tmp_path / "out")


def test_lists_of_pictures_are_followed_as_cvat_and_darknet_write_them(tmp_path: Path) -> None:
    root = ultralytics(tmp_path / "set")
    lines(root / "train.txt", "data/images/train/b.jpg", "./images/train/gone.jpg")
    write(root / "data.yaml", "train: train.txt\nval: images/val\nnames: {0: cat, 1: dog}\n")
    seen = converted(root, tmp_path / "out")
    assert list(seen.splits["train"]) == ["b.jpg"]
    assert "train.txt: line 2 names './images/train/gone.jpg', which is not below" in seen.complaints


def test_a_missing_picture_of_darknets_list_leaves_the_others_in_their_split(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in "abcdefgh":
        picture(root / f"data/{name}.jpg")
        lines(root / f"data/{name}.txt", f"0 {MIDDLE}")
    (root / "data/d.jpg").rename(root / "data/train_1.jpg")
    (root / "data/d.txt").rename(root / "data/train_1.txt")  # labels, no list
    lines(root / "train.txt", *(f"data/{name}.jpg" for name in ("a", "b", "c", "train_1")))
    lines(root / "valid.txt", *(f"data/{name}.jpg" for name in ("e", "gone", "f", "g", "h")))
    seen = converted(root, tmp_path / "out")
    assert {split: list(files) for split, files in seen.splits.items()} == {
        "train": ["a.jpg", "b.jpg", "c.jpg", "train_1.jpg"],
        "val": ["e.jpg", "f.jpg", "g.jpg", "h.jpg"],
    }
    assert "used for training" not in seen.remarks
    assert "1 picture is missing" in seen.complaints
    assert "valid.txt: line 2 names 'data/gone.jpg', which is not below" in seen.complaints


def test_labelimg_folders_leave_out_what_has_no_label_yet_unless_it_is_background(tmp_path: Path) -> None:
    root = labelimg(tmp_path / "set")
    seen = converted(root, tmp_path / "out")
    assert seen.splits == {"train": {"a.png": [("dog", *MIDDLE_BOX)]}}
    assert "1 picture that no annotation names was left out" in seen.remarks
    seen = converted(root, tmp_path / "out", backgrounds=True)
    assert seen.splits["train"]["b.png"] == []
    assert "1 picture without a label is kept as background" in seen.remarks


def test_ultralytics_pictures_without_a_label_file_are_background_and_so_are_empty_files(
    tmp_path: Path,
) -> None:
    root = ultralytics(tmp_path / "set")
    (root / "labels/train/a.txt").unlink()
    write(root / "labels/train/b.txt", "\n")
    seen = converted(root, tmp_path / "out")
    assert seen.splits["train"] == {"a.jpg": [], "b.jpg": []}
    assert seen.note["splits"]["train"]["images_without_boxes"] == 2


def test_without_names_the_classes_are_called_by_their_ids_and_that_is_said(tmp_path: Path) -> None:
    root = labelimg(tmp_path / "set")
    (root / "classes.txt").unlink()
    seen = converted(root, tmp_path / "out")
    assert seen.splits["train"]["a.png"] == [("class_1", *MIDDLE_BOX)]
    assert "no file names the classes" in seen.remarks


def test_two_lists_of_classes_that_differ_are_refused(tmp_path: Path) -> None:
    root = labelimg(tmp_path / "set")
    lines(root / "more/classes.txt", "dog", "cat")
    with pytest.raises(DataError, match=r"classes.txt and .*more/classes.txt name different classes"):
        converted(root, tmp_path / "out")


def test_polygons_corners_confidences_and_repeated_lines_become_upright_boxes_and_are_counted(
    tmp_path: Path,
) -> None:
    root = labelimg(tmp_path / "set")
    lines(
        root / "a.txt",
        "0 0.1 0.1 0.5 0.2 0.3 0.5",  # YOLO-seg: three corners
        "1 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5",  # YOLO-OBB: a diamond
        f"0 {MIDDLE} 0.87",
        f"0 {MIDDLE}",
        f"0 {MIDDLE}",
    )
    seen = converted(root, tmp_path / "out")
    assert seen.splits["train"]["a.png"] == [
        ("cat", 10.0, 8.0, 40.0, 32.0),
        ("dog", 10.0, 8.0, 80.0, 64.0),
        ("cat", *MIDDLE_BOX),
        ("cat", *MIDDLE_BOX),
    ]
    for words in (
        "2 polygons, masks, ellipses or cuboids became the upright boxes",
        "1 box has a confidence",
        "1 line occurs twice",
    ):
        assert words in seen.remarks


def test_key_points_behind_a_box_are_not_a_polygon_where_data_yaml_says_so(tmp_path: Path) -> None:
    root = ultralytics(tmp_path / "set")
    (root / "data.yaml").write_text((root / "data.yaml").read_text() + "kpt_shape: [2, 2]\n")
    lines(root / "labels/train/a.txt", f"0 {MIDDLE} 0.0 0.0 1.0 1.0")
    seen = converted(root, tmp_path / "out")
    assert seen.splits["train"]["a.jpg"] == [("cat", *MIDDLE_BOX)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"7 {MIDDLE}", r"`line 2, class` is '7', expected one of the 2 ids that .*classes.txt names"),
        (f"-1 {MIDDLE}", "`line 2, class` is '-1'"),
        (",", "`line 2, class` is ','"),
        ("0 0.5 0.5 0.5", "`line 2` is '0 0.5 0.5 0.5', expected class cx cy w h"),
        ("0 0.5 x 0.5 0.5", "`line 2` is 'x', expected a finite number"),
        ("0 0.5 nan 0.5 0.5", "`line 2` is 'nan', expected a finite number"),
        ("0 50 40 50 20", "`line 2` is 50.0, expected a share of the picture's width or height, 0 to 1"),
        ("0 0.5 0.5 -0.1 0.5", "`line 2` is -0.1, expected a width and height of 0 or more"),
    ],
)
def test_a_wrong_line_is_left_out_with_its_file_number_and_value(
    line: str, complaint: str, tmp_path: Path
) -> None:
    root = labelimg(tmp_path / "set")
    lines(root / "a.txt", f"1 {MIDDLE}", line)
    seen = converted(root, tmp_path / "out")
    assert seen.splits["train"]["a.png"] == [("dog", *MIDDLE_BOX)]
    assert "1 entry is wrong; left out" in seen.complaints
    with pytest.raises(DataError, match=complaint):
        converted(root, tmp_path / "out", strict=True)


def test_labels_without_a_picture_are_named_and_pictures_that_are_none_are_left_out(tmp_path: Path) -> None:
    root = labelimg(tmp_path / "set")
    lines(root / "gone.txt", f"0 {MIDDLE}")
    write(root / "broken.jpg", b"\xff\xd8\xff no picture")
    lines(root / "broken.txt", f"0 {MIDDLE}")
    seen = converted(root, tmp_path / "out")
    assert list(seen.splits["train"]) == ["a.png"]
    assert "gone.txt has labels, but no picture has that name" in seen.complaints
    assert "broken.jpg: is not a picture that can be read" in seen.complaints


def test_shares_are_of_the_photo_as_people_see_it(tmp_path: Path) -> None:
    root = labelimg(tmp_path / "set")
    (root / "a.png").unlink()
    picture(root / "a.jpg", (100, 80), orientation=6)
    seen = converted(root, tmp_path / "out")
    assert seen.content["train"]["images"][0]["width"] == 80
    assert seen.splits["train"]["a.jpg"] == [("dog", 20.0, 37.5, 40.0, 25.0)]


def test_a_folder_that_is_named_for_training_and_validation_is_used_once(tmp_path: Path) -> None:
    root = ultralytics(tmp_path / "set")
    write(root / "data.yaml", "train: images/train\nval: images/train\nnames: [cat, dog]\n")
    seen = converted(root, tmp_path / "out")
    assert list(seen.splits) == ["train"]
    assert "val has the same pictures as train; val is left out" in seen.remarks


def test_ids_with_one_name_are_one_class(tmp_path: Path) -> None:
    root = ultralytics(tmp_path / "set")
    write(root / "data.yaml", "train: images/train\nnames: [cat, cat]\n")
    seen = converted(root, tmp_path / "out")
    assert [row[0][0] for row in seen.splits["train"].values()] == ["cat", "cat"]
    assert seen.content["train"]["categories"] == [{"id": 0, "name": "cat"}]
    assert "gives several ids the same name" in seen.remarks


def test_pictures_may_lie_in_another_folder(tmp_path: Path) -> None:
    root = labelimg(tmp_path / "set")
    (root / "a.png").rename(picture(tmp_path / "elsewhere/deep/a.png"))
    (root / "b.png").unlink()
    seen = converted(root, tmp_path / "out", images=tmp_path / "elsewhere")
    assert seen.splits["train"] == {"a.png": [("dog", *MIDDLE_BOX)]}


@pytest.mark.parametrize("folder", ["elsewhere", "elsewhere/images"])
def test_pictures_in_another_folder_keep_the_splits_of_the_data_yaml(folder: str, tmp_path: Path) -> None:
    root = ultralytics(tmp_path / "set")
    (tmp_path / "elsewhere").mkdir()
    (root / "images").rename(tmp_path / "elsewhere/images")
    seen = converted(root, tmp_path / "out", images=tmp_path / folder)
    assert seen.splits == {
        "train": {"a.jpg": [("cat", *MIDDLE_BOX)], "b.jpg": [("dog", *MIDDLE_BOX)]},
        "val": {"c.jpg": [("cat", *MIDDLE_BOX)]},
    }
    assert "left out" not in seen.remarks


def test_pictures_in_another_folder_have_the_labels_of_their_own_folder(tmp_path: Path) -> None:
    """Where splits number their pictures alike."""
    root = ultralytics(tmp_path / "set")
    (root / "images/val/c.jpg").rename(root / "images/val/a.jpg")
    (root / "labels/val/c.txt").rename(root / "labels/val/a.txt")
    write(root / "labels/val/a.txt", "1 0.5 0.5 0.5 0.25\n")
    (root / "images").rename(tmp_path / "elsewhere")
    seen = converted(root, tmp_path / "out", images=tmp_path / "elsewhere")
    assert seen.splits["train"]["a.jpg"] == [("cat", *MIDDLE_BOX)]
    assert seen.splits["val"] == {"a.jpg": [("dog", *MIDDLE_BOX)]}


@pytest.mark.parametrize("apart", [True, False])
def test_pictures_that_two_entries_of_a_split_name_are_listed_once(apart: bool, tmp_path: Path) -> None:
    root = ultralytics(tmp_path / "set")
    write(root / "data.yaml", "train: [images/train, images]\nnames: [cat, dog]\n")
    if apart:
        for name in "abc":
            picture(tmp_path / f"flat/{name}.jpg")
    seen = converted(root, tmp_path / "out", images=tmp_path / "flat" if apart else None)
    names = [image["file_name"].rpartition("/")[2] for image in seen.content["train"]["images"]]
    assert sorted(names) == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_tiff_is_as_large_as_people_see_it(tmp_path: Path) -> None:
    """Pillow gives a TIFF's size as it is shown, and that of every other form as it is stored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    listing = Listing(tmp_path)
    for name in ("a.tif", "a.jpg"):
        Image.new("RGB", (60, 40)).save(tmp_path / name, exif=exif)
        assert Pictures(listing, Note()).size(tmp_path / name) == (40, 60)


def test_capitals_in_the_names_of_folders_and_suffixes_are_passed_over(tmp_path: Path) -> None:
    for name, label in (("a", "a.txt"), ("b", "B.TXT")):
        picture(tmp_path / f"set/Images/{name}.JPG", (100, 80))
        lines(tmp_path / f"set/Labels/{label}", "0 0.5 0.5 0.5 0.25")
    lines(tmp_path / "set/classes.txt", "cat")
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"] == {name: [("cat", 25, 30, 50, 20)] for name in ("a.JPG", "b.JPG")}


def test_ids_that_count_from_one_are_refused(tmp_path: Path) -> None:
    """Each class would be taken for the next one, and the last be left out."""
    picture(tmp_path / "set/images/a.jpg", (100, 80))
    lines(tmp_path / "set/labels/a.txt", "1 0.5 0.5 0.5 0.25", "2 0.5 0.5 0.5 0.5")
    lines(tmp_path / "set/classes.txt", "cat", "dog")
    with pytest.raises(DataError, match=r"1 lines have the class id 2, with 2 classes .*counted from 1"):
        converted(tmp_path / "set", tmp_path / "out")
    lines(tmp_path / "set/labels/a.txt", "0 0.5 0.5 0.5 0.25", "2 0.5 0.5 0.5 0.5")
    seen = converted(tmp_path / "set", tmp_path / "out")
    assert seen.splits["train"] == {"a.jpg": [("cat", 25, 30, 50, 20)]}
    assert "is '2', expected one of the 2 ids" in seen.complaints


@pytest.mark.parametrize(
    "index",
    [
        "path: ROOT\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n",
        "path: /content/drive/My Drive/set\ntrain: images/train\nval: images/val\nnames: {0: cat}\n",
        "train: C:\\data\\set\\images\\train\nval: C:\\data\\set\\images\\val\nnames: [cat]\n",
        "train: ../images/train\nval: ../images/val\nnc: 1\nnames: ['cat']\n",
        "path: .\ntrain: [images/train]\nval: [images/val]\nnames: {'0': cat}\n",
        "train: train.txt\nval: val.txt\nnames: [cat]\n",
    ],
)
def test_every_way_to_name_the_folders_leads_to_the_same_boxes(tmp_path: Path, index: str) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        picture(root / f"images/{split}/{split}.jpg", (100, 80))
        lines(root / f"labels/{split}/{split}.txt", "0 0.5 0.5 0.5 0.25")
    lines(root / "train.txt", "/home/me/set/images/train/train.jpg")
    lines(root / "val.txt", ".\\images\\val\\val.jpg")
    write(root / "data.yaml", index.replace("ROOT", str(root)))
    assert converted(root, tmp_path / "out").splits == {
        split: {f"{split}.jpg": [("cat", 25, 30, 50, 20)]} for split in ("train", "val")
    }
