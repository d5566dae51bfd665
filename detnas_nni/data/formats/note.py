"""The note beside a conversion: what was read, what was changed, what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_nni.util.text import show

_SHOWN = 3  # entries of a kind that are quoted; a damaged file may have a hundred thousand of them


@dataclass(frozen=True)
class Remark:
    """A kind of thing that is counted.

    Attributes:
        one: what is said of one, behind "1 ".
        many: what is said of several, behind their number.
        mistake: whether the source is wrong there, so that `--strict` refuses it.
    """

    one: str
    many: str
    mistake: bool = False


ROTATED = Remark(
    "rotated box became the upright box around it", "rotated boxes became the upright boxes around them"
)
OUTLINES = Remark(
    "polygon, mask, ellipse or cuboid became the upright box around it",
    "polygons, masks, ellipses or cuboids became the upright boxes around them",
)
JOINED = Remark(
    "part of an object (one label and group_id) was joined to the others",
    "parts of objects (one label and group_id) were joined to one box an object",
)
SHAPELESS = Remark(
    "point, line or other shape without an area was left out",
    "points, lines or other shapes without an area were left out",
)
TAGS = Remark(
    "tag of a whole picture, which has no place in it, was left out",
    "tags of whole pictures, which have no place in them, were left out",
)
OUTSIDE_FRAME = Remark(
    "box of a track that has left the picture was left out",
    "boxes of tracks that have left the picture were left out",
)
GROUPS = Remark(
    "box of a group is kept as a crowd (iscrowd 1)", "boxes of groups are kept as crowds (iscrowd 1)"
)
IGNORED = Remark(
    "region to ignore (DontCare, __ignore__) is a crowd of every class",
    "regions to ignore (DontCare, __ignore__) are crowds of every class",
)
REPEATED = Remark(
    "line stands twice in its file; once is kept", "lines stand twice in their files; once is kept"
)
CONFIDENCES = Remark(
    "box has a confidence, as a prediction has; it was not looked at",
    "boxes have a confidence, as predictions have; it was not looked at",
)
BACKGROUNDS = Remark(
    "picture without a label is kept as background", "pictures without a label are kept as background"
)
UNLABELLED = Remark(
    "picture that no annotation names was left out", "pictures that no annotation names were left out"
)
ELSEWHERE = Remark(
    "picture was found by its name, elsewhere than its annotation says",
    "pictures were found by their names, elsewhere than their annotations say",
)
NOT_HERE = Remark(
    "picture of the annotations is not in the folder; left out",
    "pictures of the annotations are not in the folder; left out",
)
MISSING = Remark("picture is missing; left out", "pictures are missing; left out", mistake=True)
UNREADABLE = Remark("picture cannot be read; left out", "pictures cannot be read; left out", mistake=True)
WRONG = Remark("entry is wrong; left out", "entries are wrong; left out", mistake=True)
WRONG_FILES = Remark(
    "annotation file cannot be read; left out", "annotation files cannot be read; left out", mistake=True
)


class Note:
    """Collects what is to be told of one conversion."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._counts: Counter[Remark] = Counter()
        self._first: dict[Remark, list[str]] = {}

    def say(self, sentence: str) -> None:
        """Tell something once."""
        if sentence not in self._said:
            self._said.append(sentence)

    def count(self, kind: Remark, number: int = 1) -> None:
        """Count something that needs no place."""
        if number:
            self._counts[kind] += number

    def entry(self, kind: Remark, text: str) -> None:
        """Count something, with the words that name its place."""
        self._counts[kind] += 1
        first = self._first.setdefault(kind, [])
        if len(first) < _SHOWN:
            first.append(text)

    def wrong(self, file: Path | str, key: str, value: Any, expected: str, kind: Remark = WRONG) -> None:
        """Count an entry that is left out because of a mistake in it."""
        self.entry(kind, f"{file}: `{key}` is {show(value)}, expected {expected}")

    def number(self, kind: Remark) -> int:
        """How many of a kind were counted."""
        return self._counts[kind]

    @property
    def mistakes(self) -> int:
        """How many entries were left out because the source is wrong."""
        return sum(count for kind, count in self._counts.items() if kind.mistake)

    @property
    def first_mistake(self) -> str:
        """The first in its words; empty if there is none."""
        return next((texts[0] for kind, texts in self._first.items() if kind.mistake), "")

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
            if kind.mistake == mistake:
                first = self._first.get(kind)
                quoted = f"; the first: {first[0]}" if first else ""
                lines.append(f"{count:,} {kind.one if count == 1 else kind.many}{quoted}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """All of it, for the note's file."""
        return {
            "remarks": self._said,
            "counts": [
                {
                    "what": kind.many,
                    "count": count,
                    "mistake": kind.mistake,
                    "first": self._first.get(kind, []),
                }
                for kind, count in self._counts.items()
            ],
        }
