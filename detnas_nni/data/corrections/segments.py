"""Numbers in annotations, and boxes around segmentations: polygons, run-length encoded masks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def number(value: object) -> float | None:
    """A finite number, also from text; None for anything else, including True and False."""
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if len(text) < 400 and _NUMBER.fullmatch(text) else None
    if type(value) not in (int, float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer beyond float64
        return None


def around_segmentation(segmentation: object) -> tuple[float, float, float, float] | None:
    """x, y, width, height of the upright box around polygons or a mask in COCO's run-length encoding."""
    if isinstance(segmentation, list):
        polygons = [segmentation] if segmentation and not isinstance(segmentation[0], list) else segmentation
        points: list[float] = []
        for polygon in polygons:
            if not isinstance(polygon, list) or len(polygon) % 2:
                return None
            points += [value for value in map(number, polygon) if value is not None]
        if len(points) < 4 or len(points) != sum(map(len, polygons)):
            return None
        xs, ys = points[::2], points[1::2]
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    if isinstance(segmentation, Mapping):
        return _around_mask(segmentation)
    return None


_MOST_CELLS = 2**26  # of a mask, the limit on an image's pixels


def _around_mask(mask: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int for side in size):
        return None
    height, width = size
    if not (height > 0 and width > 0 and height * width <= _MOST_CELLS):
        return None
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run <= _MOST_CELLS for run in runs):
        return None
    ends = np.cumsum(runs, dtype=np.int64)
    if not len(ends) or ends[-1] != height * width:
        return None
    starts, stops = ends[:-1:2], ends[1::2]  # alternate runs of 0 and 1, column by column
    filled = stops > starts[: len(stops)]
    starts, stops = starts[: len(stops)][filled], stops[filled] - 1
    if not len(starts):
        return None
    columns = starts // height, stops // height
    x1, x2 = int(columns[0].min()), int(columns[1].max()) + 1
    spans = columns[0] != columns[1]  # a run across columns fills one down to its end, the next from its top
    y1 = 0 if spans.any() else int((starts % height).min())
    y2 = height if spans.any() else int((stops % height).max()) + 1
    return x1, y1, x2 - x1, y2 - y1


def _unpacked(text: str) -> list[int] | None:
    """COCO's compressed run lengths: six bits per character, five of data; differences from the third."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(text) or shift > 60:
                return None
            code = ord(text[at]) - 48
            if not 0 <= code < 64:
                return None
            value |= (code & 31) << shift
            more = bool(code & 32)
            at, shift = at + 1, shift + 5
            if not more and code & 16:
                value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
