"""Which format a folder is taken for, and why; what is not clear is asked."""

import json
from pathlib import Path

import pytest

from detnas_nni.cli import parser
from detnas_nni.data.formats.recognise import FORMS, recognise
from detnas_nni.errors import DataError, UsageError
from tests.data.formats.exports import lines, picture, write

COCO = {"images": [], "annotations": [], "categories": []}
VOC = "<annotation><folder>x</folder><filename>a.jpg</filename></annotation>"


def found(path: Path) -> tuple[str, list[str], tuple[str, ...]]:
    seen = recognise(path)
    return seen.form, [str(file) for file in seen.files], seen.also


def test_documents_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    documents = {
        "coco": ("x.json", COCO),
        "lvis": ("x.json", {**COCO, "images": [{"not_exhaustive_category_ids": []}]}),
        "labelme": ("x.json", {"shapes": [], "imagePath": "a.jpg"}),
        "via": ("x.json", {"a.jpg1": {"filename": "a.jpg", "regions": []}}),
        "labelstudio": ("x.json", [{"data": {"image": "a.jpg"}, "annotations": []}]),
        "cvat": ("x.xml", "<annotations><version>1.1</version></annotations>"),
        "voc": ("x.xml", VOC),
        "yolo": ("x.txt", "0 0.5 0.5 0.1 0.1\n"),
        "kitti": ("x.txt", f"Car{' 1' * 14}\n"),
        "openimages": ("x.csv", "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n"),
    }
    assert documents.keys() == FORMS.keys()
    for form, (name, content) in documents.items():
        write(tmp_path / form / name, content)
        assert found(tmp_path / form) == (form, [] if form == "yolo" else [name], ())
        assert found(tmp_path / form / name)[0] == form


def test_the_command_line_has_a_word_for_every_format(tmp_path: Path) -> None:
    for form in FORMS:
        assert parser().parse_args(["init", "--from", form, str(tmp_path)]).form == form


def test_large_files_are_recognised_without_being_read_whole(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "note": "x" * 5_000_000}
    write(tmp_path / "coco.json", json.dumps({**COCO, "images": [image]}))
    write(
        tmp_path / "labelme.json", json.dumps({"shapes": [], "imagePath": "a", "imageData": "x" * 5_000_000})
    )
    assert recognise(tmp_path / "coco.json").form == "coco"
    assert recognise(tmp_path / "labelme.json").form == "labelme"


def test_of_several_formats_one_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "annotations.json", COCO)
    write(tmp_path / "voc/a.xml", VOC)
    lines(tmp_path / "a.txt", "0 0.5 0.5 0.1 0.1")
    seen = recognise(tmp_path)
    assert (seen.form, seen.also) == ("coco", ("voc", "yolo"))
    assert seen.sentence == (
        "recognised as COCO: annotations.json; there is also Pascal VOC (--from voc); there is also YOLO "
        "(--from yolo)"
    )
    assert recognise(tmp_path, "voc").files[0].as_posix() == "voc/a.xml"


def test_what_is_asked_for_has_to_be_there(tmp_path: Path) -> None:
    write(tmp_path / "annotations.json", COCO)
    with pytest.raises(DataError, match=r"no KITTI was found; expected .*15 columns. There is COCO"):
        recognise(tmp_path, "kitti")
    with pytest.raises(DataError, match="does not exist; expected a folder of pictures and annotations"):
        recognise(tmp_path / "gone")


def test_a_folder_without_annotations_says_what_would_be_known(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    lines(tmp_path / "README.txt", "1 2 3 4 5")
    write(tmp_path / "package.json", {"name": "x"})
    write(tmp_path / "pom.xml", "<project/>")
    write(tmp_path / "notes.txt", "a b c\n")
    with pytest.raises(
        DataError, match=r"no annotations were recognised among 5 files; expected one of COCO, "
    ):
        recognise(tmp_path)


def test_of_two_data_yaml_the_nearer_is_taken_and_two_beside_each_other_are_refused(tmp_path: Path) -> None:
    index = "train: images\nnames: [cat]\n"
    write(tmp_path / "data.yaml", index)
    write(tmp_path / "old/data.yaml", index)
    assert found(tmp_path)[1] == ["data.yaml"]
    write(tmp_path / "fold1.yaml", index)
    assert found(tmp_path)[1] == ["data.yaml"]
    (tmp_path / "data.yaml").rename(tmp_path / "fold2.yaml")
    with pytest.raises(DataError, match=r"fold1.yaml, fold2.yaml each name classes and splits; expected one"):
        recognise(tmp_path)
    assert found(tmp_path / "fold2.yaml")[1] == ["fold2.yaml"]


def test_many_files_in_a_folder_are_of_one_format_even_if_one_is_damaged(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / f"{number:02}.json", {"shapes": [], "imagePath": "a.jpg"})
    write(tmp_path / "07.json", "{")
    assert len(recognise(tmp_path).files) == 30
    write(tmp_path / "00.json", COCO)  # of two formats in a folder, each file is looked into
    assert found(tmp_path) == ("coco", ["00.json"], ("labelme",))


def test_hidden_folders_are_left_out_and_links_that_lead_back_end(tmp_path: Path) -> None:
    write(tmp_path / ".git/annotations.json", COCO)
    write(tmp_path / "__MACOSX/annotations.json", COCO)
    write(tmp_path / "set/a.xml", VOC)
    (tmp_path / "set/again").symlink_to(tmp_path)
    assert found(tmp_path) == ("voc", ["set/a.xml"], ())


def test_one_word_too_many_is_a_mistake_of_the_call(tmp_path: Path) -> None:
    with pytest.raises((UsageError, SystemExit)):
        parser().parse_args(["init", "--from", "yolov9000", str(tmp_path)])
