"""Cuts the boxes of a detection set into an ImageFolder: labelled images to pre-train on.

Besides the classes of the set there is one of background, so that a set with a single class has something to
distinguish, and the trunk sees what a detector has to reject.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detnas_nni.data.images import BadImageError, read_image
from detnas_nni.data.records import DetectionSet, ImageRecord
from detnas_nni.errors import DataError
from detnas_nni.util.files import is_free, replaced_folder
from detnas_nni.util.seeding import generator

MIN_SIDE = 8
"""Pixels; a box with a shorter side shows too little for a classifier."""

MARGIN = 0.15
"""Share of a box's width and height added on each side: a detector's features see the surroundings, too."""

BACKGROUND = "background"
"""The folder of crops without an object."""

RECORD = "crops.json"
"""The file next to the class folders: what the crops were made from."""

_log = logging.getLogger(__name__)

_TRIES = 10  # places tried for one crop of background
_MOST_OVERLAP = 0.1  # of such a crop's area with any box
_QUALITY = 95
_VERSION = 1  # raise it when the same set and settings give different crops

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Crops:
    """What was written.

    Attributes:
        counts: crops by folder.
        left_out: boxes by the reason why they have no crop.
        written: False if the same crops already existed.
    """

    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    written: bool = True

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def write_crops(
    images: DetectionSet,
    out: Path,
    *,
    seed: int,
    margin: float = MARGIN,
    min_side: int = MIN_SIDE,
    overwrite: bool = False,
) -> Crops:
    """Write one JPEG per box to `out/CLASS/`, and about as many of background as a class has.

    Crowds, boxes marked as difficult, boxes with a side under `min_side` and images that cannot be read give
    no crop. The folder appears when it is complete.

    Args:
        images: training images without those held out for the search: its AP must not be measured on
            images whose labels the trunk has seen.
        out: the folder to make. If it has the same crops, they are left as they are.
        seed: for the places of background crops.
        margin: share of the box's width and height added on each side, as far as the image reaches.
        min_side: pixels.
        overwrite: replace other crops.

    Raises:
        DataError: `out` holds something else, or other crops without `overwrite`; or no box gives a crop.
    """
    folders = folder_names((*images.classes, BACKGROUND))
    parameters = {
        "version": _VERSION,
        "seed": seed,
        "margin": margin,
        "min_side": min_side,
        "images": len(images),
        "boxes": sum(len(record.boxes) for record in images.records),
        "first_image": str(images.records[0].file.resolve()),
        "folders": folders,
    }
    corrected = {entry.kind: entry.count for entry in images.corrections if entry.corrects}
    if corrected:  # the same boxes, read differently from an older version, give other crops
        parameters["corrected"] = corrected
    out = out.resolve()
    found = _found(out, parameters, overwrite)
    if found is not None:
        return found
    with replaced_folder(out) as new:
        crops = _write(images, new, folders, seed, margin, min_side)
        if set(crops.counts) <= {BACKGROUND}:
            raise DataError(
                f"{images.name}: no box gives a crop ({_listed(crops.left_out) or 'it has none'}); "
                "train without pre-training: finetune.init: scratch"
            )
        record = {**parameters, "counts": dict(crops.counts), "left_out": dict(crops.left_out)}
        (new / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return crops


def usable(record: ImageRecord, min_side: int = MIN_SIDE) -> np.ndarray:
    """Which boxes (N,) bool of an image give a crop."""
    sides = record.boxes[:, 2:] - record.boxes[:, :2]
    return record.trainable() & (sides.min(axis=1, initial=np.inf) >= min_side)


def folder_names(classes: Sequence[str]) -> list[str]:
    """A unique folder for each class: its name, with characters replaced that file names cannot have."""
    names: list[str] = []
    taken: set[str] = set()
    for name in classes:
        plain = re.sub(r"[^\w .-]", "_", name).strip(" .")[:80] or "class"
        number, unique = 1, plain
        while unique.lower() in taken:  # some file systems ignore case
            number += 1
            unique = f"{plain}_{number}"
        taken.add(unique.lower())
        names.append(unique)
    return names


def _found(out: Path, parameters: Mapping[str, Any], overwrite: bool) -> Crops | None:
    """The crops at `out` if they are the same; None if they have to be written."""
    if is_free(out):
        return None
    try:
        found = json.loads((out / RECORD).read_text(encoding="utf-8"))
        counts, left_out = found["counts"], found["left_out"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{out}: exists and is not a set of crops (it has no readable {RECORD}); name another folder: "
            "--out, or data.classification.train in the config"
        ) from None
    if all(found.get(key) == value for key, value in parameters.items()):
        return Crops(counts, left_out, written=False)
    if not overwrite:
        key = next(key for key, value in parameters.items() if found.get(key) != value)
        raise DataError(
            f"{out / RECORD}: `{key}` is {found.get(key)!r}, but now {parameters[key]!r}: crops of other "
            "boxes; pass --overwrite to replace them"
        )
    return None


def _write(
    images: DetectionSet, folder: Path, folders: list[str], seed: int, margin: float, min_side: int
) -> Crops:
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    backgrounds = _backgrounds_an_image(images, min_side)
    for position, record in enumerate(images.records):
        good = usable(record, min_side)
        left_out["crowd or difficult"] += int((~record.trainable()).sum())
        left_out[f"a side under {min_side} pixels"] += int((record.trainable() & ~good).sum())
        boxes = [
            (folders[label - 1], _with_margin(record.boxes[row], record, margin))
            for row, label in enumerate(record.labels.tolist())
            if good[row]
        ]
        rng = generator(seed, "background", position)
        boxes += [(folders[-1], box) for box in _background(record, good, backgrounds, rng)]
        if not boxes:
            continue
        try:
            pixels = read_image(record.file, record.size, upright=record.upright)
        except BadImageError as error:
            _log.warning("%s %s; its boxes are left out", record.file, error)
            left_out["an image that cannot be read"] += int(good.sum())
            continue
        for number, (name, (x1, y1, x2, y2)) in enumerate(boxes):
            (folder / name).mkdir(exist_ok=True)
            crop = pixels[:, y1:y2, x1:x2].permute(1, 2, 0).contiguous().numpy()
            file = folder / name / f"{position:07d}_{number:03d}.jpg"
            Image.fromarray(crop).save(file, quality=_QUALITY)
            counts[name] += 1
    return Crops(dict(sorted(counts.items())), {key: count for key, count in left_out.items() if count})


def _backgrounds_an_image(images: DetectionSet, min_side: int) -> int:
    """How many crops of background an image gives, for as many as in an average class."""
    total = sum(int(usable(record, min_side).sum()) for record in images.records)
    return max(1, round(total / len(images.classes) / len(images)))


def _with_margin(box: np.ndarray, record: ImageRecord, margin: float) -> Box:
    x1, y1, x2, y2 = box.tolist()
    across, down = margin * (x2 - x1), margin * (y2 - y1)
    return (
        max(0, int(x1 - across)),
        max(0, int(y1 - down)),
        min(record.width, int(np.ceil(x2 + across))),
        min(record.height, int(np.ceil(y2 + down))),
    )


def _background(
    record: ImageRecord, good: np.ndarray, count: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Places, as large as this image's boxes, that no box (crowds included) covers more than a little."""
    sizes = np.ceil(record.boxes[good, 2:] - record.boxes[good, :2]).astype(int)
    found: list[Box] = []
    for _ in range(count if len(sizes) else 0):
        width, height = np.minimum(sizes[rng.integers(len(sizes))], (record.width, record.height)).tolist()
        for _ in range(_TRIES):
            x = int(rng.integers(record.width - width + 1))
            y = int(rng.integers(record.height - height + 1))
            if _covered(record.boxes, (x, y, x + width, y + height)) <= _MOST_OVERLAP:
                found.append((x, y, x + width, y + height))
                break
    return found


def _covered(boxes: np.ndarray, place: Box) -> float:
    """The largest share of a place that one of the boxes covers."""
    x1, y1, x2, y2 = place
    across = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1)
    down = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1)
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    return float(shared.max(initial=0.0)) / ((x2 - x1) * (y2 - y1))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} with {reason}" for reason, count in counts.items())
