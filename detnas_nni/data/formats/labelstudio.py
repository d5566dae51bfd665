"""Label Studio's own JSON and JSON-MIN, in percent of the picture: https://labelstud.io/guide/export.

Its exports as COCO, YOLO and VOC are read as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs

from detnas_nni.data.formats.dataset import (
    Classes,
    Corners,
    Dataset,
    MarkedBox,
    Picture,
    corners_around,
    settle_splits,
    split_of,
)
from detnas_nni.data.formats.documents import name_of, number, numbers, read_json
from detnas_nni.data.formats.note import MISSING, OUTLINES, ROTATED, SHAPELESS, UNLABELLED, WRONG_FILES
from detnas_nni.data.formats.shapes import box_turned_at_its_corner, ellipse
from detnas_nni.data.formats.source import Source
from detnas_nni.util.text import show
from detnas_nni.util.user_files import IMAGE_SUFFIXES

_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels")
_SHAPELESS = ("keypointlabels", "brushlabels", "vectorlabels")
_PICTURE_KEYS = ("image", "img", "url")


def is_labelstudio(content: object) -> bool:
    """Whether a JSON document is from Label Studio: a list of tasks."""
    if not (isinstance(content, list) and content and isinstance(content[0], dict)):
        return False
    first = content[0]
    tasks = isinstance(first.get("data"), dict) and ("annotations" in first or "completions" in first)
    return tasks or ("image" in first and ("annotation_id" in first or "annotator" in first))


def read(source: Source) -> Dataset:
    """Read every JSON file of Label Studio in a data set. Raises DataError."""
    classes = Classes()
    named: list[tuple[str | None, Picture]] = []
    used: set[Path] = set()
    for file in source.files:
        content = source.read(read_json, file)
        if content is None:
            continue
        if not isinstance(content, list):
            source.note.entry(WRONG_FILES, f"{source.root / file}: is not a list of tasks")
            continue
        for position, task in enumerate(content):
            key = f"[{position}]"
            if not isinstance(task, dict):
                source.note.wrong(source.root / file, key, task, "a task with data and annotations")
                continue
            name, results = _results(task, source)
            picture = None if name is None else _picture(source, file, name)
            if picture is None:
                source.note.entry(
                    MISSING, f"{source.root / file}: `{key}` names {show(name)}, which does not exist"
                )
                continue
            size = source.pictures.size(picture)
            if size is None:
                continue
            if picture in used:
                source.note.entry(
                    WRONG_FILES, f"{source.root / file}: `{key}` describes {picture}, as does another task"
                )
                continue
            used.add(picture)
            boxes = list(_boxes(source, source.root / file, key, results, size, classes))
            named.append(
                (
                    split_of(picture.relative_to(source.pictures.root).parts[:-1]),
                    Picture(picture, size, boxes),
                )
            )
    source.note.count(UNLABELLED, len(source.pictures.files) - len(used))
    return Dataset(classes.names, settle_splits(named, source.note), source.note)


def _results(task: dict[str, Any], source: Source) -> tuple[str | None, list[Any]]:
    """The picture's name and the drawn shapes, of a task or of an entry of JSON-MIN."""
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = [data[key] for key in (*_PICTURE_KEYS, *data) if isinstance(data.get(key), str)]
    name = next((text for text in texts if _names_file(text)), None)
    if data is task:
        found = [item for value in task.values() if isinstance(value, list) for item in value]
        return name, [{"value": item} for item in found if isinstance(item, dict)]
    annotations = task.get("annotations", task.get("completions"))
    whole = [
        entry
        for entry in (annotations if isinstance(annotations, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("result"), list)
        and not entry.get("was_cancelled")
    ]
    if len(whole) > 1:
        source.note.say(
            "some tasks have several annotations; for each the one marked as ground truth is taken, or the "
            "first"
        )
    chosen = next(
        (entry for entry in whole if entry.get("ground_truth") is True), whole[0] if whole else None
    )
    return name, [] if chosen is None else chosen["result"]


def _names_file(text: str) -> bool:
    """Whether a text may be the name of a picture; an address may be signed, a.jpg?X-Amz-Signature=1."""
    path = text.partition("?")[0].lower()
    return path.endswith(IMAGE_SUFFIXES) or re.search(r"\.[A-Za-z]{3,4}$", text) is not None


def _picture(source: Source, file: PurePosixPath, name: str) -> Path | None:
    """Uploads have eight digits and a dash before their names; local files follow `?d=`."""
    path, _, query = name.partition("?")
    stored = parse_qs(query).get("d")
    path = stored[0] if stored else path
    short = re.sub(r"[0-9a-f]{8}-(?=[^/\\]*$)", "", path)
    found = source.pictures.look(path, file.parent) or source.pictures.look(short, file.parent)
    return None if found is None else source.pictures.root / found


def _boxes(
    source: Source, file: Path, key: str, results: list[Any], size: tuple[int, int], classes: Classes
) -> Iterator[MarkedBox]:
    note = source.note
    for position, result in enumerate(results):
        value = result.get("value") if isinstance(result, dict) else None
        where = f"{key}.result[{position}]"
        if not isinstance(value, dict):
            note.wrong(file, where, result, "an object with a value")
            continue
        if any(kind in value for kind in _SHAPELESS):
            note.count(SHAPELESS)
            continue
        kind = next((kind for kind in _LABELS if kind in value), None)
        if kind is None:  # a text, a choice, a relation: nothing with a position
            continue
        labels = value[kind]
        name = name_of(labels[0]) if isinstance(labels, list) and labels else None
        if name is None:
            note.wrong(file, f"{where}.value.{kind}", labels, "the name of a class")
            continue
        corners = _corners(source, kind, value, size)
        if corners is None:
            note.wrong(file, f"{where}.value", value, "percentages of the picture")
            continue
        yield MarkedBox(classes.id_of(name), corners)


def _corners(source: Source, kind: str, value: dict[str, Any], size: tuple[int, int]) -> Corners | None:
    across, down = size[0] / 100, size[1] / 100
    if kind == "polygonlabels":
        points = value.get("points")
        found = [numbers(point) for point in points] if isinstance(points, list) else []
        if len(found) < 3 or any(point is None or len(point) != 2 for point in found):
            return None
        source.note.count(OUTLINES)
        return corners_around((x * across, y * down) for x, y in found)
    keys = ("x", "y", "width", "height") if kind == "rectanglelabels" else ("x", "y", "radiusX", "radiusY")
    values, turn = numbers([value.get(key) for key in keys]), number(value.get("rotation") or 0)
    if values is None or turn is None:
        return None
    x, y, width, height = values[0] * across, values[1] * down, values[2] * across, values[3] * down
    if kind == "ellipselabels":
        source.note.count(OUTLINES)
        return ellipse(x, y, width, height, turn)
    if not turn:
        return x, y, x + width, y + height
    source.note.count(ROTATED)
    return box_turned_at_its_corner(x, y, width, height, turn)
