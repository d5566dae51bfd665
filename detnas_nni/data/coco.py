"""Reads COCO detection annotations (JSON), https://cocodataset.org/#format-data."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from detnas_nni.data.problems import CLIPPED, MISSING, OUTSIDE, Problems
from detnas_nni.data.records import MAX_SIDE, DetectionSet, ImageRecord, clipped_box
from detnas_nni.errors import DataError
from detnas_nni.util.text import show
from detnas_nni.util.user_files import FileIndex, leaves_folder, read_json_object

_MAX_ID = 2**53  # ids go through float64 and int64 arrays in pycocotools and torch
_MAX_AREA = 1e30  # well inside float32


class _Image(NamedTuple):
    file: Path
    width: int
    height: int
    rows: list[tuple]


def read_coco(
    images: Path, annotations: Path, *, classes: Sequence[str] | None = None, max_bad: int = 0
) -> DetectionSet:
    """Read a COCO annotation file; no image is opened.

    Images without boxes and crowd boxes are kept. Boxes that stick out of their image are clipped. Boxes
    without an area (w <= 0 or h <= 0) are left out and counted. A *problem* is a box wholly outside its
    image, an unknown category or image id, a duplicate image id or file name, a missing image file, a number
    that is
    not finite, a wrong type: the entry is left out, counted and warned of, as long as there are at most
    `max_bad` of them.

    Args:
        images: the folder that `file_name` starts from.
        annotations: the JSON file.
        classes: names of the categories to use, in the order of their labels; all of the file's, in the order
            of their ids, if None.
        max_bad: how many problems are tolerated.

    Raises:
        DataError: the file or the folder cannot be read or lacks its keys, there is no image, an image's path
            leads out of the folder, `classes` and the file's categories disagree, or there are too many
            problems.
    """
    content = read_json_object(annotations, ("images", "annotations", "categories"))
    if not content["images"]:
        raise DataError(f"{annotations}: `images` is empty; expected at least one image in a split.")
    names = _read_categories(content["categories"], annotations)
    selected = _select_classes(names, classes, annotations)
    problems = Problems(annotations, max_bad)
    rows, bad_images = _read_images(content["images"], images, annotations, problems)
    _read_boxes(content["annotations"], rows, bad_images, names, selected, annotations, problems)
    dropped = problems.settle()
    if not rows:
        raise DataError(f"{annotations}: no usable image is left of {len(content['images'])}.")
    return DetectionSet(
        name=str(annotations),
        classes=tuple(names[category] for category in selected),
        category_ids=tuple(selected),
        records=tuple(
            ImageRecord.of_rows(image_id, row.file, row.width, row.height, row.rows)
            for image_id, row in rows.items()
        ),
        dropped=MappingProxyType(dropped),
        notes=MappingProxyType(problems.notes),
        problems=problems.first,
    )


def _read_categories(entries: list, source: Path) -> dict[int, str]:
    """Category id -> name. A defect here changes every label, so it is never tolerated."""
    names: dict[int, str] = {}
    used: set[str] = set()
    for position, entry in enumerate(entries):
        key = f"categories[{position}]"
        if not isinstance(entry, dict):
            raise DataError(f"{source}: `{key}` is {show(entry)}, expected an object with id and name.")
        category, name = entry.get("id"), entry.get("name")
        if not _is_id(category) or category in names:
            raise DataError(f"{source}: `{key}.id` is {show(category)}, expected an integer used only once.")
        if not isinstance(name, str) or not name or name in used:
            raise DataError(f"{source}: `{key}.name` is {show(name)}, expected a name used only once.")
        names[category] = name
        used.add(name)
    if not names:
        raise DataError(f"{source}: `categories` is empty; expected at least one category.")
    return names


def _select_classes(names: Mapping[int, str], classes: Sequence[str] | None, source: Path) -> dict[int, int]:
    """Category id -> label, in the order of the labels."""
    if classes is None:
        return {category: label for label, category in enumerate(sorted(names), start=1)}
    if not classes or len(set(classes)) != len(classes):
        raise DataError(
            f"{source}: `classes` in the config is {show(list(classes))}, expected names used only once."
        )
    ids = {name: category for category, name in names.items()}
    for name in classes:
        if name not in ids:
            raise DataError(
                f"{source}: has no category {show(name)}, which `classes` in the config names; "
                f"it has {show(list(ids))}."
            )
    return {ids[name]: label for label, name in enumerate(classes, start=1)}


def _read_images(
    entries: list, folder: Path, source: Path, problems: Problems
) -> tuple[dict[int, _Image], set[int]]:
    """The usable images by id, and the ids of those left out (their boxes go silently with them)."""
    files = FileIndex(folder, "images")
    images: dict[int, _Image] = {}
    bad: set[int] = set()
    owners: dict[
        Path, int
    ] = {}  # by path: "a.jpg" and "./a.jpg" are one file, which a hold-out must not split
    reason = "bad images"
    for position, entry in enumerate(entries):
        key = f"images[{position}]"
        if not isinstance(entry, dict):
            problems.add(key, entry, "an object with id, file_name, width and height", reason)
            continue
        image_id, name = entry.get("id"), entry.get("file_name")
        width, height = _size(entry.get("width")), _size(entry.get("height"))
        if isinstance(name, str) and leaves_folder(name):
            raise DataError(
                f"{source}: `{key}.file_name` is {show(name)}, which leads out of the image folder {folder}; "
                "expected a path below it. This is refused whatever max_bad_annotations is."
            )
        if not _is_id(image_id):
            problems.add(f"{key}.id", image_id, "an integer", reason)
            continue
        if image_id in images or image_id in bad:
            problems.add(f"{key}.id", image_id, "an id that no other image has", reason)
            continue
        if not isinstance(name, str) or not name:
            problems.add(f"{key}.file_name", name, "the name of an image file", reason)
        elif width is None or height is None:
            side = "width" if width is None else "height"
            problems.add(f"{key}.{side}", entry.get(side), "a positive number of pixels", reason)
        elif (file := folder / name) in owners:
            problems.add(f"{key}.file_name", name, f"a file that image {owners[file]} does not have", reason)
        elif name not in files:
            problems.note(MISSING)
            problems.add(f"{key}.file_name", name, f"a file that exists in {folder}", reason)
        else:
            owners[file] = image_id
            images[image_id] = _Image(file, width, height, [])
            continue
        bad.add(image_id)
    return images, bad


def _read_boxes(
    entries: list,
    images: Mapping[int, _Image],
    bad_images: set[int],
    names: Mapping[int, str],
    labels: Mapping[int, int],
    source: Path,
    problems: Problems,
) -> None:
    """Append each usable box to its image's rows."""
    reason, known = "bad boxes", show(sorted(names))
    for position, entry in enumerate(entries):
        key = f"annotations[{position}]"
        if not isinstance(entry, dict):
            problems.add(key, entry, "an object with image_id, category_id and bbox", reason)
            continue
        image_id, category = entry.get("image_id"), entry.get("category_id")
        if not _is_id(image_id) or (image_id not in images and image_id not in bad_images):
            problems.add(f"{key}.image_id", image_id, "the id of an image in `images`", reason)
            continue
        if not _is_id(category) or category not in names:
            problems.add(f"{key}.category_id", category, f"one of the ids in `categories`, {known}", reason)
            continue
        if category not in labels:
            raise DataError(
                f"{source}: `{key}.category_id` is {category} ({show(names[category])}), which `classes` in "
                "the config lacks; add that name to `classes`, or take its annotations out of the file."
            )
        if image_id in bad_images:
            problems.drop("boxes of bad images")
            continue
        row = _read_box(entry, key, images[image_id], labels[category], problems)
        if row is not None:
            images[image_id].rows.append(row)


def _read_box(entry: dict, key: str, image: _Image, label: int, problems: Problems) -> tuple | None:
    """One box as a row of `ImageRecord.of_rows`; None if it is left out."""
    reason = "bad boxes"
    bbox, crowd, area = entry.get("bbox"), entry.get("iscrowd", 0), entry.get("area")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_finite, bbox)):
        problems.add(f"{key}.bbox", bbox, "four finite numbers x, y, width, height", reason)
        return None
    if crowd not in (0, 1):
        problems.add(f"{key}.iscrowd", crowd, "0 or 1", reason)
        return None
    if area is not None and not (_is_finite(area) and 0 <= area < _MAX_AREA):
        problems.add(f"{key}.area", area, "a finite number, 0 or more", reason)
        return None
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        problems.drop("zero-area boxes")
        return None
    if x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        problems.note(OUTSIDE)
        problems.add(f"{key}.bbox", bbox, f"a box inside its image of {image.width}x{image.height}", reason)
        return None
    corners = clipped_box(x, y, x + width, y + height, image.width, image.height)
    if corners is None:
        problems.drop("zero-area boxes")
        return None
    if corners != (x, y, x + width, y + height):
        problems.note(CLIPPED)
    if area is None:
        area = (corners[2] - corners[0]) * (corners[3] - corners[1])
    return corners, label, bool(crowd), False, area


def _is_id(value: Any) -> bool:
    return type(value) is int and -_MAX_ID < value < _MAX_ID


def _is_finite(value: Any) -> bool:
    if type(value) not in (int, float):  # not isinstance: True and False are no coordinates
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False


def _size(value: Any) -> int | None:
    """A positive whole number of pixels; some tools write 640.0."""
    return int(value) if _is_finite(value) and 1 <= value < MAX_SIDE and value == int(value) else None
