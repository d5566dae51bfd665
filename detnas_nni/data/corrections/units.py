"""Four numbers of a box to corners in pixels: shares, corners for sides, swapped corners, rotation.

The form is recognised over the whole file, by what is possible: boxes in pixels stick out of no image if they
are read in the right form, but out of most images in another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from detnas_nni.data.corrections.scales import (
    EDGE,
    ENOUGH,
    STRAY,
    SUSPECT,
    SUSPECT_SHARE,
    WHOLE,
    Units,
    decide_units,
)
from detnas_nni.data.problems import Kind
from detnas_nni.errors import DataError

Form = Literal["xywh", "xyxy", "cxcywh"]
Forms = Form | Literal["xyxy swapped"]

FORMS: dict[Form, str] = {
    "xywh": "x, y, width, height",
    "xyxy": "x1, y1, x2, y2",
    "cxcywh": "the centre's x and y, width, height",
}

CORNERS = Kind(
    "corners for sides",
    "box is written as x1, y1, x2, y2 instead of x, y, width, height",
    "boxes are written as x1, y1, x2, y2 instead of x, y, width, height",
)
CENTRES = Kind(
    "centres",
    "box is written by its centre, width and height",
    "boxes are written by their centre, width and height",
)
SIDES = Kind(
    "sides for corners",
    "box is written as x, y, width, height instead of its corners",
    "boxes are written as x, y, width, height instead of their corners",
)
SWAPPED = Kind(
    "swapped corners",
    "box has its corners swapped (negative sides); sorted",
    "boxes have their corners swapped (negative sides); sorted",
)
ROTATED = Kind(
    "rotated boxes",
    "box is rotated; the upright one around it is taken",
    "boxes are rotated; the upright ones around them are taken",
)

_OTHERWISE: dict[tuple[Form, Form], Kind] = {
    ("xywh", "xyxy"): CORNERS,
    ("xywh", "cxcywh"): CENTRES,
    ("xyxy", "xywh"): SIDES,
    ("xyxy", "cxcywh"): CENTRES,
}
_CANDIDATES: dict[Form, tuple[Form, ...]] = {"xywh": ("xyxy", "cxcywh"), "xyxy": ("xywh", "cxcywh")}

_PIXELS = 2.0  # by which a box may stick out in the right form
_MOST = 0.5  # share of the images that have boxes
_LEAST = 3  # boxes that stick out before it means anything


@dataclass(frozen=True)
class Reading:
    """How a file's boxes are read."""

    form: Form
    units: Units


def decide(
    values: np.ndarray,
    sizes: np.ndarray,
    image: np.ndarray,
    declared: Form,
    *,
    form: Form | Literal["auto"] = "auto",
    units: Units | Literal["auto"] = "auto",
    hint: Reading | None = None,
    turned: Callable[[np.ndarray], np.ndarray],
    source: object,
) -> Reading:
    """How to read the boxes of a file.

    Args:
        values: (N, 4) float64 as written, finite.
        sizes: (N, 2) width and height of each box's image.
        image: (N,) the image of each.
        declared: the form that the format defines.
        form, units: what the user says.
        hint: how the training split was read, which a smaller split follows if possible.
        turned: tells which of M images (M,) bool EXIF turns by a quarter, so that their boxes may be in the
            other frame.
        source: for messages.

    Raises:
        DataError: two readings are possible.
    """
    lies = (values[:, 2:] != 0).any(axis=1)
    values, sizes, image = values[lies], sizes[lies], image[lies]
    forms = (declared, *_CANDIDATES[declared]) if form == "auto" else (form,)
    frames = _Frames(values, sizes, image, forms[0], turned)
    if units == "auto":
        known = None if hint is None else hint.units
        ends = lambda other: np.maximum(*_ends(values, other))  # noqa: E731
        units = decide_units(values, ends, sizes, image, forms, frames.impossible, source, known)
    if form != "auto":
        return Reading(form, units)
    if not len(values):
        return Reading(declared, units)
    wrong = frames.impossible(declared, units)
    follows = hint is not None and hint.form != declared
    if wrong.sum() < SUSPECT and not follows:
        return Reading(declared, units)

    def impossible(candidate: Forms) -> np.ndarray:
        return frames.impossible(candidate, units)

    others = [other for other in _CANDIDATES[declared] if impossible(other).mean() <= STRAY]
    if follows and hint.form in others:
        return Reading(hint.form, units)
    most = len(np.unique(image[wrong])) > _MOST * len(np.unique(image))
    enough = len(values) >= ENOUGH and wrong.sum() >= SUSPECT and wrong.mean() >= SUSPECT_SHARE
    if not others and declared == "xywh" and enough:
        in_order = ~impossible("xyxy")
        reversed_ = (values[:, 2:] <= values[:, :2]).all(axis=1)
        fits = impossible("xyxy swapped").mean() <= STRAY
        if most and fits and reversed_.mean() >= 1 - STRAY:
            others = ["xyxy"]  # the second corner first, which sorting corrects
        # Boxes merely drawn over the edge are near it, and as corners are hardly ever in order.
        elif in_order[wrong].mean() >= 1 - SUSPECT_SHARE or (most and fits):
            raise DataError(
                f"{source}: {int(wrong.sum()):,} of {len(values):,} boxes stick out of their image if they "
                f"are {FORMS[declared]}, and look like {FORMS['xyxy']}; not all of the others can be that. "
                "The file may mix both forms: correct it, or say that all are corners in any order with "
                f"--box-form xyxy (data.detection.box_form in the config); {declared} for boxes as they are."
            )
    if most and wrong.sum() >= _LEAST and len(others) == 1:
        return Reading(others[0], units)
    doubtful = declared == "xywh" and enough
    if others and ((most and wrong.sum() >= _LEAST) or doubtful):
        readings = " or ".join(f"{FORMS[other]} (box_form: {other})" for other in others)
        raise DataError(
            f"{source}: {int(wrong.sum()):,} of {len(values):,} boxes stick out of their image if they are "
            f"{FORMS[declared]}, and none do if they are {readings}. Both are possible: say which with "
            f"--box-form (data.detection.box_form in the config), {declared} for boxes as they are."
        )
    return Reading(declared, units)


def kind_of(declared: Form, reading: Reading) -> Kind | None:
    """The message about boxes that are read in another form."""
    return _OTHERWISE.get((declared, reading.form))


def corners(values: np.ndarray, reading: Reading, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, 4) x1, y1, x2, y2 in pixels, sorted; and which (N,) bool were not.

    Args:
        values: (N, 4) as written.
        reading: how they are read.
        sizes: (N, 2) width and height of each box's image.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        first, second = _ends(values, reading.form)
        if reading.units != "pixels":
            scale = sizes / WHOLE[reading.units]
            first, second = first * scale, second * scale
        swapped = (second < first).any(axis=1)
        return np.hstack([np.minimum(first, second), np.maximum(first, second)]), swapped


def upright(boxes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """The upright boxes (N, 4) around boxes rotated by these degrees about their centres."""
    angles = np.radians(degrees)
    cos, sin = np.abs(np.cos(angles)), np.abs(np.sin(angles))
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    width = sides[:, 0] * cos + sides[:, 1] * sin
    height = sides[:, 0] * sin + sides[:, 1] * cos
    half = np.stack([width, height], axis=1) / 2
    return np.hstack([centres - half, centres + half])


def sticks_out(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes (N,) bool stick out of their images by more than rounding explains."""
    slack = np.maximum(_PIXELS, EDGE * sizes)
    return ((boxes[:, :2] < -slack) | (boxes[:, 2:] > sizes + slack)).any(axis=1)


def _ends(values: np.ndarray, form: Forms) -> tuple[np.ndarray, np.ndarray]:
    if form.startswith("xyxy"):
        return values[:, :2], values[:, 2:]
    if form == "cxcywh":
        return values[:, :2] - values[:, 2:] / 2, values[:, :2] + values[:, 2:] / 2
    return values[:, :2], values[:, :2] + values[:, 2:]


def _impossible(values: np.ndarray, form: Forms, sizes: np.ndarray, units: Units) -> np.ndarray:
    """Which boxes (N,) bool cannot have a form: they stick out, or their corners are not in order."""
    with np.errstate(over="ignore", invalid="ignore"):
        first, second = _ends(values, form)
        low, high = np.minimum(first, second), np.maximum(first, second)
        slack = np.maximum(_PIXELS, EDGE * sizes) if units == "pixels" else EDGE * WHOLE[units]
        wrong = ((low < -slack) | (high > sizes + slack)).any(axis=1)
        return wrong | (second < first).any(axis=1) if form == "xyxy" else wrong


class _Frames:
    """Which boxes cannot have a form and a unit, even if EXIF gives an image two frames.

    Args:
        values: (N, 4) as written.
        sizes: (N, 2) width and height of each box's image.
        image: (N,) the image of each.
        form: boxes that stick out in it show which images to check for a second frame.
        turned: as `decide` takes it.
    """

    def __init__(
        self,
        values: np.ndarray,
        sizes: np.ndarray,
        image: np.ndarray,
        form: Form,
        turned: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self._values, self._sizes, self._image = values, sizes, image
        self._form, self._turned = form, turned

    def impossible(self, form: Forms, units: Units) -> np.ndarray:
        """(N,) bool; the boxes of an image that EXIF turns may all be in the other frame."""
        sizes = self._sizes if units == "pixels" else np.full_like(self._sizes, WHOLE[units])
        wrong = _impossible(self._values, form, sizes, units)
        if units != "pixels" or not self._turnable.any():
            return wrong
        other = _impossible(self._values, form, sizes[:, ::-1], units)
        return wrong & ~(self._turnable & ~np.isin(self._image, np.unique(self._image[other])))

    @cached_property
    def _turnable(self) -> np.ndarray:
        """Which boxes (N,) bool are in images with two frames, among the images that boxes stick out of."""
        wrong = _impossible(self._values, self._form, self._sizes, "pixels")
        if wrong.sum() < SUSPECT:
            return np.zeros(len(wrong), dtype=bool)
        out = np.unique(self._image[wrong])
        return np.isin(self._image, out[self._turned(out)])
