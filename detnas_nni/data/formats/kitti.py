"""KITTI: a text file per picture, 15 columns per line. https://www.cvlibs.net/datasets/kitti/eval_object.php.

type truncated occluded alpha left top right bottom, then seven of 3D, and predictions' scores. Coordinates
are pixels. Detections of any class in a DontCare region do not count as mistakes.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from detnas_nni.data.formats.dataset import (
    Classes,
    Corners,
    Dataset,
    MarkedBox,
    Picture,
    settle_splits,
    split_of,
    with_ignored,
)
from detnas_nni.data.formats.documents import name_of, number, read_lines
from detnas_nni.data.formats.note import CONFIDENCES, IGNORED
from detnas_nni.data.formats.source import Source

COLUMNS = 15
_DONT_CARE = "dontcare"
_BOX = slice(4, 8)


def is_kitti(line: str) -> bool:
    """Whether a line of text may be from KITTI."""
    words = _columns(line)
    if len(words) not in (COLUMNS, COLUMNS + 1) or number(words[0]) is not None:
        return False
    return all(number(word) is not None for word in words[1:])


def _columns(line: str) -> list[str]:
    """The columns of a line; a class's name may contain blanks, as in `Person sitting`."""
    words = line.split()
    name = next((at for at, word in enumerate(words) if number(word) is not None), len(words))
    return [" ".join(words[:name]), *words[name:]] if name > 1 else words


def read(source: Source) -> Dataset:
    """Read every label file of KITTI in a data set. Raises DataError."""
    classes = Classes()
    read: list[tuple[str | None, PurePosixPath, Picture, list[Corners]]] = []
    used = set()
    for file in source.files:
        lines = source.read(read_lines, file)
        if lines is None:
            continue
        picture = source.pictures.find(
            "/".join((*_picture_folder(file), file.stem)),
            PurePosixPath(),
            f"{source.root / file}, by its own name,",
            stem=True,
        )
        size = None if picture is None else source.pictures.size(picture)
        if picture is None or size is None:
            continue
        used.add(picture)
        boxes, ignored = _boxes(source, source.root / file, lines, classes)
        read.append((split_of(file.parts[:-1]), file, Picture(picture, size, boxes), ignored))
    kept = source.keep_backgrounds(custom=False)  # KITTI's test pictures have no labels, but do have objects
    rest = [file for file in source.pictures.files if source.pictures.root / file not in used]
    source.note_unlabelled(kept, len(rest))
    named = [(split, with_ignored(picture, ignored, classes.names)) for split, _, picture, ignored in read]
    if kept:
        for file in rest:
            size = source.pictures.size(source.pictures.root / file)
            if size is not None:
                named.append((split_of(file.parts[:-1]), Picture(source.pictures.root / file, size, [])))
    return Dataset(classes.names, settle_splits(named, source.note), source.note)


def _picture_folder(file: PurePosixPath) -> tuple[str, ...]:
    """The folder of the pictures: training/label_2 has the labels of training/image_2."""
    return tuple(part.replace("label", "image") for part in file.parts[:-1])


def _boxes(
    source: Source, file: Path, lines: list[tuple[int, str]], classes: Classes
) -> tuple[list[MarkedBox], list[Corners]]:
    """The boxes of a file, and its regions to ignore."""
    boxes, ignored = [], []
    for line_number, line in lines:
        words = _columns(line)
        key = f"line {line_number}"
        if len(words) not in (COLUMNS, COLUMNS + 1):
            source.note.wrong(file, key, line, f"{COLUMNS} columns, or {COLUMNS + 1} with a score")
            continue
        corners = [number(word) for word in words[_BOX]]
        if None in corners:
            source.note.wrong(file, key, words[4 + corners.index(None)], "a finite number of pixels")
            continue
        if len(words) > COLUMNS:
            source.note.count(CONFIDENCES)
        x1, y1, x2, y2 = corners
        if words[0].casefold() == _DONT_CARE:
            source.note.count(IGNORED)
            ignored.append((x1, y1, x2, y2))
            continue
        name = name_of(words[0])
        if name is None:
            source.note.wrong(file, key, words[0], "a class's name")
            continue
        boxes.append(MarkedBox(classes.id_of(name), (x1, y1, x2, y2)))
    return boxes, ignored
