"""`detnas predict`: what is written is what the net detects, for images of every kind."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor

from detnas_nni.cli import main
from detnas_nni.config import CocoSplit, DetectionData
from detnas_nni.data.images import read_image
from detnas_nni.data.splits import open_detection
from detnas_nni.finished.exporting import export
from detnas_nni.finished.nets import FinishedDetector
from detnas_nni.finished.predicting import coco_results, detect, drawn_names, image_ids, records_by_file
from detnas_nni.finished.sources import load_net, save_net
from tests.data.data_builders import coco_content, write_coco
from tests.finished.conftest import Trained

CATEGORIES = {1: (1, "circle"), 2: (3, "square"), 3: (4, "triangle"), 4: (7, "star"), 5: (8, "ring")} | {
    6: (11, "cross")
}
"""Label to id and name in the generated annotations, whose ids have gaps."""


@pytest.fixture
def images(shapes: Path) -> list[Path]:
    return sorted((shapes / "detection/test").iterdir())


def predict(net: Trained, *arguments: object, status: int = 0) -> None:
    call = ["predict", "-c", net.yaml, "--weights", net.weights, "--score", 0, *arguments]
    assert main([str(argument) for argument in call]) == status


def expected_results(net: Trained, file: Path, pixels: Tensor, image_id: int) -> list[dict[str, Any]]:
    found = net.detections(pixels)
    rows = zip(*(found[key].tolist() for key in ("boxes", "labels", "scores")), strict=True)
    return [
        {
            "image_id": image_id,
            "file_name": str(file),
            "category_id": CATEGORIES[label][0],
            "category": CATEGORIES[label][1],
            "bbox": pytest.approx([x1, y1, x2 - x1, y2 - y1]),
            "score": pytest.approx(score),
        }
        for (x1, y1, x2, y2), label, score in rows
    ]


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())


def test_the_json_is_what_the_net_detects_and_every_image_is_drawn(
    trained: Trained, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    predict(trained, images[0].parent, "--out", out)
    expected = [
        result
        for image_id, file in enumerate(images, start=1)
        for result in expected_results(trained, file, read_image(file), image_id)
    ]
    assert read(out / "detections.json") == expected
    assert f"{len(expected)} detections in {len(images)} images" in capsys.readouterr().out
    for file in images:
        before, drawn = read_image(file), read_image(out / f"{file.stem}.png")
        assert drawn.shape == before.shape
        assert not torch.equal(drawn, before)


def test_what_is_below_the_score_is_left_out_and_not_drawn(
    faster_rcnn: Trained, images: list[Path], tmp_path: Path
) -> None:
    scores = faster_rcnn.detections(read_image(images[0]))["scores"]
    least = scores[: len(scores) // 2].min().item()
    out, json_file = tmp_path / "out", tmp_path / "deep/found.json"
    predict(faster_rcnn, images[0], "--out", out, "--json", json_file, "--score", least)
    assert [result["score"] for result in read(json_file)] == pytest.approx(scores[scores >= least].tolist())
    predict(faster_rcnn, images[0], "--out", out, "--score", 1)
    assert read(out / "detections.json") == []
    assert torch.equal(read_image(out / f"{images[0].stem}.png"), read_image(images[0]))


def test_an_exported_file_needs_no_config(
    faster_rcnn: Trained,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    exported = export(faster_rcnn.config, faster_rcnn.weights, form="torch", out=tmp_path / "d.pt")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "--weights", str(exported), str(images[0]), "--score", "0"]) == 0
    found = read(tmp_path / "predictions/detections.json")
    assert found == expected_results(faster_rcnn, images[0], read_image(images[0]), 1)
    assert "category ids" not in caplog.text
    # The net.pt of a training has all but the category ids.
    assert main(["predict", "--weights", str(faster_rcnn.weights), str(images[0]), "--score", "0"]) == 0
    assert "does not have the data's category ids, so they count from 1; pass its config" in caplog.text
    again = read(tmp_path / "predictions/detections.json")
    assert [result["category"] for result in again] == [result["category"] for result in found]


def test_grey_transparent_and_turned_photos_are_seen_as_people_see_them(
    faster_rcnn: Trained, images: list[Path], tmp_path: Path
) -> None:
    photo = Image.open(images[0]).convert("RGB")
    folder = tmp_path / "photos"
    folder.mkdir()
    photo.convert("L").save(folder / "grey.png")
    transparent = photo.copy()
    transparent.putalpha(128)
    transparent.save(folder / "transparent.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees clockwise
    photo.save(folder / "turned.png", exif=exif)
    predict(faster_rcnn, folder, "--out", tmp_path / "out")
    grey = read_image(images[0]).new_tensor(list(photo.convert("L").tobytes())).reshape(1, *photo.size[::-1])
    pixels = {
        "grey.png": grey.expand(3, -1, -1),
        "transparent.png": read_image(images[0]),
        "turned.png": torch.rot90(read_image(images[0]), -1, (1, 2)),
    }
    expected = []
    for image_id, (name, image) in enumerate(pixels.items(), start=1):
        expected += expected_results(faster_rcnn, folder / name, image, image_id)
    assert read(tmp_path / "out/detections.json") == expected
    assert read_image(tmp_path / "out/turned.png").shape == (3, *photo.size)


def test_an_image_of_the_test_split_is_turned_as_its_boxes_are(
    faster_rcnn: Trained, shapes: Path, images: list[Path], tmp_path: Path
) -> None:
    """Labelled as stored, whatever EXIF says: results that have its id are in that frame."""
    photo, exif = Image.open(images[0]).convert("RGB"), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo.save(tmp_path / "turned.png", exif=exif)
    content = read(shapes / "detection/test.json")
    (image,) = (entry for entry in content["images"] if entry["file_name"] == images[0].name)
    content["images"] = [{**image, "id": 77, "file_name": "turned.png"}]
    content["annotations"] = [
        {**entry, "image_id": 77} for entry in content["annotations"] if entry["image_id"] == image["id"]
    ]
    (tmp_path / "test.json").write_text(json.dumps(content))
    own = [
        *("--set", f"data.detection.test.images={tmp_path}"),
        *("--set", f"data.detection.test.annotations={tmp_path / 'test.json'}"),
    ]
    predict(faster_rcnn, tmp_path / "turned.png", "--out", tmp_path / "out", *own)
    expected = expected_results(faster_rcnn, tmp_path / "turned.png", read_image(images[0]), 77)
    assert read(tmp_path / "out/detections.json") == expected


def test_what_cannot_be_read_is_named_and_the_rest_is_done(
    faster_rcnn: Trained, images: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_text("no image")
    (folder / "b.jpg").write_bytes(images[0].read_bytes())
    (folder / "notes.txt").write_text("no image, and not meant to be one")
    predict(faster_rcnn, folder, "--out", tmp_path / "out", status=1)
    assert f"{folder}/a.jpg: cannot be decoded" in caplog.text
    found = read(tmp_path / "out/detections.json")
    assert {(result["image_id"], result["file_name"]) for result in found} == {(2, str(folder / "b.jpg"))}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["b.png", "detections.json"]


@pytest.mark.parametrize(
    ("names", "status", "message"),
    [
        (["{folder}/gone.jpg"], 2, "gone.jpg: there is no such file or folder"),
        (["{folder}/*.gone"], 2, "*.gone: there is no image"),
        (["{folder}/empty"], 2, "empty: there is no image; expected files of .jpg"),
        (["{folder}/bad.jpg"], 1, "none of the 1 images can be read"),
        (["{folder}/bad.jpg", "--out", "{folder}"], 2, "holds images that are to be read"),
        (["{folder}/bad.jpg", "--weights", "{folder}/gone.pt"], 1, "gone.pt: there are no weights"),
        (["{folder}/bad.jpg", "--weights", "{folder}/bad.jpg"], 1, "bad.jpg: cannot be read as a checkpoint"),
    ],
)
def test_what_cannot_be_done_is_said(
    names: list[str],
    status: int,
    message: str,
    faster_rcnn: Trained,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jpg").write_text("no image")
    out = ["--out", tmp_path / "out"]
    predict(faster_rcnn, *out, *(name.format(folder=tmp_path) for name in names), status=status)
    assert message in capsys.readouterr().err


def test_patterns_and_folders_are_taken_apart_and_drawn_images_are_no_input(
    faster_rcnn: Trained, images: list[Path], tmp_path: Path
) -> None:
    for name in ("b.JPG", "a.jpg", "deep/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(images[0].read_bytes())
    predict(faster_rcnn, tmp_path / "*.jpg", tmp_path, "--out", tmp_path / "out")
    predict(faster_rcnn, tmp_path / "*.jpg", tmp_path, "--out", tmp_path / "out")  # with drawn images in it
    names = [tmp_path / name for name in ("a.jpg", "b.JPG", "deep/a.jpg")]
    found = {result["image_id"]: result["file_name"] for result in read(tmp_path / "out/detections.json")}
    assert found == {number: str(name) for number, name in enumerate(names, start=1)}
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png", "a-2.png"}
    # As a shell expands `*`, and a pattern that matches what is drawn.
    again = [*sorted(tmp_path.iterdir()), tmp_path / "**/*.[jp][pn]g"]
    predict(faster_rcnn, *again, "--out", tmp_path / "out")
    assert {result["file_name"] for result in read(tmp_path / "out/detections.json")} == set(found.values())


def test_no_two_drawn_images_share_a_name() -> None:
    files = [Path(name) for name in ("a.jpg", "a.png", "b/A.jpg", "a-2.jpg")]
    assert drawn_names(files) == ["a.png", "a-2.png", "A-3.png", "a-2-2.png"]


def test_images_of_a_split_have_the_ids_of_its_annotation_file(tmp_path: Path) -> None:
    content = coco_content()
    uuids = [f"0b9e1c1e-5f6a-4a57-9e1b-00000000000{number}" for number in range(4)]
    for entry, annotation, own in zip(content["images"], content["annotations"], uuids, strict=True):
        entry["id"] = annotation["image_id"] = own
    images, annotations = write_coco(tmp_path, content)
    data = DetectionData(train=CocoSplit(images=images, annotations=annotations), holdout=1)
    known = records_by_file(open_detection(data, seed=0))
    files = [images / f"{number}.png" for number in (2, 0)]
    assert image_ids(files, known) == [uuids[2], uuids[0]]
    assert (
        image_ids([*files, tmp_path / "other.png"], known)
        == image_ids([*files, files[0]], records_by_file(None))
        == [1, 2, 3]
    )


def test_images_that_were_held_out_for_the_test_have_their_ids_among_the_others(tmp_path: Path) -> None:
    content = coco_content(12)
    for entry, annotation in zip(content["images"], content["annotations"], strict=True):
        entry["id"] = annotation["image_id"] = entry["id"] + 1000
    images, annotations = write_coco(tmp_path, content)
    data = DetectionData(train=CocoSplit(images=images, annotations=annotations), holdout=1, test_holdout=3)
    known = records_by_file(open_detection(data, seed=0))
    files = [images / entry["file_name"] for entry in content["images"]]
    assert image_ids(files, known) == [entry["id"] for entry in content["images"]]


def test_results_have_the_category_ids_of_the_annotation_file(
    faster_rcnn: Trained, images: list[Path], tmp_path: Path
) -> None:
    """Those of text, too, through the file of a finished net."""
    net = load_net(export(faster_rcnn.config, faster_rcnn.weights, form="torch", out=tmp_path / "a.pt"))
    own = tuple(f"c-{number}" for number in range(6))
    save_net(
        FinishedDetector(net.description.model_copy(update={"category_ids": own}), net.net), tmp_path / "b.pt"
    )
    again = load_net(tmp_path / "b.pt")
    found = detect(again, read_image(images[0]), 0.0)
    results = list(coco_results(again, found, 1, images[0]))
    assert results
    for result in results:
        assert result["category_id"] == own[again.classes.index(result["category"]) - 1]
