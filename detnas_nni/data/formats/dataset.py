"""What every format is converted to before it is written as COCO: pictures with upright boxes in pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from detnas_nni.data.corrections.values import BadValueError, beside
from detnas_nni.data.formats.note import Note

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
"""The splits, as their files are called."""

_SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}


Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


class MarkedBox(NamedTuple):
    """An upright box.

    Attributes:
        category: the id of its class.
        corners: x1, y1, x2, y2 in pixels; mistakes in them are left to the COCO reader.
        crowd: a group, or a region to ignore.
        difficult: marked as such by the tool.
        area: square pixels, if the format states it; otherwise the box's own.
    """

    category: int
    corners: Corners
    crowd: bool = False
    difficult: bool = False
    area: float | None = None


class Picture(NamedTuple):
    """A picture with its boxes.

    Attributes:
        file: its path.
        size: width and height in pixels, as the labelling tool shows it.
        boxes: in the order of the source.
        image_id: the source's own, if it has one.
    """

    file: Path
    size: tuple[int, int]
    boxes: list[MarkedBox]
    image_id: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Everything that was read.

    Attributes:
        classes: names by category id, in the order of the labels.
        splits: pictures by `train`, `val`, `test`; only existing ones, but always train.
        note: what was corrected and left out.
    """

    classes: Mapping[int, str]
    splits: Mapping[str, Sequence[Picture]]
    note: Note


class Classes:
    """Category ids by name, in the order in which names first occur.

    Args:
        names: those that the source lists, in its order.
        first: the first id.
    """

    def __init__(self, names: Iterable[str] = (), first: int = 1) -> None:
        self._first = first
        self._ids: dict[str, int] = {}
        for name in names:
            self.id_of(name)

    def id_of(self, name: str) -> int:
        """The id of a class, a new one for a new class."""
        return self._ids.setdefault(name, self._first + len(self._ids))

    @property
    def names(self) -> dict[int, str]:
        """Names by id."""
        return {category: name for name, category in self._ids.items()}


def split_of(parts: Sequence[str]) -> str | None:
    """The split that the innermost telling part of a path names, such as `images/train2017`, or None."""
    for part in reversed(parts):
        words = re.findall(r"[a-z]+", part.casefold())
        found = {_SPLIT_OF_WORD[word] for word in words if word in _SPLIT_OF_WORD}
        if len(found) == 1:
            return found.pop()
    return None


def settle_splits(named: Iterable[tuple[str | None, Picture]], note: Note) -> dict[str, list[Picture]]:
    """Pictures by split. Those without a split's name are trained on, and so is the only split."""
    splits: dict[str | None, list[Picture]] = {}
    for name, picture in named:
        splits.setdefault(name, []).append(picture)
    loose = splits.pop(None, [])
    if loose and splits:
        note.say(
            f"{len(loose):,} pictures are in no folder of train, val or test; they are used for training"
        )
    if loose:
        splits[TRAIN] = splits.get(TRAIN, []) + loose
    if splits and TRAIN not in splits:
        name = VAL if VAL in splits else TEST
        note.say(f"there is no training split; {name} is used for training")
        splits[TRAIN] = splits.pop(name)
    _without_copies(splits, note)
    return {name: splits[name] for name in SPLITS if name in splits}


def _without_copies(splits: dict[str, list[Picture]], note: Note) -> None:
    """Leave out a split with the same pictures as another: coco8.yaml names one folder for train and val."""
    files = {name: {picture.file for picture in pictures} for name, pictures in splits.items()}
    for first, second in ((TRAIN, VAL), (TRAIN, TEST), (VAL, TEST)):
        if first in splits and second in splits and files[first] == files[second]:
            note.say(f"{second} has the same pictures as {first}; {second} is left out")
            del splits[second]


def with_ignored(picture: Picture, regions: Sequence[Corners], classes: Mapping[int, str]) -> Picture:
    """A picture with regions to ignore for all classes: a crowd of each, as COCO's crowds have one class."""
    crowds = [MarkedBox(category, corners, crowd=True) for corners in regions for category in classes]
    return picture._replace(boxes=picture.boxes + crowds)


def marked(box: MarkedBox, attributes: object) -> MarkedBox:
    """A box with the marks in its attributes: `ignore`, which counts like a crowd, and `difficult`.

    Args:
        box: the box without them.
        attributes: values by name, or a list of objects with a name and a value.
    """
    try:
        found = beside({"attributes": attributes})
    except BadValueError:  # such as a number from 1 to 5: the user's own attribute
        return box
    return box._replace(
        crowd=box.crowd or found.crowd or found.ignore, difficult=box.difficult or found.difficult
    )


def corners_around(points: Iterable[tuple[float, float]]) -> Corners:
    """The upright box around points, of which there is at least one."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def pairs(values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """x and y of x1, y1, x2, y2, …"""
    return zip(values[::2], values[1::2], strict=True)
