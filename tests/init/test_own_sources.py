"""Which split is for what, as the user says it or as a VOC folder shows it; calls that make no sense."""

from pathlib import Path

import pytest

from detnas_nni.errors import DataError, UsageError
from detnas_nni.init.sources import coco_sources, voc_sources
from tests.data.data_builders import voc_object, write_voc
from tests.init.own_data import coco


def voc_folder(root: Path, *image_sets: str) -> Path:
    for image_set in image_sets:
        write_voc(root, {f"{image_set}_a": [voc_object("cat", (2, 2, 20, 20))]}, image_set)
    return root


def found_in(root: Path, **options: object) -> dict[str, str]:
    arguments = {"image_set": None, "val": None, "test": None, "one_based": False, "name": None, **options}
    return {name: split.image_set for name, split in voc_sources(root, **arguments).splits.items()}


def test_with_val_and_test_each_is_what_it_says(tmp_path: Path) -> None:
    train, val, test = (coco(tmp_path, name) for name in ("train", "val", "test"))
    sources = coco_sources(train, val, test, None)
    assert [str(split.annotations) for split in sources.splits.values()] == [train[1], val[1], test[1]]
    assert list(sources.splits) == ["train", "search", "test"]
    assert sources.chosen == ()


def test_a_val_split_alone_is_kept_for_the_final_number_and_that_is_said(tmp_path: Path) -> None:
    train, val = coco(tmp_path, "train"), coco(tmp_path, "val")
    sources = coco_sources(train, val, None, None)
    assert list(sources.splits) == ["train", "test"]
    assert "no search may see" in sources.chosen[0]


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (("train", "val", "trainval", "test"), {"train": "trainval", "test": "test"}),
        (("train", "val", "test"), {"train": "train", "search": "val", "test": "test"}),
        (("train", "val"), {"train": "train", "test": "val"}),
        (("train",), {"train": "train"}),
    ],
)
def test_a_voc_folder_shows_its_splits(there: tuple[str, ...], found: dict[str, str], tmp_path: Path) -> None:
    assert found_in(voc_folder(tmp_path, *there)) == found


def test_image_sets_can_be_named(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, "mine", "theirs", "last")
    named = {"image_set": "mine", "val": ["theirs"], "test": ["last"]}
    assert found_in(root, **named) == {"train": "mine", "search": "theirs", "test": "last"}
    with pytest.raises(DataError, match=r"neither trainval.txt nor train.txt, but last, mine, theirs"):
        found_in(root)


def test_an_image_set_whose_pictures_have_no_xml_file_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    """VOC gave out the names of the test pictures first."""
    root = voc_folder(tmp_path, "train", "test")
    (root / "Annotations/test_a.xml").unlink()
    assert found_in(root) == {"train": "train"}
    sources = voc_sources(root, None, None, None, False, None)
    assert "left out: the image set test, none of whose images has an XML file" in sources.chosen


def test_what_is_no_voc_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: cannot be read .*expected a Pascal VOC folder"):
        found_in(tmp_path / "gone")
    with pytest.raises(DataError, match="has no XML file in annotations, annotation, xmls or beside"):
        found_in(tmp_path)


def test_pairs_and_names_belong_to_their_form(tmp_path: Path) -> None:
    train = coco(tmp_path)
    with pytest.raises(UsageError, match="--val mine: with --coco, expected the image folder and"):
        coco_sources(train, ["mine"], None, None)
    with pytest.raises(UsageError, match="--test a b: with --voc, expected the name of one image set"):
        found_in(voc_folder(tmp_path / "voc", "train"), test=["a", "b"])
    with pytest.raises(UsageError, match="give the image folder first"):
        coco_sources(train[::-1], None, None, None)


@pytest.mark.parametrize(
    ("folder", "name"), [("My Cells (2)", "my-cells-2-"), ("__", "mine"), ("bccd", "bccd")]
)
def test_the_data_folder_gives_the_name(folder: str, name: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    pair = [str(tmp_path), str(tmp_path / folder / "train.json")]
    assert coco_sources(pair, None, None, None).name == name
    assert coco_sources(pair, None, None, "other").name == "other"
