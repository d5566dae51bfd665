"""An experiment's config and its data at a glance."""

import json

import pytest

from detnas_nni.cli import main
from detnas_nni.doctor import experiment
from tests.data.data_builders import coco_content, write_coco
from tests.doctor.findings import only, statuses


def test_a_config_with_mistakes_is_one_problem_each(write_config, tmp_path):
    path = write_config(tmp_path / "detnas.yaml", search={"populatoin": 3}, detector={"min_size": 0})
    config, findings = experiment.read_config(path, [])
    assert config is None
    assert [finding.status for finding in findings] == ["problem", "problem"]
    assert any("search.populatoin: unknown key" in finding.text for finding in findings)
    assert {finding.remedy for finding in findings} == {f"edit {path}"}


def test_overrides_count(write_config, tmp_path):
    config, _ = experiment.read_config(write_config(tmp_path / "detnas.yaml"), ["hardware.workers=3"])
    assert config.hardware.workers == 3


def test_data_that_is_there_is_well(make_config, tmp_path):
    found = statuses(experiment.data(make_config(tmp_path)))
    assert set(found.values()) == {"ok"}
    splits = (
        "classification.train",
        "classification.test",
        "detection.train",
        "detection.search",
        "detection.test",
    )
    assert set(found) == {f"data.{split}" for split in splits}


COCO = {"images": [{"file_name": "a.png"}], "annotations": [], "categories": []}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "boxes.json: cannot be read (No such file or directory)"),
        ("<html>not found</html>", "boxes.json: is not JSON"),
        (json.dumps(COCO), "a.png: does not open as an image (No such file or directory)"),
        (json.dumps(COCO).replace("a.png", "text.png"), "text.png: does not open as an image"),
        (
            json.dumps(COCO).replace("a.png", "../../etc/passwd"),
            "names '../../etc/passwd', which is not a file in",
        ),
        (json.dumps(COCO).replace("a.png", r"a\u0000"), "names 'a\\x00', which is not a file in"),
        (json.dumps(COCO).replace("a.png", "a_folder"), "a_folder: is not a file"),
        ('{"annotations": []}', "has no images"),
    ],
    ids=["no file", "no JSON", "no image", "a text", "outside", "a NUL", "a folder", "no images at all"],
)
def test_coco_data_that_is_missing_or_wrong_is_named(make_config, tmp_path, content, reason):
    images = tmp_path / "images"
    (images / "a_folder").mkdir(parents=True)
    if content and "text.png" in content:
        (images / "text.png").write_text("no image")
    if content is not None:
        (tmp_path / "boxes.json").write_text(content)
    split = {"images": str(images), "annotations": str(tmp_path / "boxes.json")}
    config = make_config(tmp_path / "run", data={"detection": {"train": split}})
    found = only(experiment.data(config), "data.detection.train")
    assert found.status == "problem"
    assert reason in found.text
    assert "data.detection.train" in found.remedy


def voc(root, shapes, images="JPEGImages"):
    """A set of one image, listed as `train`, whose file lies in a folder of that name."""
    for folder in ("ImageSets/Main", "Annotations", images):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("one\n")
    (root / "Annotations/one.xml").write_text("<annotation/>")
    image = next(path for path in (shapes / "detection/train").iterdir() if path.suffix in (".png", ".jpg"))
    (root / images / f"one{image.suffix}").write_bytes(image.read_bytes())
    return root


def test_voc_data_is_looked_at_source_by_source(make_config, shapes, tmp_path):
    root = voc(tmp_path / "voc", shapes)
    (root / "ImageSets/Main/empty.txt").write_text("\n")
    train = [{"root": str(root), "image_set": name} for name in ("train", "empty", "absent")]
    detection = {"format": "voc", "train": train, "search": None, "test": None}
    found = experiment.data(make_config(tmp_path / "run", data={"detection": detection}))
    sources = {name: status for name, status in statuses(found).items() if "detection" in name}
    assert sources == {
        "data.detection.train[0]": "ok",
        "data.detection.train[1]": "problem",
        "data.detection.train[2]": "problem",
    }


def test_voc_images_are_where_a_link_that_git_wrote_as_text_leads(make_config, shapes, tmp_path):
    root = voc(tmp_path / "voc", shapes, images="photos")
    (root / "JPEGImages").write_text("photos")
    train = [{"root": str(root), "image_set": "train"}]
    detection = {"format": "voc", "train": train, "search": None, "test": None}
    found = experiment.data(make_config(tmp_path / "run", data={"detection": detection}))
    source = only(found, "data.detection.train")
    assert (source.status, str(root / "photos") in source.text) == ("ok", True)


def test_an_image_folder_without_classes_or_images_is_named(make_config, tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "empty" / "class_a").mkdir(parents=True)
    data = {"classification": {"train": str(tmp_path / "flat"), "test": str(tmp_path / "empty")}}
    found = experiment.data(make_config(tmp_path / "run", data=data))
    assert "has no folders" in only(found, "data.classification.train").text
    assert "has no images" in only(found, "data.classification.test").text


def coco_split(root, change):
    """A split of four images with a change of its annotations."""
    content = coco_content()
    change(content)
    images, annotations = write_coco(root, content)
    return {"images": str(images), "annotations": str(annotations)}


def swap(content):
    content["annotations"][0]["bbox"] = [10, 25, -10, -20]


def read(make_config, tmp_path, change, **data):
    detection = {"train": coco_split(tmp_path / "data", change), "search": None, "test": None, "holdout": 1}
    values = {"classification": None, "detection": detection, **data}
    return experiment.annotations(make_config(tmp_path / "run", data=values))


def test_what_is_corrected_in_annotations_is_told(make_config, tmp_path):
    (found,) = read(make_config, tmp_path, swap)
    assert (found.status, "docs/data.md" in found.remedy) == ("warning", True)
    assert found.text.startswith("train: 1 box has its corners swapped (negative sides); sorted")


def test_sound_annotations_are_well(make_config, tmp_path):
    (found,) = read(make_config, tmp_path, lambda content: None)
    assert (found.status, found.text) == ("ok", "nothing had to be corrected")


def test_strict_makes_a_correction_a_problem(make_config, tmp_path):
    (found,) = read(make_config, tmp_path, swap, strict=True)
    assert found.status == "problem" and "1 box has its corners swapped" in found.text


def test_strict_can_be_asked_for_on_the_command_line(write_config, tmp_path, capsys):
    detection = {"train": coco_split(tmp_path / "data", swap), "search": None, "test": None, "holdout": 1}
    path = write_config(tmp_path / "detnas.yaml", data={"classification": None, "detection": detection})
    assert main(["doctor", "-c", str(path), "--strict", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = [finding for finding in findings if finding["name"] == "annotations"]
    assert found["status"] == "problem" and "Nothing may be corrected" in found["text"]


def test_a_name_that_is_read_in_another_form_is_found_at_a_glance(make_config, tmp_path):
    def move(content):
        for entry in content["images"]:
            entry["file_name"] = entry["file_name"].replace(".png", ".PNG")

    split = coco_split(tmp_path / "data", lambda content: None)
    content = json.loads((tmp_path / "data/train.json").read_text())
    move(content)
    (tmp_path / "data/train.json").write_text(json.dumps(content))
    found = experiment.data(make_config(tmp_path / "run", data={"detection": {"train": split}}))
    assert only(found, "data.detection.train").status == "ok"
