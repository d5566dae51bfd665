"""LVIS: COCO's JSON without file names, each picture labelled for some classes only.

https://www.lvisdataset.org/dataset
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from detnas_nni.data.formats.dataset import Dataset, MarkedBox, Picture, settle_splits, split_of
from detnas_nni.data.formats.documents import name_of, number, numbers, read_json, whole
from detnas_nni.data.formats.note import NOT_HERE, UNLABELLED, WRONG_FILES
from detnas_nni.data.formats.source import Source
from detnas_nni.errors import DataError
from detnas_nni.util.text import show

_KEYS = ("images", "annotations", "categories")
_MAX_ID = 2**53


def is_lvis(content: object) -> bool:
    """Whether a JSON document is from LVIS."""
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _KEYS):
        return False
    return any(
        isinstance(image, dict) and "not_exhaustive_category_ids" in image for image in content["images"][:3]
    )


def read(source: Source) -> Dataset:
    """Read every JSON file of LVIS in a data set. Raises DataError."""
    classes: dict[int, str] = {}
    named: list[tuple[str | None, Picture]] = []
    used: set[Path] = set()
    for file in source.files:
        content = source.read(read_json, file)
        if content is None:
            continue
        if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _KEYS):
            source.note.entry(WRONG_FILES, f"{source.root / file}: lacks one of the lists {', '.join(_KEYS)}")
            continue
        _add_classes(classes, content["categories"], source.root / file)
        split = split_of((*file.parts[:-1], file.stem))
        for picture in _pictures(source, file, split, content, classes):
            if picture.file in used:
                source.note.entry(WRONG_FILES, f"{source.root / file}: names {picture.file} again")
                continue
            used.add(picture.file)
            named.append((split, picture))
    source.note.count(UNLABELLED, len(source.pictures.files) - len(used))
    return Dataset(dict(sorted(classes.items())), settle_splits(named, source.note), source.note)


def _add_classes(classes: dict[int, str], entries: list[Any], file: Path) -> None:
    ids = {name: category for category, name in classes.items()}
    for position, entry in enumerate(entries):
        category, name = (
            (whole(entry.get("id")), name_of(entry.get("name"))) if isinstance(entry, dict) else (None, None)
        )
        if category is None or not 0 <= category < _MAX_ID or name is None:
            raise DataError(
                f"{file}: `categories[{position}]` is {show(entry)}, expected an object with id and name."
            )
        if classes.setdefault(category, name) != name or ids.setdefault(name, category) != category:
            raise DataError(
                f"{file}: `categories[{position}]` is {show(entry)}, whose id or name occurs twice."
            )


def _pictures(
    source: Source,
    file: PurePosixPath,
    split: str | None,
    content: dict[str, Any],
    classes: dict[int, str],
) -> Iterator[Picture]:
    note, where = source.note, source.root / file
    found: dict[int, Picture] = {}
    absent: set[int] = set()
    negative = not_exhaustive = 0
    for position, image in enumerate(content["images"]):
        key = f"images[{position}]"
        image_id = whole(image.get("id")) if isinstance(image, dict) else None
        if image_id is None or not 0 <= image_id < _MAX_ID or image_id in found or image_id in absent:
            note.wrong(where, f"{key}.id", image, "a whole number used only once")
            continue
        names = _file_names(image)
        if not names:
            note.wrong(where, f"{key}.coco_url", image.get("coco_url"), "a picture's URL, or `file_name`")
            absent.add(image_id)
            continue
        looked = (source.pictures.look(name, file.parent, split=split) for name in names)
        path = next(filter(None, looked), None)
        if path is None:
            note.entry(NOT_HERE, f"{where}: `{key}` is {names[0]!r:.200}")
            absent.add(image_id)
            continue
        picture = source.pictures.root / path
        width, height = whole(image.get("width")), whole(image.get("height"))
        size = (
            (width, height)
            if width and height and width > 0 and height > 0
            else source.pictures.size(picture)
        )
        if size is None:
            absent.add(image_id)
            continue
        negative += (
            len(image.get("neg_category_ids") or ()) if isinstance(image.get("neg_category_ids"), list) else 0
        )
        listed = image.get("not_exhaustive_category_ids")
        not_exhaustive += bool(listed) if isinstance(listed, list) else 0
        found[image_id] = Picture(picture, size, [], image_id)
    for position, entry in enumerate(content["annotations"]):
        _add_box(source, where, f"annotations[{position}]", entry, found, absent, classes)
    note.say(
        f"{where}: LVIS labels each picture for some classes only ({negative:,} times a class is stated to "
        f"be absent, and {not_exhaustive:,} pictures have classes that are not fully labelled). COCO cannot "
        "express that: what is not labelled counts as background, in training and in AP, which is not "
        "LVIS' AP"
    )
    return iter(found.values())


def _file_names(image: dict[str, Any]) -> list[str]:
    """`file_name`, which version 0.5 has in the style of COCO 2014, and the last two parts of `coco_url`.

    http://images.cocodataset.org/train2017/000000391895.jpg is train2017/000000391895.jpg.
    """
    name, address = image.get("file_name"), image.get("coco_url")
    found = [name] if isinstance(name, str) and name else []
    if isinstance(address, str) and address:
        found.append("/".join(address.split("/")[-2:]))
    return found


def _add_box(
    source: Source,
    where: Path,
    key: str,
    entry: Any,
    found: dict[int, Picture],
    absent: set[int],
    classes: dict[int, str],
) -> None:
    note = source.note
    if not isinstance(entry, dict):
        note.wrong(where, key, entry, "an object with image_id, category_id and bbox")
        return
    image_id, category, box = (
        whole(entry.get("image_id")),
        whole(entry.get("category_id")),
        numbers(entry.get("bbox")),
    )
    if image_id in absent:
        return
    if image_id not in found:
        note.wrong(where, f"{key}.image_id", entry.get("image_id"), "the id of an image")
    elif category not in classes:
        note.wrong(where, f"{key}.category_id", entry.get("category_id"), "the id of a category")
    elif box is None or len(box) != 4:
        note.wrong(where, f"{key}.bbox", entry.get("bbox"), "x y width height in pixels")
    else:
        x, y, width, height = box
        area = number(entry.get("area"))
        crowd = entry.get("iscrowd") in (1, True)
        found[image_id].boxes.append(
            MarkedBox(category, (x, y, x + width, y + height), crowd=crowd, area=area)
        )
