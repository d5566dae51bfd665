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
        "a\t1\nb\t-1\n",
        "a.jpg \t 0\nb.jpg\t+1\n",
    ],
)
def test_lists_with_suffixes_flags_folders_and_a_mark_of_windows_are_read(tmp_path: Path, lines: str) -> None:
    root = write_voc(tmp_path, OBJECTS)
    (root / "ImageSets/Main/train.txt").write_text(lines, encoding="utf-8")
    images = read_voc(root, "train")
    assert boxes(images) == EXPECTED
    assert [record.image_id for record in images.records] == [1, 2]


def with_twin(root: Path, filename: str) -> Path:
    """Side by side: a.jpg and a.png with one a.xml, which names `filename`, and b.jpg."""
    root = laid_out(root, "side by side")
    write_image(root / "a.png", seed=9)
    content = (root / "a.xml").read_text()
    (root / "a.xml").write_text(content.replace("<size>", f"<filename>{filename}</filename><size>"))
    return root


@pytest.mark.parametrize(
    ("filename", "meant"),
    [("a.png", "a.png"), ("a.jpg", "a.jpg"), ("C:\\data\\A.PNG", "a.png"), ("../raw/a.jpg", "a.jpg")],
)
@pytest.mark.parametrize("backgrounds", [False, True])
def test_of_two_pictures_of_one_name_the_one_that_the_file_names_is_taken(
    tmp_path: Path, filename: str, meant: str, backgrounds: bool
) -> None:
    images = read_voc(with_twin(tmp_path, filename), backgrounds=backgrounds)
    assert boxes(images) == {meant: EXPECTED["a.jpg"], "b.jpg": EXPECTED["b.jpg"]}
    assert told(images, "pictures of one name") == 1


@pytest.mark.parametrize("filename", ["", "a", "c.png"])
def test_two_pictures_of_one_name_that_nothing_tells_apart_are_refused(tmp_path: Path, filename: str) -> None:
    root = with_twin(tmp_path, filename)
    with pytest.raises(
        DataError, match=r"`a.xml` may belong to a.jpg or a.png, and its `filename` is .*Remove"
    ):
        read_voc(root)
    images = read_voc(root, max_bad=1, backgrounds=True)
    assert boxes(images) == {"b.jpg": EXPECTED["b.jpg"]}


def test_a_line_with_a_suffix_says_which_of_two_pictures_it_means(tmp_path: Path) -> None:
    root = write_voc(tmp_path, OBJECTS)
    write_image(root / "JPEGImages/a.png", seed=9)
    (root / "ImageSets/Main/train.txt").write_text("a.png\nb.jpg\n")
    assert boxes(read_voc(root, "train")) == {"a.png": EXPECTED["a.jpg"], "b.jpg": EXPECTED["b.jpg"]}
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"`Annotations/a.xml` may belong to a.jpg or a.png"):
        read_voc(root, "train")


def test_a_picture_whose_file_is_damaged_is_no_background(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "side by side")
    (root / "a.xml").write_text("<annotation><object>")
    images = read_voc(root, max_bad=1, backgrounds=True)
    assert boxes(images) == {"b.jpg": EXPECTED["b.jpg"]}


POLYGON = "<object><name>cat</name>{}</object>"
ROBOFLOW = (
    "<polygon><x1>4</x1><y1>25</y1><x2>20</x2><y2>9</y2><x3>11.5</x3><y3>5</y3><x4>9</x4><y4>9</y4></polygon>"
)
LABELME = (
    "<polygon><username>me</username><pt><x>4</x><y>25</y></pt><pt><x>20</x><y>9</y></pt>"
    "<pt><x>11</x><y>5</y></pt></polygon>"
)


@pytest.mark.parametrize("polygon", [ROBOFLOW, LABELME])
def test_a_polygon_without_a_box_becomes_the_upright_box_around_it(tmp_path: Path, polygon: str) -> None:
    entries = {"a": [POLYGON.format(polygon), OBJECTS["b"][0]], "b": OBJECTS["b"]}
    images = read_voc(write_voc(tmp_path, entries), "train")
    assert images.records[0].boxes.tolist() == [[4, 5, 20, 25], [1, 2, 9, 9]]
    assert images.records[0].area.tolist() == [320, 56]
    assert told(images, "boxes of segments") == 1


def test_a_box_beside_a_polygon_is_the_objects(tmp_path: Path) -> None:
    entry = voc_object("cat", (4, 5, 20, 25)).replace("</object>", f"{ROBOFLOW.replace('20', '39')}</object>")
    images = read_voc(write_voc(tmp_path, {"a": [entry]}), "train")
    assert images.records[0].boxes.tolist() == [[4, 5, 20, 25]]
    assert told(images, "boxes of segments") == 0


@pytest.mark.parametrize(
    "polygon",
    [
        "<polygon/>",
        "<polygon><x1>4</x1><y1>25</y1><x2>20</x2><y2>9</y2></polygon>",
        ROBOFLOW.replace("<y2>9</y2>", ""),
        ROBOFLOW.replace("<y2>9</y2>", "<y2>low</y2>"),
    ],
)
def test_a_polygon_that_is_none_is_a_problem(tmp_path: Path, polygon: str) -> None:
    root = write_voc(tmp_path, {"a": [POLYGON.format(polygon)], "b": OBJECTS["b"]})
    with pytest.raises(DataError, match=r"object\[0\].polygon` is .*expected three or more corners"):
        read_voc(root, "train")


def test_objects_that_labelme_has_deleted_are_gone(tmp_path: Path) -> None:
    deleted = OBJECTS["b"][0].replace("</object>", "<deleted>1</deleted></object>")
    images = read_voc(write_voc(tmp_path, {"a": [*OBJECTS["a"], deleted]}), "train")
    assert boxes(images) == {"a.jpg": EXPECTED["a.jpg"]} and images.classes == ("cat",)
    assert images.dropped == {"deleted objects": 1}


def test_the_suffix_of_xml_files_may_be_in_capitals(tmp_path: Path) -> None:
    for layout in ("side by side", "labelImg"):
        root = laid_out(tmp_path / layout, layout)
        for file in sorted(root.rglob("*.xml")):
            file.rename(file.with_suffix(".XML"))
        assert boxes(read_voc(root)) == EXPECTED
    listed = write_voc(tmp_path / "listed", OBJECTS)
    (listed / "Annotations/a.xml").rename(listed / "Annotations/a.XML")
    assert boxes(read_voc(listed, "train")) == EXPECTED


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


def test_the_pictures_of_annotations_train_are_in_images_train(tmp_path: Path) -> None:
    made = write_voc(tmp_path / "made", OBJECTS)
    for split in ("train", "val"):
        shutil.copytree(made / "JPEGImages", tmp_path / "images" / split)
        shutil.copytree(made / "Annotations", tmp_path / "annotations" / split)
    write_image(tmp_path / "images/train/c.png", 31, 17)
    images = read_voc(tmp_path / "annotations/train")
    assert boxes(images) == EXPECTED and told(images, "pictures without XML") == 1
    assert {record.file.parent for record in images.records} == {tmp_path / "images/train"}


def test_pictures_in_folders_below_keep_their_own_boxes(tmp_path: Path) -> None:
    """Two cameras with the same names; XML files and pictures side by side, or in two trees."""
    made = write_voc(tmp_path / "made", OBJECTS)
    for number, (xml, pictures) in enumerate(((".", "."), ("Annotations", "JPEGImages"))):
        root = tmp_path / f"set{number}"
        for camera, name in (("left", "a"), ("right", "b")):
            for folder in (root / xml / camera, root / pictures / camera):
                folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(made / f"JPEGImages/{name}.jpg", root / pictures / camera / "0.jpg")
            shutil.copy(made / f"Annotations/{name}.xml", root / xml / camera / "0.xml")
        found = {record.file.parent.name: record.boxes.tolist() for record in read_voc(root).records}
        assert found == {"left": EXPECTED["a.jpg"], "right": EXPECTED["b.jpg"]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb2312", "shift_jis", "iso-8859-1"])
def test_xml_files_are_read_in_the_encoding_that_they_declare(tmp_path: Path, encoding: str) -> None:
    root = laid_out(tmp_path, "side by side")
    name = "ca\u00f1a" if encoding == "iso-8859-1" else "\u732b"
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    text = f"<?xml version='1.0' encoding='{declared}'?>\n" + (root / "a.xml").read_text()
    (root / "a.xml").write_bytes(text.replace("cat", name).encode(encoding))
    images = read_voc(root)
    assert boxes(images) == EXPECTED and set(images.classes) == {"dog", name}


def test_what_all_files_lack_is_said_once_with_how_many_share_it(tmp_path: Path) -> None:
    objects = {name: [voc_object("cat", ("4,5", 5, 20, 25))] for name in ("first", "second", "third", "last")}
    root = write_voc(tmp_path, {**objects, "good": OBJECTS["a"]})
    with pytest.raises(
        DataError,
        match=r"`Annotations/first.xml: object\[0\].bndbox.xmin` is '4,5', expected a "
        r"finite number \(and 3 more like it\). 4 problems in all, 0 allowed",
    ):
        read_voc(root, "train")
    shutil.rmtree(root / "JPEGImages")
    (root / "JPEGImages").mkdir()
    with pytest.raises(
        DataError, match=r"is 'first', expected the name of an image .* \(and 4 more like it\)"
    ):
        read_voc(root, "train")


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
