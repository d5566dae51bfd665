"""VOC as tools leave it: side by side or in folders, without lists, lists with more than names."""

import shutil
from pathlib import Path

import pytest

from detnas_nni.data.records import DetectionSet
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError
from tests.data.data_builders import voc_object, write_image, write_voc
from tests.data.scenes import told

OBJECTS = {"a": [voc_object("cat", (4, 5, 20, 25))], "b": [voc_object("dog", (1, 2, 9, 9))]}


def laid_out(root: Path, layout: str) -> Path:
    """A set of two pictures in the layout of a tool, without lists."""
    made = write_voc(root / "made", OBJECTS)
    target = root / "set"
    if layout == "voc":
        shutil.rmtree(made / "ImageSets")
        made.rename(target)
    elif layout == "labelImg":
        shutil.copytree(made / "JPEGImages", target / "images")
        shutil.copytree(made / "Annotations", target / "annotations")
    elif layout == "labels":
        shutil.copytree(made / "JPEGImages", target / "Images")
        shutil.copytree(made / "Annotations", target / "xmls")
    elif layout == "side by side":
        shutil.copytree(made / "JPEGImages", target)
        shutil.copytree(made / "Annotations", target, dirs_exist_ok=True)
    elif layout == "pictures in the root":
        shutil.copytree(made / "JPEGImages", target)
        shutil.copytree(made / "Annotations", target / "Annotations")
    return target


def boxes(images: DetectionSet) -> dict[str, list[list[float]]]:
    return {record.file.name: record.boxes.tolist() for record in images.records}


EXPECTED = {"a.jpg": [[4, 5, 20, 25]], "b.jpg": [[1, 2, 9, 9]]}


@pytest.mark.parametrize("layout", ["voc", "labelImg", "labels", "side by side", "pictures in the root"])
def test_all_pictures_with_an_xml_file_are_one_set(tmp_path: Path, layout: str) -> None:
    images = read_voc(laid_out(tmp_path, layout))
    assert boxes(images) == EXPECTED
    assert images.classes == ("cat", "dog")
    assert [record.image_id for record in images.records] == [1, 2]


def test_the_name_in_the_file_joins_what_the_files_names_do_not(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "side by side")
    content = (root / "a.xml").read_text().replace("<size>", "<filename>a.jpg</filename><size>")
    (root / "a.xml").unlink()
    (root / "001.xml").write_text(content)
    assert boxes(read_voc(root)) == EXPECTED


def test_pictures_without_a_file_are_told_and_are_backgrounds_on_demand(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "labelImg")
    write_image(root / "images/c.png", 31, 17)
    images = read_voc(root)
    assert boxes(images) == EXPECTED and told(images, "pictures without XML") == 1
    with_others = read_voc(root, backgrounds=True)
    assert boxes(with_others) == {**EXPECTED, "c.png": []}
    assert with_others.records[2].size == (31, 17)


def test_backgrounds_of_an_image_set_are_those_that_it_lists(tmp_path: Path) -> None:
    root = write_voc(tmp_path, OBJECTS)
    write_image(root / "JPEGImages/c.png", 31, 17)
    write_image(root / "JPEGImages/d.png", 31, 17)
    (root / "ImageSets/Main/train.txt").write_text("a\nc\n")
    with pytest.raises(DataError, match=r"Annotations/c.xml cannot be read"):
        read_voc(root, "train")
    assert boxes(read_voc(root, "train", backgrounds=True)) == {"a.jpg": EXPECTED["a.jpg"], "c.png": []}


@pytest.mark.parametrize(
    "lines",
    [
        "a.jpg\nb.jpg\n",
        "a  1\nb -1\n",
        "a 0\r\nb 1\r\n",
        "\ufeffa\nb\n",
        "JPEGImages/a.jpg\nJPEGImages\\b.jpg\n",
    ],
)
def test_lists_with_suffixes_flags_folders_and_a_mark_of_windows_are_read(tmp_path: Path, lines: str) -> None:
    root = write_voc(tmp_path, OBJECTS)
    (root / "ImageSets/Main/train.txt").write_text(lines, encoding="utf-8")
    images = read_voc(root, "train")
    assert boxes(images) == EXPECTED
    assert [record.image_id for record in images.records] == [1, 2]


def test_names_with_blanks_are_names(tmp_path: Path) -> None:
    objects = {"my photo 1": OBJECTS["a"], "my photo": OBJECTS["b"]}
    images = read_voc(write_voc(tmp_path, objects), "train")
    assert boxes(images) == {"my photo 1.jpg": [[4, 5, 20, 25]], "my photo.jpg": [[1, 2, 9, 9]]}


@pytest.mark.parametrize(
    "size", ["<size><width>0</width><height>0</height></size>", "", "<size><width>x</width></size>"]
)
def test_a_size_that_is_none_is_read_from_the_picture(tmp_path: Path, size: str) -> None:
    root = write_voc(tmp_path, OBJECTS)
    file = root / "Annotations/a.xml"
    file.write_text(f"<annotation>{size}{''.join(OBJECTS['a'])}</annotation>")
    images = read_voc(root, "train")
    assert images.records[0].size == (40, 30) and boxes(images) == EXPECTED
    assert told(images, "sizes of pictures") == 1


def test_a_mark_of_windows_before_the_xml_is_passed_over(tmp_path: Path) -> None:
    root = write_voc(tmp_path, OBJECTS)
    file = root / "Annotations/a.xml"
    file.write_text("\ufeff<?xml version='1.0' encoding='utf-8'?>" + file.read_text(), encoding="utf-8")
    assert boxes(read_voc(root, "train")) == EXPECTED


def test_suffixes_in_other_letters_are_the_picture(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "voc")
    (root / "JPEGImages/a.jpg").rename(root / "JPEGImages/A.Jpg")
    images = read_voc(root)
    assert [record.file.name for record in images.records] == ["A.Jpg", "b.jpg"]
    assert told(images, "names in other forms") == 1


def test_splits_side_by_side_are_not_thrown_together(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    for name in ("train", "valid", "test"):
        laid_out(tmp_path / name, "side by side").rename(tmp_path / "export" / name)
    with pytest.raises(DataError, match=r"has the splits train, valid, test.*--voc .*train --test .*test"):
        read_voc(tmp_path / "export")


def test_a_folder_without_annotations_says_what_is_expected(tmp_path: Path) -> None:
    write_image(tmp_path / "set/a.jpg")
    with pytest.raises(DataError, match=r"has no XML file in annotations.*pictures with an XML file each"):
        read_voc(tmp_path / "set")
    root = write_voc(tmp_path / "voc", OBJECTS)
    with pytest.raises(DataError, match=r"val.txt: cannot be read.*image set, of which there are: train"):
        read_voc(root, "val")
