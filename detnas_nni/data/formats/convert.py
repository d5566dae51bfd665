"""A data set of another format as COCO's JSON, one file per split, and a note of what was read."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_nni.data.formats import cvat, kitti, labelme, labelstudio, lvis, openimages, via, yolo
from detnas_nni.data.formats.dataset import TEST, TRAIN, VAL, Dataset, MarkedBox, Picture
from detnas_nni.data.formats.note import Note
from detnas_nni.data.formats.pictures import Listing, Pictures
from detnas_nni.data.formats.recognise import FORMS, Recognised
from detnas_nni.data.formats.source import Source, Wishes
from detnas_nni.errors import DataError
from detnas_nni.util.files import write_text

NOTE = "conversion.json"
"""The note's name. A folder with one is a conversion, and may be overwritten."""

FILES = (*(f"{split}.json" for split in (TRAIN, VAL, TEST)), NOTE)
"""All that a conversion writes, into one folder."""

READERS: Mapping[str, Callable[[Source], Dataset]] = {
    "yolo": yolo.read,
    "cvat": cvat.read,
    "labelme": labelme.read,
    "via": via.read,
    "labelstudio": labelstudio.read,
    "kitti": kitti.read,
    "lvis": lvis.read,
    "openimages": openimages.read,
}
"""The formats that are converted; COCO and VOC are read as they are."""

_DECIMALS = 2  # of a pixel, as in COCO's own files; shares in six digits are not more exact


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        splits: by name, the folder of the pictures and the annotation file, as `read_coco` takes them.
        lines: what was read, for the user.
        complaints: what was left out because the source is wrong there.
    """

    splits: Mapping[str, tuple[Path, Path]]
    lines: tuple[str, ...]
    complaints: tuple[str, ...]

    @property
    def command(self) -> str:
        """The call of `detnas init` that continues from here."""
        words = ["detnas", "init"]
        for option, name in (("--coco", TRAIN), ("--val", VAL), ("--test", TEST)):
            if name in self.splits:
                words += [option, *map(str, self.splits[name])]
        return shlex.join(words)


def read_dataset(found: Recognised, wishes: Wishes | None = None, images: Path | None = None) -> Dataset:
    """Read a data set of one of the `READERS`.

    Args:
        found: the data set.
        wishes: what the user says where the format is ambiguous.
        images: the folder of the pictures, if they are elsewhere.

    Raises:
        DataError: a file cannot be read, there is nothing to train on, or, with `wishes.strict`, an entry is
            incorrect.
    """
    wishes, note = wishes or Wishes(), Note()
    pictures = Pictures(found.listing if images is None else Listing(images), note)
    source = Source(found.root, found.files, found.listing, pictures, note, wishes)
    if not pictures.files:
        raise DataError(
            f"{pictures.root}: has annotations of {FORMS[found.form]}, but no picture; expected both in the "
            "same folder. --images DIR names another (CVAT leaves them out unless you choose to save images)."
        )
    dataset = READERS[found.form](source)
    read = sum(map(len, dataset.splits.values()))
    boxes = sum(len(picture.boxes) for pictures in dataset.splits.values() for picture in pictures)
    first = f" The first of what was left out: {note.first_mistake}." if note.first_mistake else ""
    if not read or not boxes or not dataset.classes:
        what = "boxes" if read else "pictures"
        told = "".join(f" {line[0].upper()}{line[1:]}." for line in (*note.remarks, *note.complaints))
        raise DataError(f"{found.root}: read as {FORMS[found.form]}, no {what} are left to train on.{told}")
    if wishes.strict and note.mistakes:
        raise DataError(
            f"{found.root}: {note.mistakes:,} entries are wrong, and --strict skips none.{first} Correct "
            "them, or omit --strict."
        )
    return dataset


def convert(
    found: Recognised,
    out: Path,
    wishes: Wishes | None = None,
    images: Path | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write a data set as COCO: train.json, val.json and test.json, as far as they exist, and the note.

    No file of the data set is touched. The same data set gives the same bytes, and a conversion of the same
    folder replaces an earlier one. Boxes are rounded to hundredths of a pixel.

    Args:
        found: the data set.
        out: the folder to write.
        wishes, images: as `read_dataset` takes them.
        overwrite: whether a conversion of another data set may be replaced.

    Raises:
        DataError: as for `read_dataset`, or `out` holds something else.
    """
    _expect_free(out, found.root, overwrite)
    dataset = read_dataset(found, wishes, images)
    base = (found.root if images is None else images).absolute()
    files = {}
    summaries = {}
    for name, pictures in dataset.splits.items():
        folder = _common_folder([picture.file for picture in pictures], base)
        content = as_coco(pictures, dataset.classes, folder)
        file = out / f"{name}.json"
        write_text(file, json.dumps(content) + "\n")
        files[name] = (folder, file)
        summaries[name] = _summary(content)
    for name in {TRAIN, VAL, TEST} - files.keys():
        (out / f"{name}.json").unlink(missing_ok=True)
    note = {
        "format": found.form,
        "source": str(found.root.absolute()),
        "annotations": [str(file) for file in found.files[:100]],
        "splits": {
            name: {"images_folder": str(folder), "annotations": file.name, **summaries[name]}
            for name, (folder, file) in files.items()
        },
        **dataset.note.as_dict(),
    }
    write_text(out / NOTE, json.dumps(note, indent=2) + "\n")
    lines = [
        f"{name}: {summary['images']:,} images, {summary['boxes']:,} boxes, "
        f"{len(summary['classes']):,} classes, in {files[name][1]}"
        for name, summary in summaries.items()
    ]
    return Converted(files, (*lines, *dataset.note.remarks), tuple(dataset.note.complaints))


def as_coco(pictures: Sequence[Picture], classes: Mapping[int, str], folder: Path) -> dict[str, Any]:
    """A split as COCO's JSON, its file names relative to `folder`."""
    images, annotations = [], []
    for position, picture in enumerate(pictures, start=1):
        image_id = position if picture.image_id is None else picture.image_id
        width, height = picture.size
        name = picture.file.absolute().relative_to(folder).as_posix()
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for box in picture.boxes:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **_annotation(box)})
    categories = [{"id": category, "name": name} for category, name in classes.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation(box: MarkedBox) -> dict[str, Any]:
    x1, y1, x2, y2 = (round(value, _DECIMALS) for value in box.corners)
    width, height = round(x2 - x1, _DECIMALS), round(y2 - y1, _DECIMALS)
    area = width * height if box.area is None else box.area
    annotation = {
        "category_id": box.category,
        "bbox": [x1, y1, width, height],
        "area": round(abs(area), _DECIMALS),
        "iscrowd": int(box.crowd),
    }
    return {**annotation, "difficult": 1} if box.difficult else annotation


def _summary(content: dict[str, Any]) -> dict[str, Any]:
    names = {category["id"]: category["name"] for category in content["categories"]}
    counts = Counter(annotation["category_id"] for annotation in content["annotations"])
    labelled = {annotation["image_id"] for annotation in content["annotations"]}
    return {
        "images": len(content["images"]),
        "images_without_boxes": len(content["images"]) - len(labelled),
        "boxes": len(content["annotations"]),
        "classes": {name: counts[category] for category, name in names.items()},
    }


def _common_folder(files: Sequence[Path], base: Path) -> Path:
    folders = sorted({str(file.absolute().parent) for file in files})
    return Path(os.path.commonpath(folders)) if folders else base


def _expect_free(out: Path, root: Path, overwrite: bool) -> None:
    """Only conversions are ever replaced, and one of another data set only with `overwrite`."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        content = json.loads((out / NOTE).read_text(encoding="utf-8"))
        source = content["source"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{out}: exists and is not a conversion (it has no readable {NOTE}); expected a new or empty "
            "folder."
        ) from None
    if source != str(root.absolute()) and not overwrite:
        raise DataError(f"{out}: is a conversion of {source}; name another folder, or pass --overwrite.")
