"""Open Images: boxes of many pictures in CSV, as shares of the picture.

https://storage.googleapis.com/openimages/web/download_v7.html. Pictures are named after their ids; the names
of the classes are in class-descriptions-boxable.csv. IsGroupOf marks a box around more than five objects that
touch, which Open Images' own metric treats as a crowd.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from detnas_nni.data.formats.dataset import Classes, Dataset, MarkedBox, Picture, settle_splits, split_of
from detnas_nni.data.formats.documents import name_of, number, read_csv
from detnas_nni.data.formats.note import GROUPS, NOT_HERE, UNLABELLED
from detnas_nni.data.formats.source import Source
from detnas_nni.errors import DataError

COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
"""The columns of a CSV of boxes."""

_BOX = ("XMin", "YMin", "XMax", "YMax")
_LEAST, _MOST = -1.0, 2.0  # as in YOLO: what lies further out is not a share


def is_openimages(header: list[str]) -> bool:
    """Whether a CSV's first line is that of Open Images' boxes."""
    return set(COLUMNS) <= {name.strip() for name in header}


def read(source: Source) -> Dataset:
    """Read every CSV of boxes in a data set. Raises DataError."""
    names = _class_names(source)
    classes = Classes(names.values())
    found: dict[PurePosixPath, Picture] = {}
    splits: dict[PurePosixPath, str | None] = {}
    not_here = 0
    for file in source.files:
        absent: set[str] = set()
        split = split_of((*file.parts[:-1], file.stem))
        for line, cells in _rows(source.root / file):
            image_id = cells["ImageID"]
            if image_id in absent:
                continue
            picture = _picture(source, file, image_id, split, found)
            if picture is None:
                absent.add(image_id)
                continue
            if picture not in splits:
                splits[picture] = split or split_of(picture.parts[:-1])
            box = _box(source, source.root / file, line, cells, found[picture].size, names, classes)
            if box is not None:
                found[picture].boxes.append(box)
        not_here += len(absent)
    source.note.count(NOT_HERE, not_here)
    source.note.count(UNLABELLED, len(source.pictures.files) - len(found))
    source.note.say(
        "Open Images labels each picture only for the classes that were verified on it; other objects count "
        "as background here, in training and in AP"
    )
    named = [(splits[path], found[path]) for path in sorted(found)]
    return Dataset(classes.names, settle_splits(named, source.note), source.note)


def _class_names(source: Source) -> dict[str, str]:
    """Names by Open Images' ids, such as /m/01g317; classes without a name are called by their id."""
    names: dict[str, str] = {}
    for file in source.listing.of(".csv"):
        stem = file.stem.casefold()
        if "class-descriptions" not in stem and stem != "classes":
            continue
        for line, row in read_csv(source.root / file):
            if len(row) < 2 or row[0] == "LabelName":
                continue
            name = name_of(row[1])
            if name is None:
                raise DataError(
                    f"{source.root / file}: line {line} has no name of a class; expected id,name."
                )
            names[row[0].strip()] = name
    used = {name: label for label, name in names.items()}
    # Two ids with one name would be one class.
    return {label: name if used[name] == label else f"{name} ({label})" for label, name in names.items()}


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    columns: list[str] = []
    for line, row in read_csv(file):
        if not columns:
            columns = [name.strip() for name in row]
            if not is_openimages(columns):
                raise DataError(f"{file}: line {line} lacks one of the columns {', '.join(COLUMNS)}.")
        elif len(row) == len(columns):
            yield line, dict(zip(columns, row, strict=True))
        else:
            raise DataError(f"{file}: line {line} has {len(row)} columns, expected {len(columns)}.")
    if not columns:
        raise DataError(f"{file}: is empty; expected the columns {', '.join(COLUMNS)}.")


def _picture(
    source: Source,
    file: PurePosixPath,
    image_id: str,
    split: str | None,
    found: dict[PurePosixPath, Picture],
) -> PurePosixPath | None:
    look = partial(source.pictures.look, image_id, file.parent, split=split)
    path = look(stem=True) or look()
    if path is None or path in found:
        return path
    size = source.pictures.size(source.pictures.root / path)
    if size is None:
        return None
    found[path] = Picture(source.pictures.root / path, size, [])
    return path


def _box(
    source: Source,
    file: Path,
    line: int,
    cells: dict[str, str],
    size: tuple[int, int],
    names: dict[str, str],
    classes: Classes,
) -> MarkedBox | None:
    for column in _BOX:
        value = number(cells[column])
        if value is None or not _LEAST <= value <= _MOST:
            source.note.wrong(file, f"line {line}, {column}", cells[column], "a share of the picture, 0 to 1")
            return None
    label = name_of(names.get(cells["LabelName"].strip(), cells["LabelName"]))
    if label is None:
        source.note.wrong(file, f"line {line}, LabelName", cells["LabelName"], "the id of a class")
        return None
    x1, y1, x2, y2 = (float(cells[column]) for column in _BOX)
    crowd = cells.get("IsGroupOf", "").strip() == "1"
    if crowd:
        source.note.count(GROUPS)
    corners = (x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1])
    return MarkedBox(classes.id_of(label), corners, crowd=crowd)
