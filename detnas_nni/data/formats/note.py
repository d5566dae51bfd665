"""The note with a conversion: what was read, what was changed, what was left out and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from detnas_nni.data.problems import Kind
from detnas_nni.util.text import show

_SHOWN = 3  # entries of a kind to quote; a damaged file may have a hundred thousand of them


class Mistake(Kind):
    """A kind of mistake in the source, which `--strict` refuses."""


ROTATED = Kind(
    "rotated",
    "rotated box became the upright box around it",
    "rotated boxes became the upright boxes around them",
)

OUTLINES = Kind(
    "outlines",
    "polygon, mask, ellipse or cuboid became the upright box around it",
    "polygons, masks, ellipses or cuboids became the upright boxes around them",
)

JOINED = Kind(
    "joined",
    "part of an object (one label and group_id) was joined to the others",
    "parts of objects (one label and group_id) were joined to one box per object",
)

SHAPELESS = Kind(
    "shapeless",
    "point, line or other shape without an area was left out",
    "points, lines or other shapes without an area were left out",
)

TAGS = Kind(
    "tags",
    "tag of a whole picture, which has no position, was left out",
    "tags of whole pictures, which have no position, were left out",
)

OUTSIDE_FRAME = Kind(
    "outside frame",
    "box of a track that has left the picture was left out",
    "boxes of tracks that have left the picture were left out",
)

GROUPS = Kind(
    "groups",
    "box of a group is kept as a crowd (iscrowd 1)",
    "boxes of groups are kept as crowds (iscrowd 1)",
)

IGNORED = Kind(
    "ignored",
    "region to ignore (DontCare, __ignore__) is a crowd of every class",
    "regions to ignore (DontCare, __ignore__) are crowds of every class",
)

REPEATED = Kind(
    "repeated",
    "line occurs twice in its file; kept once",
    "lines occur twice in their files; kept once",
)

CONFIDENCES = Kind(
    "confidences",
    "box has a confidence, like a prediction; it was ignored",
    "boxes have a confidence, like predictions; it was ignored",
)

BACKGROUNDS = Kind(
    "backgrounds",
    "picture without a label is kept as background",
    "pictures without a label are kept as background",
)

UNLABELLED = Kind(
    "unlabelled",
    "picture that no annotation names was left out",
    "pictures that no annotation names were left out",
)

ELSEWHERE = Kind(
    "elsewhere",
    "picture was found by its name, but not where its annotation says",
    "pictures were found by their names, but not where their annotations say",
)

NOT_HERE = Kind(
    "not here",
    "picture of the annotations is not in the folder; left out",
    "pictures of the annotations are not in the folder; left out",
)

MISSING = Mistake("missing", "picture is missing; left out", "pictures are missing; left out")

UNREADABLE = Mistake("unreadable", "picture cannot be read; left out", "pictures cannot be read; left out")

WRONG = Mistake("wrong", "entry is wrong; left out", "entries are wrong; left out")

WRONG_FILES = Mistake(
    "wrong files", "annotation file cannot be read; left out", "annotation files cannot be read; left out"
)


class Note:
    """Collects what to report about one conversion."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._counts: Counter[Kind] = Counter()
        self._first: dict[Kind, list[str]] = {}

    def say(self, sentence: str) -> None:
        """Report something once."""
        if sentence not in self._said:
            self._said.append(sentence)

    def count(self, kind: Kind, number: int = 1) -> None:
        """Count something without naming its place."""
        if number:
            self._counts[kind] += number

    def entry(self, kind: Kind, text: str) -> None:
        """Count something, with a text that names its place."""
        self._counts[kind] += 1
        first = self._first.setdefault(kind, [])
        if len(first) < _SHOWN:
            first.append(text)

    def wrong(self, file: Path | str, key: str, value: Any, expected: str, kind: Kind = WRONG) -> None:
        """Count an entry that is left out because of a mistake in it."""
        self.entry(kind, f"{file}: `{key}` is {show(value)}, expected {expected}")

    def number(self, kind: Kind) -> int:
        """How many of a kind were counted."""
        return self._counts[kind]

    @property
    def mistakes(self) -> int:
        """How many entries were left out because the source is wrong."""
        return sum(count for kind, count in self._counts.items() if isinstance(kind, Mistake))

    @property
    def first_mistake(self) -> str:
        """The text of the first; empty if there is none."""
        return next((texts[0] for kind, texts in self._first.items() if isinstance(kind, Mistake)), "")

    @property
    def remarks(self) -> list[str]:
        """Sentences on what was read and changed."""
        return [*self._said, *self._lines(mistake=False)]

    @property
    def complaints(self) -> list[str]:
        """Sentences on what was left out because it is wrong, each with the first of its kind."""
        return self._lines(mistake=True)

    def _lines(self, mistake: bool) -> list[str]:
        lines = []
        for kind, count in self._counts.items():
            if isinstance(kind, Mistake) == mistake:
                first = self._first.get(kind, [""])
                lines.append(kind.told(count, first[0]).text)
        return lines

    def as_dict(self) -> dict[str, Any]:
        """All of it, for the note's file."""
        return {
            "remarks": self._said,
            "counts": [
                {
                    "what": kind.many,
                    "count": count,
                    "mistake": isinstance(kind, Mistake),
                    "first": self._first.get(kind, []),
                }
                for kind, count in self._counts.items()
            ],
        }
