"""VIA, the VGG Image Annotator, versions 1 and 2: JSON of a project or an export, or CSV.

https://www.robots.ox.ac.uk/~vgg/software/via/docs/face_track_annotation.html and the code of via-2.0.12.
Shapes are in pixels of the picture, whose size is not in the file. The class is one of the regions'
attributes, whose names users choose.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

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
)
from detnas_nni.data.formats.documents import name_of, number, numbers, read_csv, read_json, whole
from detnas_nni.data.formats.note import OUTLINES, SHAPELESS, UNLABELLED, WRONG_FILES
from detnas_nni.data.formats.shapes import ellipse
from detnas_nni.data.formats.source import Source
from detnas_nni.errors import DataError
from detnas_nni.util.text import show

CSV_HEADER = ("filename", "file_size", "file_attributes", "region_count", "region_id")
"""The beginning of the first line of VIA's CSV, maybe after a `#`."""

_USUAL_KEYS = ("class", "label", "name", "type", "category", "object", "class_name", "object_name")
_SHAPELESS = ("point", "polyline")
_LINES = ("polygon", "polyline")
_NO_CLASS = "object"


class _Region(NamedTuple):
    key: str
    shape: Any
    attributes: Any


class _Entry(NamedTuple):
    key: str
    name: str
    size: int | None  # bytes
    regions: list[_Region]


def is_via(content: object) -> bool:
    """Whether a JSON document is from VIA 1 or 2."""
    if not isinstance(content, dict):
        return False
    if isinstance(content.get("_via_img_metadata"), dict):
        return True
    first = next(iter(content.values()), None)
    return isinstance(first, dict) and "filename" in first and "regions" in first


def is_via3(content: object) -> bool:
    """Whether a JSON document is a project of VIA 3, which has another form."""
    return isinstance(content, dict) and {"project", "file", "metadata", "view"} <= content.keys()


def read(source: Source) -> Dataset:
    """Read every file of VIA in a data set. Raises DataError."""
    entries: list[tuple[PurePosixPath, _Entry]] = []
    for file in source.files:
        found = source.read(_from_csv if file.suffix.lower() == ".csv" else _from_json, file)
        if found is not None:
            entries += [(file, entry) for entry in found]
    class_key = _class_key(source, [entry for _, entry in entries])
    return _Reader(source, class_key).dataset(entries)


def _from_json(file: Path) -> list[_Entry]:
    content = read_json(file)
    if is_via3(content):
        raise DataError(
            f"{file}: is a project of VIA 3; its export as COCO or VIA 2 is read (in VIA 3: Export, COCO)."
        )
    if not is_via(content):
        raise DataError(f"{file}: has neither `_via_img_metadata` nor entries with filename and regions.")
    found = []
    for key, entry in content.get("_via_img_metadata", content).items():
        if not (isinstance(entry, dict) and isinstance(entry.get("filename"), str)):
            raise DataError(
                f"{file}: `{show(key)}` is {show(entry)}, expected an object with filename and regions."
            )
        regions = entry.get("regions")
        if not isinstance(regions, dict | list):
            regions = []
        numbered = regions.items() if isinstance(regions, dict) else enumerate(regions)  # VIA 1 has a dict
        found.append(
            _Entry(
                f"{file}: `{show(key)}`",
                entry["filename"],
                whole(entry.get("size")),
                [_region(f"{show(key)}.regions[{show(at)}]", region) for at, region in numbered],
            )
        )
    return found


def _region(key: str, region: object) -> _Region:
    if not isinstance(region, dict):
        return _Region(key, region, None)
    return _Region(key, region.get("shape_attributes"), region.get("region_attributes"))


def _from_csv(file: Path) -> list[_Entry]:
    """One region per line; a picture without regions has its own line."""
    found: dict[str, _Entry] = {}
    columns: list[str] = []
    for line, row in read_csv(file):
        if not columns:
            columns = [name.strip(" #") for name in row]
            missing = {"filename", "region_shape_attributes", "region_attributes"}.difference(columns)
            if missing:
                raise DataError(
                    f"{file}: line {line} lacks the column {min(missing)}; expected a CSV of VIA."
                )
            continue
        if row[0].startswith("#"):
            continue
        cells = dict(zip(columns, row, strict=False))
        name = cells["filename"]
        entry = found.setdefault(
            name, _Entry(f"{file}: line {line}", name, whole(cells.get("file_size")), [])
        )
        try:
            shape, attributes = (
                json.loads(cells.get(column) or "{}")
                for column in ("region_shape_attributes", "region_attributes")
            )
        except (ValueError, RecursionError):
            raise DataError(f"{file}: line {line} has no JSON in its region columns.") from None
        if shape:
            entry.regions.append(_Region(f"line {line}", shape, attributes))
    if not columns:
        raise DataError(f"{file}: is empty; expected a CSV of VIA.")
    return list(found.values())


def _class_key(source: Source, entries: list[_Entry]) -> str | None:
    """The attribute that holds the class; None if regions have none."""
    counts: Counter[str] = Counter()
    for entry in entries:
        for region in entry.regions:
            if isinstance(region.attributes, dict):
                counts.update(key for key, value in region.attributes.items() if value not in ("", None, {}))
    wished = source.wishes.class_key
    if wished is not None:
        if wished not in counts:
            raise DataError(
                f"{source.root}: no region has the attribute {show(wished)}, which --class-key names; they "
                f"have {show(sorted(counts)) if counts else 'none'}."
            )
        return wished
    if not counts:
        source.note.say(
            f"the regions have no attribute that could be a class; all are of the class {_NO_CLASS}"
        )
        return None
    usual = [key for key in counts if key.casefold() in _USUAL_KEYS]
    if len(counts) > 1 and len(usual) != 1:
        raise DataError(
            f"{source.root}: the regions have the attributes {show(sorted(counts))}; one of them has to "
            "be the class. Name it: detnas data convert --class-key NAME."
        )
    key = usual[0] if usual else next(iter(counts))
    source.note.say(f"the regions' attribute {show(key)} is the class")
    return key


class _Reader:
    def __init__(self, source: Source, class_key: str | None) -> None:
        self._source = source
        self._class_key = class_key
        self._classes = Classes()

    def dataset(self, entries: list[tuple[PurePosixPath, _Entry]]) -> Dataset:
        note, pictures = self._source.note, self._source.pictures
        read: list[tuple[str | None, Picture]] = []
        used = set()
        for file, entry in entries:
            split = split_of((*file.parts[:-1], file.stem))
            found = pictures.find(entry.name, file.parent, entry.key, split=split, size=entry.size)
            if found is None:
                continue
            if found in used:
                note.entry(WRONG_FILES, f"{entry.key} describes {found}, as does another entry")
                continue
            used.add(found)
            size = pictures.size(found)
            if size is not None:
                boxes = list(self._boxes(self._source.root / file, entry.regions))
                read.append((split, Picture(found, size, boxes)))
        note.count(UNLABELLED, len(pictures.files) - len(used))
        return Dataset(self._classes.names, settle_splits(read, note), note)

    def _boxes(self, file: Path, regions: list[_Region]) -> Iterator[MarkedBox]:
        note = self._source.note
        for region in regions:
            shape = region.shape
            kind = shape.get("name") if isinstance(shape, dict) else None
            if kind in _SHAPELESS and not _is_closed(shape):
                note.count(SHAPELESS)
                continue
            corners = _corners(kind, shape) if isinstance(kind, str) else None
            if corners is None:
                note.wrong(
                    file, f"{region.key}.shape_attributes", shape, "a rect, polygon, circle or ellipse"
                )
                continue
            name = self._class_of(region.attributes)
            if name is None:
                expected = f"the class in {show(self._class_key)}"
                note.wrong(file, f"{region.key}.region_attributes", region.attributes, expected)
                continue
            if kind != "rect":
                note.count(OUTLINES)
            yield marked(MarkedBox(self._classes.id_of(name), corners), region.attributes)

    def _class_of(self, attributes: object) -> str | None:
        if self._class_key is None:
            return _NO_CLASS
        value = attributes.get(self._class_key) if isinstance(attributes, dict) else None
        if isinstance(value, dict):  # for check boxes, the ticked ones
            ticked = [name for name, on in value.items() if on is True or on == "true"]
            value = ticked[0] if len(ticked) == 1 else None
        return name_of(value)


def _is_closed(shape: dict[str, Any]) -> bool:
    """Whether a line ends where it begins: users also draw outlines like this."""
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    lists = isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) > 3
    return lists and (xs[0], ys[0]) == (xs[-1], ys[-1])


def _corners(kind: str, shape: dict[str, Any]) -> Corners | None:
    if kind in _LINES:
        xs, ys = numbers(shape.get("all_points_x")), numbers(shape.get("all_points_y"))
        if not xs or not ys or len(xs) != len(ys):
            return None
        return corners_around(zip(xs, ys, strict=True))
    keys = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }
    values = numbers([shape.get(key) for key in keys.get(kind, ())])
    if not values:
        return None
    if kind == "rect":
        x, y, width, height = values
        return x, y, x + width, y + height
    if kind == "circle":
        x, y, radius = values
        return ellipse(x, y, radius, radius)
    # radians, as via-2.0 draws with the canvas' ellipse()
    turn = number(shape.get("theta", 0))
    return None if turn is None else ellipse(*values, 57.29577951308232 * turn)
