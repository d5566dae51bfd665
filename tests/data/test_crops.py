"""Crops of boxes as an ImageFolder: what is cut, what is left out, what is never overwritten."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnas_nni.cli import main
from detnas_nni.config.reading import load_config
from detnas_nni.data.coco import read_coco
from detnas_nni.data.crops import BACKGROUND, folder_names, write_crops
from detnas_nni.data.imagenet import read_image_folder
from detnas_nni.data.records import DetectionSet, ImageRecord
from detnas_nni.data.splits import open_detection
from detnas_nni.errors import DataError
from tests.data.data_builders import truncate


def one_image(folder: Path, rows: list[tuple], size: tuple[int, int] = (100, 80)) -> DetectionSet:
    """An image, red in each box and blue elsewhere; a row is (box, label, crowd, difficult)."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 2] = 255
    for (x1, y1, x2, y2), *_ in rows:
        pixels[y1:y2, x1:x2] = (255, 0, 0)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / "a.png")
    rows = [(box, label, crowd, difficult, 1.0) for box, label, crowd, difficult in rows]
    record = ImageRecord.of_rows(1, folder / "a.png", *size, rows)
    return DetectionSet("set", ("cat", "dog"), (1, 2), (record,))


def crops_of(folder: Path) -> list[Image.Image]:
    return [Image.open(file) for file in sorted(folder.glob("*.jpg"))]


def test_a_box_is_cut_with_a_margin_as_far_as_the_image_reaches(tmp_path: Path) -> None:
    images = one_image(tmp_path, [((0, 20, 20, 60), 1, False, False), ((50, 20, 70, 40), 2, False, False)])
    crops = write_crops(images, tmp_path / "out", seed=0, margin=0.25)
    assert {"cat", "dog"} <= set(crops.counts)
    (cat,), (dog,) = crops_of(tmp_path / "out/cat"), crops_of(tmp_path / "out/dog")
    assert cat.size == (25, 60)  # 5 to the right alone, 10 above and below
    assert dog.size == (30, 30)
    red, _, blue = np.asarray(dog, dtype=int)[15, 15]
    assert red > 200 and blue < 60
    red, _, blue = np.asarray(dog, dtype=int)[1, 1]
    assert red < 60 and blue > 200


def test_what_shows_no_object_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        ((0, 0, 20, 20), 1, False, False),
        ((30, 0, 35, 40), 1, False, False),
        ((40, 0, 60, 20), 2, True, False),
        ((70, 0, 90, 20), 2, False, True),
    ]
    crops = write_crops(one_image(tmp_path, rows), tmp_path / "out", seed=0)
    assert {name: count for name, count in crops.counts.items() if name != BACKGROUND} == {"cat": 1}
    assert crops.left_out == {"crowd or difficult": 2, "a side under 8 pixels": 1}


def test_background_covers_no_box(tmp_path: Path) -> None:
    rows = [((40, 30, 60, 50), 1, False, False)] * 4
    crops = write_crops(one_image(tmp_path, rows), tmp_path / "out", seed=0, margin=0.0)
    backgrounds = crops_of(tmp_path / "out" / BACKGROUND)
    assert len(backgrounds) == crops.counts[BACKGROUND] == 2  # as many as a class has in the middle
    for image in backgrounds:
        assert image.size == (20, 20)
        assert (np.asarray(image)[..., 0] > 128).mean() <= 0.15  # a tenth, and JPEG's blur


def test_an_image_that_cannot_be_read_is_left_out(shapes: Path, tmp_path: Path) -> None:
    images = read_coco(shapes / "detection/train", shapes / "detection/train.json")
    bad = truncate(Path(shutil.copy(images.records[0].file, tmp_path)))
    broken = replace(images.records[0], file=bad)
    crops = write_crops(
        DetectionSet("set", images.classes, images.category_ids, (broken, *images.records[1:])),
        tmp_path / "out",
        seed=0,
    )
    assert crops.left_out["an image that cannot be read"] == len(broken.boxes)


def test_no_box_that_can_be_cut_is_an_error(tmp_path: Path) -> None:
    images = one_image(tmp_path, [((0, 0, 4, 4), 1, False, False)])
    with pytest.raises(DataError, match=r"no box gives a crop \(1 with a side under 8 pixels\).*scratch"):
        write_crops(images, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


def test_the_same_crops_are_left_and_others_replaced_on_demand_alone(tmp_path: Path) -> None:
    images = one_image(tmp_path, [((0, 20, 20, 60), 1, False, False)])
    out = tmp_path / "out"
    first = write_crops(images, out, seed=0)
    assert first.written
    stamp = (out / "crops.json").stat().st_mtime_ns
    again = write_crops(images, out, seed=0)
    assert (again.counts, again.written) == (first.counts, False)
    assert (out / "crops.json").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match=r"crops.json: `margin` is 0.15, but now 0.3.*--overwrite"):
        write_crops(images, out, seed=0, margin=0.3)
    assert write_crops(images, out, seed=0, margin=0.3, overwrite=True).written


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    images = one_image(tmp_path, [((0, 20, 20, 60), 1, False, False)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="exists and is not a set of crops"):
        write_crops(images, tmp_path / "out", seed=0, overwrite=True)
    assert (tmp_path / "out/thesis.txt").read_text() == "mine"


def test_the_same_seed_gives_the_same_bytes(shapes: Path, tmp_path: Path) -> None:
    images = read_coco(shapes / "detection/train", shapes / "detection/train.json")
    for name in ("a", "b"):
        write_crops(images, tmp_path / name, seed=3)
    first, second = (
        {
            str(file.relative_to(tmp_path / name)): file.read_bytes()
            for file in (tmp_path / name).rglob("*.jpg")
        }
        for name in ("a", "b")
    )
    assert first == second
    assert len(first) > len(images)


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["cat", "background"], ["cat", "background"]),
        (["../../etc", "a/b", "a_b"], ["_.._etc", "a_b", "a_b_2"]),
        (["", ".", "Cat", "cat"], ["class", "class_2", "Cat", "cat_2"]),
    ],
)
def test_any_class_has_a_folder_of_its_own(names: list[str], folders: list[str]) -> None:
    assert folder_names(names) == folders


def test_the_command_leaves_the_held_out_images_alone(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = {"data": {"detection": {"search": None, "holdout": 6}, "classification": {"train": "crops"}}}
    config = write_config(tmp_path / "a.yaml", **sections)
    assert main(["data", "crops", "-c", str(config)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/crops: ")
    read = load_config(config)
    train = open_detection(read.data.detection, read.seed).train
    assert json.loads((tmp_path / "crops/crops.json").read_text())["images"] == len(train) == 18
    assert set(read_image_folder(tmp_path / "crops").classes) <= {*train.classes, BACKGROUND}
    assert main(["data", "crops", "-c", str(config)]) == 0
    assert "which were there already" in capsys.readouterr().out
