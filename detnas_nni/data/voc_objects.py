"""One `<object>` of a Pascal VOC file: its box, or the one around its polygon, and its marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from detnas_nni.data.corrections.segments import around_segmentation, number
from detnas_nni.data.corrections.values import BadValueError, Beside, beside

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TURNED = ("cx", "cy", "w", "h", "angle")  # roLabelImg's box, its angle in radians


class VocBox(NamedTuple):
    """The box of an object.

    Attributes:
        values: xmin, ymin, xmax, ymax as written; for a rotated box, before rotation.
        beside: its marks.
        around: whether the values are x, y, width, height of the box around a polygon instead.
    """

    values: tuple[float, float, float, float]
    beside: Beside
    around: bool = False


def read_box(entry: Element) -> VocBox:
    """The box of an `<object>`.

    Raises:
        BadValueError: it has none, or a number or a mark in it cannot be read.
    """
    marks = beside(_marks(entry))
    around = _around_polygon(entry)
    if around is not None:
        return VocBox(around, marks, around=True)
    degrees = _degrees(entry)
    return VocBox(_corners(entry), marks._replace(rotation=degrees) if degrees else marks)


def _corners(entry: Element) -> tuple[float, float, float, float]:
    """A box's four numbers; for a rotated one, before rotation. BadValueError if one is missing."""
    if entry.find("bndbox") is None and entry.find("robndbox") is not None:
        x, y, width, height, _ = _numbers(entry, "robndbox", _TURNED)
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return tuple(_numbers(entry, "bndbox", _CORNERS))


def _around_polygon(entry: Element) -> tuple[float, float, float, float] | None:
    """x, y, width, height of the upright box around a polygon, if there is no box.

    The corners are x1, y1, x2, y2, … as Roboflow writes them, or points of x and y, as LabelMe does.

    Raises:
        BadValueError: they are fewer than three, or one is not a number.
    """
    polygon = entry.find("polygon")
    if polygon is None or entry.find("bndbox") is not None or entry.find("robndbox") is not None:
        return None
    texts: dict[str, list[str]] = {"x": [], "y": []}
    for child in polygon.iter():
        axis = child.tag.rstrip("0123456789")
        if axis in texts:
            texts[axis].append(child.text or "")
    points = [value for pair in zip(texts["x"], texts["y"], strict=False) for value in pair]
    around = around_segmentation([points]) if len(points) >= 6 else None
    if around is None or len(texts["x"]) != len(texts["y"]):
        raise BadValueError("polygon", points, "three or more corners, each of x and y")
    return around


def _numbers(entry: Element, place: str, keys: Sequence[str]) -> list[float]:
    values = []
    for key in keys:
        text = entry.findtext(f"{place}/{key}")
        value = number(text)
        if value is None:
            raise BadValueError(f"{place}.{key}", text, "a finite number")
        values.append(value)
    return values


def _degrees(entry: Element) -> float:
    """The angle of a rotated box, which roLabelImg gives in radians."""
    angle = number(entry.findtext("robndbox/angle"))
    if angle is None or entry.find("bndbox") is not None:
        return 0.0
    # Within a turn: the degrees of a huge angle are infinite.
    return math.degrees(math.remainder(angle, math.tau))


def _marks(entry: Element) -> Mapping[str, Any]:
    """A box's marks, as `values.beside` takes them."""
    marks: dict[str, Any] = {
        child.tag: child.text for child in entry if len(child) == 0 and child.tag != "name"
    }
    attributes = [
        {"name": attribute.findtext("name"), "value": attribute.findtext("value")}
        for attribute in entry.iterfind("attributes/attribute")
    ]
    return {**marks, "attributes": attributes} if attributes else marks
