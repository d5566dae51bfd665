"""`detnas init PATH`: data sets as tools leave them, recognised, split and read in one call."""

import json
import re
from pathlib import Path

import pytest
import yaml

from detnas_nni.cli import main
from detnas_nni.data.coco import read_coco
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError, UsageError
from detnas_nni.init.recognised import recognised_sources
from tests.data.data_builders import coco_content, voc_object, write_image, write_voc
from tests.data.formats.exports import lines, picture, write


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the user works."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def sources(path: Path, **options: object):
    said: list[str] = []
    with recognised_sources(path, said.append, **options) as found:
        return found, said


def coco_folder(folder: Path, name: str, first: int, images: Path | None = None, prefix: str = "") -> Path:
    """A COCO file of three pictures, called `prefix` and their numbers from `first`."""
    content = coco_content(3)
    for number, entry in enumerate(content["images"], start=first):
        entry["file_name"] = f"{prefix}{number}.png"
        write_image((images or folder) / f"{number}.png", seed=number)
    return write(folder / name, content)


def pairs(found) -> dict[str, tuple[str, str]]:
    return {name: (split.images.name, split.annotations.name) for name, split in found.splits.items()}


def test_roboflows_coco_folders_are_three_splits(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        coco_folder(tmp_path / "set" / split, "_annotations.coco.json", 10 * number)
    found, said = sources(tmp_path / "set")
    assert pairs(found) == {
        "train": ("train", "_annotations.coco.json"),
        "search": ("valid", "_annotations.coco.json"),
        "test": ("test", "_annotations.coco.json"),
    }
    assert said == [f"{tmp_path}/set: recognised as COCO: test/_annotations.coco.json and 2 more"]


def test_cocos_own_layout_is_read_without_its_captions_and_key_points(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    for number, split in enumerate(("train2017", "val2017")):
        for kind in ("instances", "captions", "person_keypoints"):
            coco_folder(
                root / "annotations", f"{kind}_{split}.json", 10 * number, images=root / "images" / split
            )
    found, _ = sources(root)
    assert pairs(found) == {
        "train": ("train2017", "instances_train2017.json"),
        "test": ("val2017", "instances_val2017.json"),
    }
    assert found.name == "coco"


@pytest.mark.parametrize(
    ("name", "prefix", "images", "folder"),
    [
        ("annotations/instances_default.json", "", "images", "images"),  # CVAT
        ("annotations/instances_default.json", "", "images/default", "default"),  # CVAT, later
        ("result.json", "images/", "images", "set"),  # Label Studio
        ("result.json", "images\\", "images", "set"),  # Label Studio on Windows
        ("labels.json", "", "data", "data"),  # FiftyOne
        ("labels_my-project.json", "", "my pictures", "my pictures"),  # makesense
        ("export.json", "C:\\Users\\me\\photos\\", "photos", "set"),
    ],
)
def test_the_pictures_of_a_coco_file_are_looked_for(
    name: str, prefix: str, images: str, folder: str, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    file = root / name
    coco_folder(file.parent, file.name, 0, images=root / images, prefix=prefix)
    found, _ = sources(root)
    assert list(found.splits) == ["train"]
    assert (found.train.images.name, found.train.annotations) == (folder, file)


def test_coco_files_of_which_it_is_not_clear_what_they_are_are_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("first.json", "second.json"):
        coco_folder(root, name, 0)
    with pytest.raises(DataError, match=r"first.json, .*second.json may each be the split train; expected"):
        sources(root)
    found, _ = sources(root / "second.json")
    assert found.train.annotations == root / "second.json"


def test_coco_files_without_their_pictures_name_the_first(tmp_path: Path) -> None:
    write(tmp_path / "set/train.json", coco_content(3))
    with pytest.raises(DataError, match=r"none of its first pictures is below .*the first is '0.png'. Copy"):
        sources(tmp_path / "set")
    for number in range(3):
        write_image(tmp_path / f"elsewhere/{number}.png")
    found, _ = sources(tmp_path / "set", images=tmp_path / "elsewhere")
    assert found.train.images == tmp_path / "elsewhere"


def test_a_voc_folder_with_sets_is_read_by_them(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOCdevkit/VOC2007", {"a": [voc_object("cat", (1, 2, 9, 9))]}, "default")
    found, said = sources(tmp_path / "VOCdevkit")
    assert (found.form, found.train.root, found.train.image_set) == ("voc", root, "default")
    assert "recognised as Pascal VOC: VOC2007/Annotations/a.xml" in said[0]


def test_an_option_of_another_format_than_the_recognised_one_is_refused(tmp_path: Path) -> None:
    coco_folder(tmp_path / "coco", "train.json", 0)
    voc = write_voc(tmp_path / "voc", {"a": [voc_object("cat", (1, 2, 9, 9))]}, "train")
    for root, options, refused in (
        (tmp_path / "coco", {"image_set": "train"}, "--image-set goes with Pascal VOC"),
        (yolo_set(tmp_path / "yolo"), {"one_based": True}, "--one-based goes with Pascal VOC"),
        (voc, {"images": tmp_path}, "--images goes with other formats than Pascal VOC"),
    ):
        with pytest.raises(UsageError, match=f"^{refused}; {root} was recognised as "):
            sources(root, **options)


@pytest.mark.parametrize(
    ("xml", "pictures"),
    [
        ("annotations/{}", "images/{}"),
        ("{}/annotations", "{}/images"),
        ("{}", "{}"),
        ("{}/labels", "{}/images"),
        ("{}/ann", "{}/pics"),
    ],
)
def test_voc_splits_in_folders_of_their_own_are_three_splits(tmp_path: Path, xml: str, pictures: str) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        picture(tmp_path / pictures.format(split) / f"{split}.jpg", (100, 80))
        box = voc_object("cat", (number, 2, 9, 9))
        text = f"<annotation><size/>{box}</annotation>"
        write(tmp_path / xml.format(split) / f"{split}.xml", text)
    found, _ = sources(tmp_path)
    read = {name: read_voc(split.root) for name, split in found.splits.items()}
    assert {name: images.records[0].file.name for name, images in read.items()} == {
        "train": "train.jpg",
        "search": "valid.jpg",
        "test": "test.jpg",
    }
    assert [images.records[0].boxes[0].tolist() for images in read.values()] == [
        [number, 2, 9, 9] for number in range(3)
    ]


def test_folders_of_days_with_pictures_and_xml_files_are_one_set(tmp_path: Path) -> None:
    for number, day in enumerate(("monday", "tuesday")):
        for name in ("a", "b"):
            picture(tmp_path / f"set/{day}/{name}.jpg", (100, 80))
            box = voc_object("cat", (number, 2, 9, 9))
            write(tmp_path / f"set/{day}/{name}.xml", f"<annotation><size/>{box}</annotation>")
    found, _ = sources(tmp_path)
    records = read_voc(found.train.root).records
    assert [(record.file.parent.name, record.boxes[0, 0]) for record in records] == [
        *[("monday", 0)] * 2,
        *[("tuesday", 1)] * 2,
    ]


def test_two_voc_folders_are_asked_for(tmp_path: Path) -> None:
    for year in (2007, 2012):
        write_voc(tmp_path / f"VOC{year}", {"a": [voc_object("cat", (1, 2, 9, 9))]})
    with pytest.raises(DataError, match=r"has 2 VOC folders \(VOC2007, VOC2012\); expected one"):
        sources(tmp_path)


def yolo_set(root: Path, count: int = 12) -> Path:
    for number in range(count):
        split = "train" if number < count - 2 else "valid"
        picture(root / split / "images" / f"{number}.jpg", (100 + number, 80))
        lines(root / split / "labels" / f"{number}.txt", "0 0.5 0.5 0.5 0.25", "1 0.2 0.2 0.2 0.2")
    write(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
    return root


def test_one_call_writes_an_experiment_of_a_yolo_folder(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_set(tmp_path / "My Cats")
    lines(root / "train/labels/0.txt", "0 0.5 0.5 0.5 0.25", "7 0.5 0.5 0.5 0.5")
    assert main(["init", str(root), "--no-timing"]) == 0
    out = capsys.readouterr().out
    assert f"{root}: recognised as YOLO: data.yaml names its classes and its splits" in out
    assert "`line 2, class` is '7', expected one of the 2 ids" in out
    folder = here / "experiments/my-cats"
    assert sorted(file.name for file in folder.iterdir()) == [
        *("PLAN.md", "data", "detnas.yaml", "search.yaml", "search_space.json")
    ]
    assert "`line 2, class` is '7'" in (folder / "PLAN.md").read_text()
    data = yaml.safe_load((folder / "detnas.yaml").read_text())["data"]["detection"]
    assert data["format"] == "coco"
    assert {name: data[name]["annotations"] for name in ("train", "test")} == {
        "train": "data/train.json",
        "test": "data/val.json",
    }
    images = read_coco(Path(data["train"]["images"]), folder / data["train"]["annotations"])
    assert (len(images), images.classes) == (10, ("cat", "dog"))


def test_a_call_that_fails_leaves_an_experiments_data_as_they_were(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_set(tmp_path / "cats")
    assert main(["init", str(root), "--no-timing"]) == 0
    folder = here / "experiments/cats"
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert folder / "data/conversion.json" in before
    write(root / "data.yaml", "train: ../train/images\nnc: 2\nnames: ['dog', 'cat']\n")
    capsys.readouterr()
    for wrong in (["--pretrain", "supernet"], ["--hours", "1"]):
        assert main(["init", str(root), "--no-timing", *wrong]) != 0
        assert "replaced" not in capsys.readouterr().out
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_strict_and_backgrounds_are_for_every_form(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_set(tmp_path / "cats")
    for number in range(12):  # beside their pictures, as labelImg leaves labels
        for label in root.glob(f"*/labels/{number}.txt"):
            label.rename(label.parents[1] / "images" / label.name)
    (root / "train/images/3.txt").unlink()
    for options, count in (([], 9), (["--backgrounds"], 10)):
        assert main(["init", str(root), "--no-timing", "--overwrite", *options]) == (0 if count == 10 else 1)
        assert re.search(rf"train +{count} images", capsys.readouterr().out)
    lines(root / "train/images/4.txt", "0 0.5 0.5 0.5 0.25", "7 0.5 0.5 0.5 0.5")
    capsys.readouterr()
    assert main(["init", str(root), "--no-timing", "--overwrite", "--strict"]) == 1
    assert "`line 2, class` is '7'" in capsys.readouterr().err


def test_the_same_call_again_is_refused_until_it_may_overwrite_and_another_folder_is_written_beside(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_set(tmp_path / "cats")
    assert main(["init", str(root), "--no-timing"]) == 0
    first = (here / "experiments/cats/data/train.json").read_bytes()
    (here / "experiments/cats/notes.txt").write_text("mine")  # untouched, it would be written anew
    assert main(["init", str(root), "--no-timing"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["init", str(root), "--no-timing", "--overwrite"]) == 0
    assert (here / "experiments/cats/data/train.json").read_bytes() == first


def test_a_call_that_failed_behind_the_conversion_can_be_made_again(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_set(tmp_path / "cats", count=5)
    assert main(["init", str(root), "--no-timing"]) == 1
    assert "with fewer than 10" in capsys.readouterr().err
    assert not (here / "experiments").exists()
    yolo_set(root)
    assert main(["init", str(root), "--no-timing"]) == 0
    assert len(json.loads((here / "experiments/cats/data/train.json").read_text())["images"]) >= 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of PATH, --coco IMAGES FILE and --voc DIR; got nothing"),
        (["x", "--voc", "x"], "got PATH and --voc"),
        (["--voc", "x", "--from", "yolo"], "--from goes with PATH"),
        (["--voc", "x", "--images", "x"], "--images goes with PATH"),
        (["x", "--val", "a"], "for PATH the splits are found by the names of its folders"),
        (["--coco", "a", "b", "--one-based"], "--one-based goes with --voc"),
    ],
)
def test_options_that_contradict_each_other_are_a_mistake_of_the_call(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *arguments]) == UsageError.exit_status
    assert message in capsys.readouterr().err
