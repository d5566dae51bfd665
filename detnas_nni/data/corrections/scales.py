"""The unit of a box's numbers: pixels, or shares of the image on a scale to 1, to 100 or to 1000.

It is recognised over the whole file. No box is smaller than a pixel, so numbers within 0..1 are shares.
Numbers within 0..100 or 0..1000 are pixels if that is possible; they are percent or thousandths if boxes in
pixels would stick out of most images in any form, and if they reach the end of the scale in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from detnas_nni.data.problems import Kind
from detnas_nni.errors import DataError

Units = Literal["pixels", "shares", "percent", "thousandths"]

WHOLE: dict[Units, float] = {"shares": 1.0, "percent": 100.0, "thousandths": 1000.0}
"""The size of the whole image in each unit except pixels."""

READ: dict[Units, Kind] = {
    "shares": Kind(
        "shares",
        "box is in shares of the image (within 0..1); multiplied by its size",
        "boxes are in shares of the image (all lie within 0..1, or end just beyond); multiplied by its size",
    ),
    "percent": Kind(
        "percent",
        "box is in percent of the image; multiplied by its size",
        "boxes are in percent of the image (in pixels they would stick out); multiplied by its size",
    ),
    "thousandths": Kind(
        "thousandths",
        "box is in thousandths of the image; multiplied by its size",
        "boxes are in thousandths of the image (in pixels they would stick out); multiplied by its size",
    ),
}
"""The message about boxes that are read in a unit."""

SUSPECTED: dict[Units, Kind] = {
    unit: Kind(
        f"suspected {unit}",
        f"box is read in pixels, and ends within {WHOLE[unit]:.0f} of an image of another size: {unit} of "
        f"it? (box_units: {unit}, or --box-units {unit}, reads it so)",
        f"boxes are read in pixels, and all end within {WHOLE[unit]:.0f} of images of other sizes, some "
        f"right there: {unit} of them? (box_units: {unit}, or --box-units {unit}, reads them so)",
        corrects=False,
    )
    for unit in ("percent", "thousandths")
}

EDGE = 0.02
"""How far beyond the whole a box may reach and still be in this unit: rounded, or drawn over the edge."""

ENOUGH = 8
"""Boxes of a file needed to suspect anything: fewer may all fit another reading by chance."""

SUSPECT, SUSPECT_SHARE = 2, 0.05
"""Boxes that stick out, too few for a decision and too many for chance."""

STRAY = 0.01
"""Share of boxes that may be wrong in the right reading."""

_HALF = 0.5  # share of boxes in shares that lie entirely inside their images
_TINY = 8  # pixels: in images with shorter sides boxes within 0..1 may be in pixels
_FULL, _NEARLY = 0.9, 0.7  # of a scale that boxes reach: some box lies near the edge, or not far from it
_MOST = 0.5  # of the images that have boxes
_FAR, _MANY = 1.2, 0.2  # times the image's side; a share: that many boxes are not drawn so far over the edge
_OTHER, _LARGER = 0.1, 1.5  # from where on an image's side differs from the scale

Forms = Sequence[str]
Impossible = Callable[[str, Units], np.ndarray]


def decide_units(
    values: np.ndarray,
    ends: Callable[[str], np.ndarray],
    sizes: np.ndarray,
    image: np.ndarray,
    forms: Forms,
    impossible: Impossible,
    source: object,
    hint: Units | None = None,
) -> Units:
    """The unit of a file's boxes.

    Args:
        values: (N, 4) as written.
        ends: gives x2 and y2 (N, 2) of the boxes in a form.
        sizes: (N, 2) width and height of each box's image.
        image: (N,) the image of each.
        forms: possible forms of the four numbers, the likeliest first.
        impossible: tells for a form and a unit which boxes (N,) bool cannot be in them.
        source: for messages.
        hint: the unit of the training split, which a smaller split follows if possible.

    Raises:
        DataError: two units are possible.
    """
    if not len(values):
        return "pixels"
    if _are_shares(values, sizes, source):
        return "shares"
    wrong = impossible(forms[0], "pixels")
    if wrong.sum() < SUSPECT and hint not in SUSPECTED:
        return "pixels"
    scale = _smallest_scale(values, forms, impossible)
    if scale is None or scale[1] == hint:
        return "pixels" if scale is None else scale[1]
    form, unit = scale
    last = ends(form)
    reach = np.quantile(last, 1 - STRAY, axis=0).min() / WHOLE[unit]
    in_pixels = any(impossible(other, "pixels").mean() <= STRAY for other in forms)
    in_any_order = impossible("xyxy swapped", "pixels").mean() <= STRAY
    backwards = (values[:, 2:] <= values[:, :2]).all(axis=1).mean() >= 1 - STRAY
    if len(values) < ENOUGH or reach < _NEARLY or in_pixels or (in_any_order and backwards):
        return "pixels"
    most = len(np.unique(image[wrong])) > _MOST * len(np.unique(image))
    if most and reach >= _FULL and not in_any_order:
        return unit
    if most or (last > _FAR * sizes).any(axis=1).mean() >= _MANY:
        raise DataError(
            f"{source}: {int(wrong.sum()):,} of {len(values):,} boxes stick out of their image in pixels, "
            f"and all lie within 0..{WHOLE[unit]:.0f}, as {unit} of the image do. Say which they are by "
            f"--box-units (data.detection.box_units in the config), pixels or {unit}."
        )
    return "pixels"


def _smallest_scale(values: np.ndarray, forms: Forms, impossible: Impossible) -> tuple[str, Units] | None:
    """The first form, on the smallest scale, in which boxes lie within the whole."""
    largest = float(np.median(np.abs(values).max(axis=1)))
    for unit in SUSPECTED:
        if largest <= (1 + EDGE) * WHOLE[unit]:
            for form in forms:
                if impossible(form, unit).mean() <= STRAY:
                    return form, unit
    return None


def suspected(boxes: np.ndarray, sizes: np.ndarray) -> Kind | None:
    """The message about boxes (N, 4) in pixels that all end within 100, or 1000, and some right there.

    Args:
        boxes: corners, not clipped to the images.
        sizes: (N, 2) width and height of each box's image.
    """
    if (
        len(boxes) < ENOUGH
        or (boxes < 0).any()
        or (boxes[:, 2:] > (1 + EDGE) * sizes).any(axis=1).mean() > STRAY
    ):
        return None
    starts, ends = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    for unit, kind in SUSPECTED.items():
        whole = WHOLE[unit]
        within = (ends <= (1 + EDGE) * whole).all() and (ends >= _FULL * whole).all()
        other = (np.abs(sizes / whole - 1) >= _OTHER).any(axis=1).all()
        # In images slightly larger than the scale, objects in the middle end within it, too.
        if within and other and ((sizes >= _LARGER * whole).all() or (starts <= _OTHER * whole).all()):
            return kind
    return None


def _are_shares(values: np.ndarray, sizes: np.ndarray, source: object) -> bool:
    """Whether boxes are in shares: at least half within 0..1, the others, drawn over the edge, close to it.

    No box of under one pixel lies in the upper left corner, so among other boxes it has another unit.
    """
    if np.median(sizes.min(axis=1)) < _TINY:
        return False
    within = ((values >= -EDGE) & (values <= 1 + EDGE)).all(axis=1)
    near = ((values >= -1) & (values <= 2)).all(axis=1)
    if near.all():
        return bool(within.mean() >= _HALF)
    count = int((within & (values != np.rint(values)).any(axis=1)).sum())
    if count >= SUSPECT and count >= SUSPECT_SHARE * len(values):
        raise DataError(
            f"{source}: {count:,} of {len(values):,} boxes lie within 0..1, as shares of the image do, and "
            f"{int((~near).sum()):,} are far larger, as pixels are. One file cannot be read both ways: "
            "correct the boxes, or say what all of them are with --box-units "
            "(data.detection.box_units in the config), pixels or shares."
        )
    return False
