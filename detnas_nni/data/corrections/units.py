"""Four numbers of a box to corners in pixels: shares, corners for sides, swapped corners, rotation.

The form of a file's boxes is recognised over the whole file, by what is possible: boxes in pixels stick
out of no image if they are read as they were written, but of most images if they are read otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detnas_nni.data.problems import Kind
from detnas_nni.errors import DataError

Form = Literal["xywh", "xyxy", "cxcywh"]
Units = Literal["pixels", "shares", "percent"]

FORMS: dict[Form, str] = {
    "xywh": "x, y, width, height",
    "xyxy": "x1, y1, x2, y2",
    "cxcywh": "the centre's x and y, width, height",
}

SHARES = Kind(
    "shares",
    "box is in shares of the image (within 0..1); multiplied by its size",
    "boxes are in shares of the image (all lie within 0..1, or end little beyond); multiplied by its size",
)
MAYBE_PERCENT = Kind(
    "suspected percent",
    "box is read in pixels, and ends within 100 of a larger image: percent of it? "
    "(box_units: percent, or --box-units percent, reads it so)",
    "boxes are read in pixels, and all end within 100 of larger images, some right there: percent of them? "
    "(box_units: percent, or --box-units percent, reads them so)",
    corrects=False,
)
PERCENT = Kind(
    "percent",
    "box is in percent of the image; multiplied by its size",
    "boxes are in percent of the image; multiplied by its size",
)
CORNERS = Kind(
    "corners for sides",
    "box is written as x1, y1, x2, y2 in place of x, y, width, height",
    "boxes are written as x1, y1, x2, y2 in place of x, y, width, height",
)
CENTRES = Kind(
    "centres",
    "box is written by its centre, width and height",
    "boxes are written by their centre, width and height",
)
SIDES = Kind(
    "sides for corners",
    "box is written as x, y, width, height in place of its corners",
    "boxes are written as x, y, width, height in place of their corners",
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

# How far a box may stick out and still be meant so: of rounding, and of boxes drawn over the edge.
_PIXELS, _SHARE = 2.0, 0.02
_MOST = 0.5  # of the images that have boxes
_LEAST = 3  # boxes that stick out, before anything is thought of it
_SUSPECT, _SUSPECT_SHARE = 2, 0.05  # boxes that stick out, too few for a decision and too many for chance
_ENOUGH = 8  # boxes of a file, to suspect anything: of fewer, all may fit another form by chance
_STRAY = 0.01  # of boxes that may be wrong in the right reading
_LARGER_THAN_PERCENT = 150  # pixels
_WHOLE: dict[Units, float] = {"shares": 1.0, "percent": 100.0}
_HALF = 0.5  # of boxes in shares that lie wholly inside their images
_TINY = 8  # pixels: in images with shorter sides boxes within 0..1 may be meant


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
    """How the boxes of a file are to be read.

    Args:
        values: (N, 4) float64 as they are written, finite.
        sizes: (N, 2) width and height of each box's image.
        image: (N,) the image of each.
        declared: what the form of the file says.
        form, units: what the user says.
        hint: how the training split was read, which a smaller split follows where it can.
        turned: takes images (M,), gives (M,) bool: which of them EXIF turns by a quarter, so that their boxes
            may be in the other frame.
        source: for messages.

    Raises:
        DataError: two readings are possible.
    """
    lies = (values[:, 2:] != 0).any(axis=1)
    values, sizes, image = values[lies], sizes[lies], image[lies]
    if units == "auto":
        units = "shares" if _are_shares(values, sizes, source) else "pixels"
    if form != "auto":
        return Reading(form, units)
    if not len(values):
        return Reading(declared, units)
    if units != "pixels":
        sizes = np.full_like(sizes, _WHOLE[units])
    wrong = _impossible(values, declared, sizes, units)
    follows = hint is not None and hint.form != declared
    if wrong.sum() < _SUSPECT and not follows:
        return Reading(declared, units)
    turnable = np.zeros(len(values), dtype=bool)
    if units == "pixels":
        out = np.unique(image[wrong])
        turnable = np.isin(image, out[turned(out)])

    def impossible(candidate: Form | Literal["xyxy swapped"]) -> np.ndarray:
        return _in_either_frame(values, candidate, sizes, image, turnable, units)

    wrong = impossible(declared)
    others = [other for other in _CANDIDATES[declared] if impossible(other).mean() <= _STRAY]
    if follows and hint.form in others:
        return Reading(hint.form, units)
    most = len(np.unique(image[wrong])) > _MOST * len(np.unique(image))
    enough = len(values) >= _ENOUGH and wrong.sum() >= _SUSPECT and wrong.mean() >= _SUSPECT_SHARE
    if not others and declared == "xywh" and enough:
        in_order = ~impossible("xyxy")
        reversed_ = (values[:, 2:] <= values[:, :2]).all(axis=1)
        fits = impossible("xyxy swapped").mean() <= _STRAY
        if most and fits and reversed_.mean() >= 1 - _STRAY:
            others = ["xyxy"]  # the second corner first, which sorting makes good
        # Boxes that are only drawn over the edge lie there, and as corners are hardly ever in order.
        elif in_order[wrong].mean() >= 1 - _SUSPECT_SHARE or (most and fits):
            raise DataError(
                f"{source}: {int(wrong.sum()):,} of {len(values):,} boxes stick out of their image if they "
                f"are {FORMS[declared]}, and look like {FORMS['xyxy']}; not all of the others can be that. "
                "It may be a file of both forms: mend it, or say that all are corners in any order by "
                f"--box-form xyxy (data.detection.box_form in the config), {declared} for boxes as they are."
            )
    if most and wrong.sum() >= _LEAST and len(others) == 1:
        return Reading(others[0], units)
    doubtful = declared == "xywh" and enough
    if others and ((most and wrong.sum() >= _LEAST) or doubtful):
        readings = " or ".join(f"{FORMS[other]} (box_form: {other})" for other in others)
        raise DataError(
            f"{source}: {int(wrong.sum()):,} of {len(values):,} boxes stick out of their image if they are "
            f"{FORMS[declared]}, and none do if they are {readings}. Both are possible: say which by "
            f"--box-form (data.detection.box_form in the config), {declared} for boxes as they stand."
        )
    return Reading(declared, units)


def kind_of(declared: Form, reading: Reading) -> Kind | None:
    """What is to be said of boxes that are read in another form."""
    return _OTHERWISE.get((declared, reading.form))


def corners(values: np.ndarray, reading: Reading, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, 4) x1, y1, x2, y2 in pixels, sorted; and which (N,) bool were not.

    Args:
        values: (N, 4) as they are written.
        reading: how they are read.
        sizes: (N, 2) width and height of each box's image.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        first, second = _ends(values, reading.form)
        if reading.units != "pixels":
            scale = sizes / _WHOLE[reading.units]
            first, second = first * scale, second * scale
        swapped = (second < first).any(axis=1)
        return np.hstack([np.minimum(first, second), np.maximum(first, second)]), swapped


def may_be_percent(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether boxes (N, 4) in pixels all end within 100 of larger images, with some that end right there."""
    if len(boxes) < _ENOUGH or (sizes < _LARGER_THAN_PERCENT).any():
        return False
    ends = boxes[:, 2:].max(axis=0)
    return bool((ends <= 100 * (1 + _SHARE)).all() and (ends >= 90).all() and (boxes >= 0).all())


def upright(boxes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """The upright boxes (N, 4) around boxes that are rotated by so many degrees about their centres."""
    angles = np.radians(degrees)
    cos, sin = np.abs(np.cos(angles)), np.abs(np.sin(angles))
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    width = sides[:, 0] * cos + sides[:, 1] * sin
    height = sides[:, 0] * sin + sides[:, 1] * cos
    half = np.stack([width, height], axis=1) / 2
    return np.hstack([centres - half, centres + half])


def sticks_out(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes (N,) bool reach out of their images by more than rounding explains."""
    slack = np.maximum(_PIXELS, _SHARE * sizes)
    return ((boxes[:, :2] < -slack) | (boxes[:, 2:] > sizes + slack)).any(axis=1)


def _ends(values: np.ndarray, form: Form | Literal["xyxy swapped"]) -> tuple[np.ndarray, np.ndarray]:
    if form.startswith("xyxy"):
        return values[:, :2], values[:, 2:]
    if form == "cxcywh":
        return values[:, :2] - values[:, 2:] / 2, values[:, :2] + values[:, 2:] / 2
    return values[:, :2], values[:, :2] + values[:, 2:]


def _are_shares(values: np.ndarray, sizes: np.ndarray, source: object) -> bool:
    """Whether boxes are in shares: at least half lie within 0..1, and the others, drawn over the edge, near.

    Boxes of under one pixel in the upper left corner are none, so among others they are of other units.
    """
    if not len(values) or np.median(sizes.min(axis=1)) < _TINY:
        return False
    within = ((values >= -_SHARE) & (values <= 1 + _SHARE)).all(axis=1)
    near = ((values >= -1) & (values <= 2)).all(axis=1)
    if near.all():
        return bool(within.mean() >= _HALF)
    count = int((within & (values != np.rint(values)).any(axis=1)).sum())
    if count >= _SUSPECT and count >= _SUSPECT_SHARE * len(values):
        raise DataError(
            f"{source}: {count:,} of {len(values):,} boxes lie within 0..1, as shares of the image do, and "
            f"{int((~near).sum()):,} are far larger, as pixels are. One file cannot be read both ways: mend "
            "the boxes, or say what all of them are by --box-units (data.detection.box_units in the config), "
            "pixels or shares."
        )
    return False


def _impossible(
    values: np.ndarray, form: Form | Literal["xyxy swapped"], sizes: np.ndarray, units: Units
) -> np.ndarray:
    """Which boxes (N,) bool cannot be meant in a form: they stick out, or their corners are not in order."""
    with np.errstate(over="ignore", invalid="ignore"):
        first, second = _ends(values, form)
        low, high = np.minimum(first, second), np.maximum(first, second)
        slack = np.maximum(_PIXELS, _SHARE * sizes) if units == "pixels" else _SHARE * _WHOLE[units]
        wrong = ((low < -slack) | (high > sizes + slack)).any(axis=1)
        return wrong | (second < first).any(axis=1) if form == "xyxy" else wrong


def _in_either_frame(
    values: np.ndarray,
    form: Form | Literal["xyxy swapped"],
    sizes: np.ndarray,
    image: np.ndarray,
    turnable: np.ndarray,
    units: Units,
) -> np.ndarray:
    """`_impossible`, where the boxes of an image that EXIF turns may all be in the other frame."""
    wrong = _impossible(values, form, sizes, units)
    if not turnable.any():
        return wrong
    other = _impossible(values, form, sizes[:, ::-1], units)
    bad_there = np.unique(image[other])
    return wrong & ~(turnable & ~np.isin(image, bad_there))
