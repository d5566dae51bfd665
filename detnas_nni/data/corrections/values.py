"""Numbers, flags and ids as tools write them: of another type, under another name, next to the box.

What has exactly one reading is read; the rest is left for the format's reader to refuse.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from detnas_nni.data.corrections.segments import around_segmentation, number
from detnas_nni.data.problems import Kind
from detnas_nni.util.text import show

Id = int | str
Value = TypeVar("Value")

MAX_ID = 2**53
"""Ids go through float64 and int64 arrays in pycocotools and torch; others are renumbered internally."""

TEXT_NUMBERS = Kind("text numbers", "number is written as text; read", "numbers are written as text; read")
ALIKE_IDS = Kind(
    "ids of other types",
    "id has another type than the one it refers to; matched",
    "ids have another type than the ones they refer to; matched",
)
OTHER_BOXES = Kind(
    "boxes in other shapes",
    "box is not written as a list of four; read",
    "boxes are not written as a list of four; read",
)
FROM_SEGMENTS = Kind(
    "boxes of segments",
    "annotation has no box; the one around its segmentation is taken",
    "annotations have no box; the one around their segmentation is taken",
)
CROWDS = Kind(
    "crowds",
    "box is marked as a crowd (iscrowd 1), which is not trained on; CVAT marks masks like this "
    "(crowds: objects in the config reads them as single objects)",
    "boxes are marked as crowds (iscrowd 1), which are not trained on; CVAT marks masks like this "
    "(crowds: objects in the config reads them as single objects)",
    corrects=False,
)
IGNORED = Kind(
    "ignored boxes",
    "box is marked to be ignored, which counts like a crowd: not trained on, not a miss if undetected",
    "boxes are marked to be ignored, which count like crowds: not trained on, not a miss if undetected",
    corrects=False,
)
DIFFICULT = Kind(
    "difficult boxes",
    "box is marked as difficult, which is not trained on unless train_difficult is set",
    "boxes are marked as difficult, which are not trained on unless train_difficult is set",
    corrects=False,
)

FOREIGN = Kind(
    "attributes of one's own",
    "attribute is named like a mark (ignore, difficult, rotation) but its value is not one; ignored",
    "attributes are named like a mark (ignore, difficult, rotation) but their values are not one; ignored",
    corrects=False,
)

_YES = {"1", "1.0", "true", "yes", "y", "t", "on"}
_NO = {"", "0", "0.0", "false", "no", "n", "f", "off", "none", "null", "unspecified"}

# How tools spell a box's marks, without case, "_", "-" and blanks.
_SPELLINGS = {
    "iscrowd": "crowd",
    "crowd": "crowd",
    "ignore": "ignore",
    "ignored": "ignore",
    "isignore": "ignore",
    "isignored": "ignore",
    "ignoreflag": "ignore",
    "dontcare": "ignore",
    "isdontcare": "ignore",
    "difficult": "difficult",
    "isdifficult": "difficult",
    "rotation": "rotation",
}
_WHOLE = re.compile(r"-?\d{1,30}", re.ASCII)
_INSIDE = ("attributes", "extra")  # where tools put their own keys


class Beside(NamedTuple):
    """What an annotation says besides its box.

    Attributes:
        crowd, ignore, difficult: as marked.
        rotation: degrees, clockwise about the box's centre.
        foreign: the first key with a mark's name but an unsuitable value, and this value; empty if there is
            none.
    """

    crowd: bool = False
    ignore: bool = False
    difficult: bool = False
    rotation: float = 0.0
    foreign: str = ""


class BadValueError(Exception):
    """A value that cannot be read.

    Attributes:
        key: the key's name in its entry.
        value: what is there.
        expected: what should be.
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(key)
        self.key, self.value, self.expected = key, value, expected


def flag(value: object) -> bool | None:
    """A yes or a no in any of its spellings; None for anything else."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _YES else False if text in _NO else None
    return bool(value) if type(value) in (int, float) and value in (0, 1) else None


def may_be_marked(keys: Iterable[str]) -> bool:
    """Whether an annotation with these keys says more besides its box than COCO's own `iscrowd`."""
    return any(key in _INSIDE or (key != "iscrowd" and _plain(key) in _SPELLINGS) for key in keys)


def beside(entry: Mapping[str, Any]) -> Beside:
    """A box's marks, in the entry itself or among its attributes.

    Users also have their own attributes called `ignore` or `rotation`: words as values, such as "shadow" or
    "left", are left alone.

    Raises:
        BadValueError: a number, or COCO's own `iscrowd`, is neither yes nor no.
    """
    found: dict[str, Any] = {}
    for key, name, value in _marks(entry):
        read = _degrees(value) if name == "rotation" else flag(value)
        if read is not None:
            found[name] = float(read) if name == "rotation" else bool(found.get(name)) or read
        elif name == "rotation" or _is_foreign(key, name, value):
            found.setdefault("foreign", f"{key}` is {show(value)}")
        else:
            raise BadValueError(key, value, "0 or 1")
    return Beside(**found)


def _degrees(value: object) -> float | None:
    return 0.0 if value in (None, "") else number(value)


def _is_foreign(key: str, name: str, value: object) -> bool:
    """Whether a value that is neither yes nor no belongs to a user's own attribute, not to a broken mark."""
    if name == "crowd" and "." not in key:
        return False
    return (isinstance(value, str) and number(value) is None) or (
        "." in key and isinstance(value, list | Mapping)
    )


def _marks(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Key, plain name and value of the known marks of a box."""
    for key, value in entry.items():
        name = _SPELLINGS.get(_plain(key))
        # Unless asked for, only a rotation of the annotation itself turns its box.
        if name is not None and name != "rotation":
            yield key, name, value
    for place in _INSIDE:
        for key, value in _pairs(entry.get(place)):
            name = _SPELLINGS.get(_plain(key))
            if name is not None:
                yield f"{place}.{key}", name, value


def _pairs(attributes: object) -> Iterator[tuple[str, Any]]:
    """Attributes as a mapping, or as a list of objects with a name and a value."""
    if isinstance(attributes, Mapping):
        yield from attributes.items()
    elif isinstance(attributes, list):
        for attribute in attributes:
            if isinstance(attribute, Mapping) and isinstance(attribute.get("name"), str):
                yield attribute["name"], attribute.get("value")


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "").replace(" ", "")


class Box(NamedTuple):
    """Four numbers of a box, and how they are written if not as a list."""

    values: tuple[float, float, float, float]
    otherwise: Kind | None = None
    around: bool = False
    """whether it is x, y, width, height whatever the file's boxes are: the box around a segmentation"""


def box(entry: Mapping[str, Any]) -> Box | None:
    """The box of an annotation; None if there is none that can be read."""
    bbox, kind = entry.get("bbox"), None
    if isinstance(bbox, str):
        bbox, kind = _from_text(bbox), OTHER_BOXES
    if isinstance(bbox, Mapping):
        bbox, kind = _of_names(bbox), OTHER_BOXES
    elif isinstance(bbox, list) and len(bbox) == 1 and isinstance(bbox[0], list):
        bbox, kind = bbox[0], OTHER_BOXES
    if bbox is None or bbox == []:
        around = around_segmentation(entry.get("segmentation"))
        return None if around is None else Box(around, FROM_SEGMENTS, around=True)
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    values = tuple(map(number, bbox))
    if None in values:
        return None
    if kind is None and any(isinstance(value, str) for value in bbox):
        kind = TEXT_NUMBERS
    return Box(values, kind)


def _from_text(text: str) -> object:
    """A list in JSON, or numbers separated by commas or blanks, with or without brackets."""
    if len(text) >= 1000:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        inner = text.strip().strip("[]()").strip()
        return re.split(r"\s*[,;]\s*|\s+", inner) if inner else text


_SIDES = (("x", "left"), ("y", "top"), ("width", "w"), ("height", "h"))
_CORNERS = (("xmin", "x1"), ("ymin", "y1"), ("xmax", "x2"), ("ymax", "y2"))


def _of_names(bbox: Mapping[str, Any]) -> list[Any] | None:
    """x, y and sides by name, or from corners by name."""
    sides, corners = (
        [next((bbox[name] for name in names if bbox.get(name) is not None), None) for names in keys]
        for keys in (_SIDES, _CORNERS)
    )
    if None not in sides:
        return sides
    x1, y1, x2, y2 = map(number, corners)
    return None if None in (x1, y1, x2, y2) else [x1, y1, x2 - x1, y2 - y1]


class Ids(Generic[Value]):
    """What the ids of a file stand for, found by the id itself, or by the only one written alike.

    Alike are 7, 7.0 and "7", and "007" if no other id is that number. An id of text that is not a number,
    such as a UUID, is an id like any other.
    """

    def __init__(self) -> None:
        self.exact: dict[Id, Value] = {}
        self._by_text: dict[str, Id] | None = (
            None  # made if an id is not a whole number, or none matches exactly
        )
        self._by_number: dict[int, Id] | None = None  # likewise, after all ids are added

    def add(self, own: object, value: Value) -> bool:
        """Keep what an id stands for; False if it is invalid or taken."""
        text = written(own)
        if text is None or own in self.exact:
            return False
        if type(own) is not int or self._by_text is not None:
            if text in self._texts():
                return False
            self._texts()[text] = own
        self.exact[own] = value
        return True

    def find(self, own: object) -> tuple[Value | None, bool]:
        """What an id stands for, None if it is unknown; and whether its type differs."""
        if type(own) in (int, str) and own in self.exact:
            return self.exact[own], False
        text = written(own)
        meant = None if text is None else self._texts().get(text)
        if meant is None and text is not None and _WHOLE.fullmatch(text):
            meant = self._numbers().get(int(text))
        return (None, False) if meant is None else (self.exact[meant], True)

    def _texts(self) -> dict[str, Id]:
        if self._by_text is None:
            self._by_text = {str(written(own)): own for own in self.exact}
        return self._by_text

    def _numbers(self) -> dict[int, Id]:
        """The ids that are numbers, or text of a number, by the number, if no other is the same."""
        if self._by_number is None:
            texts = {text: own for text, own in self._texts().items() if _WHOLE.fullmatch(text)}
            counts = Counter(map(int, texts))
            self._by_number = {int(text): own for text, own in texts.items() if counts[int(text)] == 1}
        return self._by_number


def written(own: object) -> str | None:
    """An id as text; None for anything else."""
    if type(own) is float and own.is_integer():
        own = int(own)
    if type(own) is int:
        return str(own)
    return own.strip() or None if isinstance(own, str) else None


def numbered(ids: Sequence[Id]) -> list[int]:
    """The ids if all are numbers that every library can hold, otherwise the numbers from 1 on."""
    plain = all(type(own) is int and -MAX_ID < own < MAX_ID for own in ids)
    return list(ids) if plain else list(range(1, len(ids) + 1))


def in_order(own: Id) -> tuple[int, int, str]:
    """A sort key for ids: numbers and text of numbers by value, then other text."""
    text = written(own) or ""
    return (0, int(text), "") if _WHOLE.fullmatch(text) else (1, 0, text)
