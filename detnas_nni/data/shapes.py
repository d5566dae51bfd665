"""Generates the practice set: shapes to classify and to detect, enough to run the whole pipeline on a CPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detnas_nni.data.drawing import SHAPES, draw_scene
from detnas_nni.errors import DataError, UsageError
from detnas_nni.util.files import is_free, replaced_folder
from detnas_nni.util.progress import ProgressBar

# With gaps, like COCO's, so that confusing ids with labels shows at once.
_CATEGORY_IDS = (1, 3, 4, 7, 8, 11, 12, 16)

_RECORD = "shapes.json"
_VERSION = 1  # raise it when the same parameters give different images


def generate_shapes(
    out: Path,
    *,
    seed: int = 0,
    classes: int = 6,
    classification_train: int = 3000,
    classification_val: int = 300,
    detection_train: int = 600,
    detection_search: int = 120,
    detection_test: int = 120,
    classification_size: int = 48,
    detection_size: tuple[int, int] = (96, 128),
    overwrite: bool = False,
) -> bool:
    """Write the practice set to `out`, unless it exists already.

    out/classification/{train,val}/CLASS/*.jpg   one shape per image, as `read_image_folder` takes it
    out/detection/{train,search,test}/*.jpg      one to five shapes per image, over clutter
    out/detection/{train,search,test}.json       their boxes, as `read_coco` takes them
    out/shapes.json                              the parameters

    Every image has its own random stream, so the same parameters give the same bytes, and a larger set
    begins with the images of a smaller one. The set appears at `out` when it is complete.

    Args:
        out: the folder to make.
        seed: the seed.
        classes: how many of `drawing.SHAPES`, 2 to 8.
        classification_train, classification_val: images, at least one per class.
        detection_train, detection_search, detection_test: images, at least one.
        classification_size: side of a classification image, pixels, at least 32.
        detection_size: smallest and largest side of a detection image, pixels, at least 48.
        overwrite: replace a set of other parameters.

    Returns:
        Whether the set was written; False if it existed.

    Raises:
        DataError: `out` holds something else, or a set of other parameters without `overwrite`.
        UsageError: a parameter is out of range.
    """
    counts = {
        "classification_train": classification_train,
        "classification_val": classification_val,
        "detection_train": detection_train,
        "detection_search": detection_search,
        "detection_test": detection_test,
    }
    _check_parameters(classes, counts, classification_size, detection_size)
    parameters: dict[str, Any] = {
        "version": _VERSION,
        "seed": seed,
        "classes": list(SHAPES[:classes]),
        **counts,
        "classification_size": classification_size,
        "detection_size": list(detection_size),
    }
    out = out.resolve()
    if not _must_write(out, parameters, overwrite):
        return False
    with replaced_folder(out) as new, ProgressBar(sum(counts.values()), "drawing", "image") as bar:
        for split, code in (("train", 0), ("val", 1)):
            streams = (seed, code)
            folder = new / "classification" / split
            count = counts[f"classification_{split}"]
            _write_classification(folder, streams, classes, count, classification_size, bar)
        for split, code in (("train", 2), ("search", 3), ("test", 4)):
            folder = new / "detection" / split
            count = counts[f"detection_{split}"]
            _write_detection(folder, (seed, code), classes, count, detection_size, bar)
        (new / _RECORD).write_text(json.dumps(parameters, indent=2) + "\n")
    return True


def _check_parameters(
    classes: int, counts: dict[str, int], classification_size: int, detection_size: tuple[int, int]
) -> None:
    if not 2 <= classes <= len(SHAPES):
        raise UsageError(f"classes is {classes}, expected 2 to {len(SHAPES)}.")
    for name, count in counts.items():
        least = classes if name.startswith("classification") else 1
        if count < least:
            raise UsageError(f"{name} is {count}, expected at least {least} image(s).")
    if classification_size < 32:
        raise UsageError(f"classification_size is {classification_size}, expected at least 32 pixels.")
    if not 48 <= detection_size[0] <= detection_size[1]:
        raise UsageError(
            f"detection_size is {detection_size}, expected smallest and largest side, 48 pixels or more."
        )


def _must_write(out: Path, parameters: dict[str, Any], overwrite: bool) -> bool:
    """Whether the set has to be written; only what this module wrote is ever replaced."""
    if is_free(out):
        return True
    try:
        found = json.loads((out / _RECORD).read_text())
    except (OSError, ValueError):
        raise DataError(
            f"{out}: exists and is not a set of generated shapes (it has no readable {_RECORD}); "
            "expected a new or empty folder. Name another one."
        ) from None
    if found == parameters:
        return False
    if overwrite:
        return True
    known = found if isinstance(found, dict) else {}
    key = next((key for key in parameters if known.get(key) != parameters[key]), "version")
    raise DataError(
        f"{out / _RECORD}: `{key}` is {known.get(key)}, but {parameters.get(key)} is asked for. "
        "Name another folder, or ask for it to be overwritten."
    )


def _write_classification(
    folder: Path, streams: tuple[int, int], classes: int, count: int, size: int, bar: ProgressBar
) -> None:
    for label in range(classes):
        (folder / SHAPES[label]).mkdir(parents=True)
    for index in range(count):
        label = index % classes
        rng = np.random.default_rng((*streams, index))
        image, _ = draw_scene(rng, size, size, [label], (0.35 * size, 0.9 * size))
        _save(image, folder / SHAPES[label] / f"{index:06d}.jpg")
        bar.advance()


def _write_detection(
    folder: Path,
    streams: tuple[int, int],
    classes: int,
    count: int,
    sides: tuple[int, int],
    bar: ProgressBar,
) -> None:
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        rng = np.random.default_rng((*streams, index))
        width, height = (int(side) for side in rng.integers(sides[0], sides[1] + 1, 2))
        labels = rng.integers(classes, size=rng.integers(1, 6)).tolist()
        image, shapes = draw_scene(rng, width, height, labels, (16.0, 0.6 * min(width, height)))
        name = f"{index:06d}.jpg"
        _save(image, folder / name)
        bar.advance()
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for shape in shapes:
            x1, y1, x2, y2 = shape.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": _CATEGORY_IDS[shape.label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": shape.area,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": _CATEGORY_IDS[label], "name": SHAPES[label]} for label in range(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    folder.with_suffix(".json").write_text(json.dumps(content) + "\n")


def _save(image: np.ndarray, file: Path) -> None:
    Image.fromarray(image).save(file, quality=95)
