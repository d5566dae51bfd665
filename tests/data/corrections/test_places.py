"""Names of image files in other forms: the one file that fits is taken, none outside the folder ever."""

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from detnas_nni.data.coco import read_coco
from detnas_nni.data.corrections.places import ImageFiles
from detnas_nni.data.problems import MISSING
from detnas_nni.data.records import DetectionSet
from detnas_nni.errors import DataError
from tests.data.data_builders import coco_content, write_coco, write_image
from tests.data.scenes import told, write_json


def named(tmp_path: Path, form: str, files: str = "{}.png", **options: Any) -> DetectionSet:
    """Four images that are `files` in the folder and `form` in the annotations, read."""
    content = coco_content()
    folder, file = write_coco(tmp_path, content)
    for number, entry in enumerate(content["images"]):
        target = folder / files.format(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / f"{number}.png", target)
        entry["file_name"] = form.format(number)
    return read_coco(folder, write_json(file, content), **options)


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("images/{}.png", "{}.png"),
        ("data/images/{}.png", "{}.png"),
        ("{}.png", "images/{}.png"),
        ("b/{}.png", "a/b/{}.png"),
        ("images\\{}.png", "{}.png"),
        ("a\\{}.png", "a/{}.png"),
        ("my%20cat%20{}.png", "my cat {}.png"),
        ("images/%C3%A9t%C3%A9{}.png", "été{}.png"),
        (unicodedata.normalize("NFD", "été{}.png"), unicodedata.normalize("NFC", "été{}.png")),
        (unicodedata.normalize("NFC", "日本ガ{}.png"), unicodedata.normalize("NFD", "日本ガ{}.png")),
        ("{}.PNG", "{}.png"),
        ("IMG_{}.png", "img_{}.PNG"),
        ("C:\\Users\\me\\set\\images\\{}.png", "{}.png"),
        ("/home/me/set/images/{}.png", "{}.png"),
        ("/home/me/photos/{}.png", "train/{}.png"),
        ("../images/{}.png", "{}.png"),
        ("file:///data/images/{}.png", "{}.png"),
        ("http://x.org/train2017/{}.png", "{}.png"),
        ("/data/local-files/?d=set/images/{}.png", "{}.png"),
        ("my%2520cat{}.png", "my cat{}.png"),
        ("s3://bucket/set/{}.png?X-Amz-Date=1", "{}.png"),
        ("images\\1a2b3c4d-{}.png", "{}.png"),
        ("{}", "{}.png"),
        ("b/{}.v2", "a/b/{}.v2.png"),
        ("{}.jpeg", "{}.JPG"),
    ],
)
def test_the_one_file_that_fits_is_taken_and_counted(tmp_path: Path, form: str, files: str) -> None:
    images = named(tmp_path, form, files)
    assert [record.file for record in images.records] == [
        tmp_path / "images" / files.format(number) for number in range(4)
    ]
    assert [record.boxes[0, 0] for record in images.records] == [0, 1, 2, 3]
    assert told(images, "names in other forms") == 4


def test_another_suffix_is_another_picture_and_two_pictures_are_no_answer(tmp_path: Path) -> None:
    for name in ("0.jpg", "1.png", "1.jpg", "2.jpg", "2.JPEG"):
        (tmp_path / name).touch()
    names = dict(enumerate(["0.png", "1", "2.jpe", "2", "1.jpeg"]))
    files = ImageFiles(tmp_path, "images").resolve(names, set())
    assert files == {4: tmp_path / "1.jpg"}


def test_names_that_files_have_are_left_alone(tmp_path: Path) -> None:
    """Also where a file of the same name lies deeper."""
    content = coco_content()
    folder, file = write_coco(tmp_path, content)
    shutil.copytree(folder, folder / "images")
    images = read_coco(folder, file)
    assert [record.file.parent for record in images.records] == [folder] * 4
    assert images.corrections == ()


def test_where_two_files_fit_none_is_taken_and_that_is_said(tmp_path: Path) -> None:
    content = coco_content()
    folder, file = write_coco(tmp_path, content)
    for name in ("a", "b"):
        shutil.copytree(folder, tmp_path / "both" / name)
    with pytest.raises(
        DataError, match=r"`images\[0\].file_name` is '0.png'.*2 files fit, such as 'a/0.png'"
    ):
        read_coco(tmp_path / "both", file)


def test_a_file_of_another_folder_is_not_taken_for_one_that_is_missed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a/0.png', expected a file that exists"):
        named(tmp_path, "a/{}.png", "b/{}.png")


def test_two_names_are_not_one_file(tmp_path: Path) -> None:
    content = coco_content()
    folder, file = write_coco(tmp_path, content)
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "x/0.PNG", "y/0.PNG"
    with pytest.raises(DataError, match=r"'x/0.PNG', expected a file that exists.*2 problems in all"):
        read_coco(folder, write_json(file, content))
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "0.png", "y/0.png"
    with pytest.raises(DataError, match=r"'y/0.png', expected a file that exists.*1 problem in all"):
        read_coco(folder, write_json(file, content))


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "C:\\secret.png", "images/../../secret.png"]
)
def test_no_file_outside_the_folder_is_taken(tmp_path: Path, name: str) -> None:
    content = coco_content()
    folder, file = write_coco(tmp_path, content)
    (tmp_path / "secret.png").write_bytes(b"x")
    content["images"][0]["file_name"] = name
    with pytest.raises(DataError, match="which leads out of the image folder"):
        read_coco(folder, write_json(file, content), max_bad=100)


def test_a_missed_file_is_told_with_the_nearest_and_with_the_folder_that_has_it(tmp_path: Path) -> None:
    content = coco_content()
    folder, file = write_coco(tmp_path, content)
    (folder / "0.png").rename(folder / "cat-0.png")
    content["images"][0]["file_name"] = "cat_0.png"
    with pytest.raises(DataError, match=r"'cat_0.png'.*the most similar is 'cat-0.png'"):
        read_coco(folder, write_json(file, content))
    (tmp_path / "empty").mkdir()
    for entry in content["images"]:
        entry["file_name"] = f"images/{entry['file_name']}"
    (folder / "cat-0.png").rename(folder / "cat_0.png")
    with pytest.raises(
        DataError, match=rf"it is in {tmp_path}, which may be the folder to name.*3 more like it"
    ):
        read_coco(tmp_path / "empty", write_json(file, content))


def test_an_address_that_is_none_is_one_missing_picture(tmp_path: Path) -> None:
    content = coco_content()
    content["images"][0]["file_name"] = "http://[x/gone.png"
    folder, file = write_coco(tmp_path, content, images=False)
    for number in (1, 2, 3):
        write_image(folder / f"{number}.png")
    images = read_coco(folder, file, max_bad=2)
    assert (len(images), images.notes[MISSING]) == (3, 1)
    (text,) = (text for text in images.problems if "gone.png" in text)
    assert "images[0]" in text


def test_links_that_go_round_are_gone_through_once(tmp_path: Path) -> None:
    content = coco_content()
    folder, file = write_coco(tmp_path, content)
    (folder / "loop").symlink_to(folder)
    content["images"][0]["file_name"] = "gone.png"
    with pytest.raises(DataError, match=r"'gone.png'"):
        read_coco(folder, write_json(file, content))
    assert "0.png" in ImageFiles(folder, "images")
