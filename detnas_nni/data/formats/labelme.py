"""labelme: a JSON file per picture, shapes in pixels. https://github.com/wkentaro/labelme.

X-AnyLabeling writes the same with `rotation` shapes and `difficult`. As in labelme's own converter to COCO,
shapes without a type are polygons, and those with one label and one group_id are parts of
one object (examples/instance_segmentation/labelme2coco.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from detnas_nni.data.formats.dataset import (
    Classes,
    Corners,
    Dataset,
    MarkedBox,
    Picture,
    corners_around,
    marked,
    settle_splits,
    split_of,
    with_ignored,
)
from detnas_nni.data.formats.documents import name_of, numbers, read_json, whole
from detnas_nni.data.formats.note import (
    IGNORED,
    JOINED,
    OUTLINES,
    ROTATED,
    SHAPELESS,
    UNLABELLED,
    WRONG_FILES,
)
from detnas_nni.data.formats.shapes import circle
from detnas_nni.data.formats.source import Source

_IGNORE = "__ignore__"  # labelme's own word for what is neither an object nor background
_SHAPELESS = ("point", "line", "linestrip", "points", "multipoints")
_ROTATED = ("rotation", "oriented_rectangle")  # X-AnyLabeling's word, and labelme's own
_NEEDED = {"rectangle": 2, "polygon": 3, "circle": 2, "mask": 2, **dict.fromkeys(_ROTATED, 3)}


def is_labelme(content: object) -> bool:
    """Whether a JSON document is from labelme."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read(source: Source) -> Dataset:
    """Read every JSON file of labelme in a data set. Raises DataError."""
    classes = Classes()
    read: list[tuple[str | None, Picture, list[Corners]]] = []
    used = set()
    for file in source.files:
        content = source.read(read_json, file)
        if content is None:
            continue
        if not is_labelme(content):
            source.note.entry(WRONG_FILES, f"{source.root / file}: has no `shapes` and `imagePath`")
            continue
        name = content.get("imagePath")
        picture = _picture(source, file, name if isinstance(name, str) else "")
        if picture is None:
            continue
        found = source.pictures.root / picture
        width, height = whole(content.get("imageWidth")), whole(content.get("imageHeight"))
        size = (
            (width, height) if width and height and width > 0 and height > 0 else source.pictures.size(found)
        )
        if size is None:
            continue
        if found in used:
            source.note.entry(WRONG_FILES, f"{source.root / file}: describes {found}, as does another file")
            continue
        used.add(found)
        ignored: list[Corners] = []
        boxes = _joined(list(_shapes(source, file, content["shapes"], classes, ignored)), source)
        read.append((split_of(file.parts[:-1]), Picture(found, size, boxes), ignored))
    source.note.count(UNLABELLED, len(source.pictures.files) - len(used))
    named = [(split, with_ignored(picture, ignored, classes.names)) for split, picture, ignored in read]
    return Dataset(classes.names, settle_splits(named, source.note), source.note)


def _picture(source: Source, file: PurePosixPath, name: str) -> PurePosixPath | None:
    """The named picture, or the one with the JSON file's name: users rename both."""
    found = source.pictures.look(name, file.parent)
    if found is None:
        found = source.pictures.look(file.stem, file.parent, stem=True)
    if found is None:  # noted as missing
        source.pictures.find(name or file.stem, file.parent, f"{source.root / file}: `imagePath`")
    return found


def _shapes(
    source: Source,
    file: PurePosixPath,
    shapes: list[Any],
    classes: Classes,
    ignored: list[Corners],
) -> Iterator[tuple[tuple[int, str] | None, MarkedBox]]:
    """Each box, with a key that the parts of an object share; regions to ignore go to `ignored`."""
    note, where = source.note, source.root / file
    for position, shape in enumerate(shapes):
        key = f"shapes[{position}]"
        if not isinstance(shape, dict):
            note.wrong(where, key, shape, "an object with label and points")
            continue
        kind = shape.get("shape_type") or "polygon"
        if kind in _SHAPELESS:
            note.count(SHAPELESS)
            continue
        name = name_of(shape.get("label"))
        if name is None:
            note.wrong(where, f"{key}.label", shape.get("label"), "a class's name")
            continue
        needed = _NEEDED.get(kind) if isinstance(kind, str) else None
        if needed is None:
            note.wrong(where, f"{key}.shape_type", kind, f"one of {', '.join((*_NEEDED, *_SHAPELESS))}")
            continue
        corners = _corners(shape.get("points"), kind, needed)
        if corners is None:
            note.wrong(where, f"{key}.points", shape.get("points"), f"{needed} or more points of a {kind}")
            continue
        if kind != "rectangle":
            note.count(ROTATED if kind in _ROTATED else OUTLINES)
        if name == _IGNORE:
            source.note.count(IGNORED)
            ignored.append(corners)
            continue
        group = shape.get("group_id")
        category = classes.id_of(name)
        box = MarkedBox(category, corners, difficult=shape.get("difficult") is True)
        yield None if group is None else (category, repr(group)[:100]), marked(box, shape.get("flags"))


def _corners(points: object, kind: str, needed: int) -> Corners | None:
    found = [numbers(point) for point in points] if isinstance(points, list) else []
    if len(found) < needed or any(point is None or len(point) != 2 for point in found):
        return None
    if kind == "circle":
        return circle(found[0], found[1])
    return corners_around((x, y) for x, y in found)


def _joined(shapes: list[tuple[tuple[int, str] | None, MarkedBox]], source: Source) -> list[MarkedBox]:
    """One box for the parts of an object."""
    boxes: list[MarkedBox] = []
    places: dict[tuple[int, str], int] = {}
    for group, box in shapes:
        if group is None or group not in places:
            if group is not None:
                places[group] = len(boxes)
            boxes.append(box)
            continue
        source.note.count(JOINED)
        other = boxes[places[group]]
        first, second = other.corners, box.corners
        corners = corners_around([first[:2], first[2:], second[:2], second[2:]])
        boxes[places[group]] = other._replace(corners=corners, difficult=other.difficult and box.difficult)
    return boxes
