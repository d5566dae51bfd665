"""The generated shapes in seven formats, six of them written by globox and this file: one ground truth, one "
"AP."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import globox
import numpy as np
import pytest

from detnas_nni.data.coco import read_coco
from detnas_nni.data.formats.convert import convert
from detnas_nni.data.formats.recognise import recognise
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import read_source
from detnas_nni.init.recognised import recognised_sources
from detnas_nni.metrics import coco_box_ap


def as_yolo(truth: globox.AnnotationSet, pictures: Path, names: list[str], root: Path) -> None:
    shutil.copytree(pictures, root / "images/train")
    (root / "labels/train").mkdir(parents=True)
    truth.save_yolo_v5(root / "labels/train", label_to_id={name: at for at, name in enumerate(names)})
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: {json.dumps(names)}\n")


def as_labelme(truth: globox.AnnotationSet, pictures: Path, names: list[str], root: Path) -> None:
    shutil.copytree(pictures, root)
    truth.save_labelme(root)


def as_cvat(truth: globox.AnnotationSet, pictures: Path, names: list[str], root: Path) -> None:
    shutil.copytree(pictures, root / "images")
    truth.save_cvat(root / "annotations.xml")


def as_via(truth: globox.AnnotationSet, pictures: Path, names: list[str], root: Path) -> None:
    shutil.copytree(pictures, root)
    truth.save_via_json(root / "via_region_data.json", image_folder=root)


def as_openimages(truth: globox.AnnotationSet, pictures: Path, names: list[str], root: Path) -> None:
    shutil.copytree(pictures, root / "train")
    truth.save_openimage(root / "train-annotations-bbox.csv")


def as_kitti(truth: globox.AnnotationSet, pictures: Path, names: list[str], root: Path) -> None:
    shutil.copytree(pictures, root / "training/image_2")
    (root / "training/label_2").mkdir()
    for annotation in truth:
        rows = [
            f"{box.label} 0 0 0 {' '.join(f'{value:.2f}' for value in box.ltrb)} 0 0 0 0 0 0 0\n"
            for box in annotation.boxes
        ]
        (root / f"training/label_2/{Path(annotation.image_id).stem}.txt").write_text("".join(rows))


WRITERS: dict[str, Callable[[globox.AnnotationSet, Path, list[str], Path], None]] = {
    "yolo": as_yolo,
    "labelme": as_labelme,
    "cvat": as_cvat,
    "via": as_via,
    "openimages": as_openimages,
    "kitti": as_kitti,
}


@pytest.fixture(scope="module")
def truth(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training images in COCO form, with each box's own area: most formats have no other."""
    content = json.loads((shapes / "detection/train.json").read_text())
    for entry in content["annotations"]:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    file = tmp_path_factory.mktemp("truth") / "train.json"
    file.write_text(json.dumps(content))
    return file


def boxes(images: DetectionSet) -> dict[str, list[tuple[Any, ...]]]:
    """By the picture's name its classes and corners, sorted."""
    return {
        record.file.name: sorted(
            (images.classes[label - 1], *corners)
            for label, corners in zip(record.labels.tolist(), record.boxes.tolist(), strict=True)
        )
        for record in images.records
    }


def detections(images: DetectionSet) -> list[dict[str, Any]]:
    """The same of every set: each box moved and scored by draws that depend on the picture's name and the "
    "box."""
    found = []
    categories = dict(zip(images.classes, images.category_ids, strict=True))
    ids = {record.file.name: record.image_id for record in images.records}
    for name, rows in sorted(boxes(images).items()):
        rng = np.random.default_rng(int(Path(name).stem))
        for label, *corners in rows:
            x1, y1, x2, y2 = np.array(corners) + rng.normal(0, 1.5, 4)
            found.append(
                {
                    "image_id": ids[name],
                    "category_id": categories[label if rng.random() < 0.8 else min(images.classes)],
                    "bbox": [x1, y1, max(x2 - x1, 1.0), max(y2 - y1, 1.0)],
                    "score": float(rng.random()),
                }
            )
    return found


def expect_the_same(
    images: DetectionSet, written: Path | dict[str, Any], truth: DetectionSet, file: Path
) -> None:
    # Corners are rounded to hundredths of a pixel, and those of the shapes are whole.
    assert boxes(images) == boxes(truth)
    ap = coco_box_ap(written, detections(images))
    assert ap == pytest.approx(coco_box_ap(file, detections(truth)), abs=1e-12)
    assert 0.1 < ap["AP"] < 0.95


@pytest.mark.parametrize("form", WRITERS)
def test_boxes_and_ap_are_those_of_the_coco_file(
    form: str, shapes: Path, truth: Path, tmp_path: Path
) -> None:
    pictures = shapes / "detection/train"
    expected = read_coco(pictures, truth)
    written = globox.AnnotationSet.from_coco(truth)
    WRITERS[form](written, pictures, list(expected.classes), tmp_path / "export")
    found = recognise(tmp_path / "export")
    assert found.form == form
    converted = convert(found, tmp_path / "out")
    assert converted.complaints == ()
    expect_the_same(read_coco(*converted.splits["train"]), converted.splits["train"][1], expected, truth)


def test_boxes_and_ap_of_a_voc_folder_are_those_of_the_coco_file(
    shapes: Path, truth: Path, tmp_path: Path
) -> None:
    pictures = shapes / "detection/train"
    shutil.copytree(pictures, tmp_path / "export/images")
    (tmp_path / "export/annotations").mkdir()
    globox.AnnotationSet.from_coco(truth).save_pascal_voc(tmp_path / "export/annotations")
    with recognised_sources(tmp_path / "export", lambda _: None) as found:
        images = read_source(found.train, None, 0)
    expect_the_same(images, images.ground_truth(), read_coco(pictures, truth), truth)
