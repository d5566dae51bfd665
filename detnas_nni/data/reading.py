"""From an annotation file's entries to the set in memory: the entries of every format go through here.

A format's reader (`coco`, `voc`) collects images and boxes with their values as written; here they become
boxes in pixels, inside images of known size and orientation. What each step corrects is in
`data.corrections`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from detnas_nni.data.corrections import orientation, scales, units
from detnas_nni.data.corrections.orientation import Exif, Frames
from detnas_nni.data.corrections.units import Form, Reading
from detnas_nni.data.corrections.values import CROWDS, DIFFICULT, IGNORED, Id, numbered
from detnas_nni.data.entries import Conventions, Entries
from detnas_nni.data.problems import CLIPPED, OUTSIDE, ZERO_AREA, Problems
from detnas_nni.data.records import DetectionSet, ImageRecord
from detnas_nni.errors import DataError

_ROUNDING = 1.0  # pixels by which a box may extend beyond its image unreported


def finish(
    entries: Entries,
    classes: Sequence[str],
    category_ids: Sequence[Id | None],
    problems: Problems,
    conventions: Conventions,
    *,
    shift: float = 0.0,
) -> DetectionSet:
    """The set in memory.

    Args:
        entries: what the file says; images whose size cannot be determined are left out.
        classes: K names, in the order of their labels.
        category_ids: the file's own ids for them.
        problems: of this file; settled here.
        conventions: how to read ambiguous annotations.
        shift: pixels subtracted from x1 and y1 if the format counts them from 1.

    Raises:
        DataError: too many problems, corrections although none are allowed, no image left, or two
            possible readings of the boxes.
    """
    frames, usable = _frames(entries, problems, conventions.exif)
    columns = _Columns.of(entries, usable)
    reading, boxes = _corners(entries, columns, frames, problems, conventions)
    if reading.units == "pixels":
        boxes[:, :2] -= shift
    scan = conventions.scan or conventions.strict
    orientation.settle(frames, boxes, columns.image, conventions.exif, problems, scan=scan)
    kept, boxes, area = _inside(entries, columns, boxes, frames.sizes, problems)
    _tell_marks(columns, classes, problems)
    dropped = problems.settle()
    if not usable.any():
        raise DataError(
            f"{entries.source}: no usable image is left of {entries.listed}: {problems.remedy or 'no entry'}"
        )
    return DetectionSet(
        name=str(entries.source),
        classes=tuple(classes),
        category_ids=_category_numbers(category_ids),
        own_category_ids=_own_category_ids(category_ids),
        records=_records(entries, usable, frames, columns, kept, boxes, area),
        dropped=MappingProxyType(dropped),
        notes=MappingProxyType(problems.notes),
        problems=problems.first,
        corrections=problems.corrections,
        reading=reading,
    )


@dataclass
class _Columns:
    """N boxes of usable images: their index among the entries' boxes, and their values."""

    place: np.ndarray
    image: np.ndarray
    label: np.ndarray
    values: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    difficult: np.ndarray
    rotation: np.ndarray
    around: np.ndarray

    @classmethod
    def of(cls, entries: Entries, usable: np.ndarray) -> _Columns:
        count = len(entries.image)
        image = np.array(entries.image, dtype=np.int64)
        marks = {name: np.zeros(count, dtype=bool) for name in ("crowd", "ignore", "difficult", "around")}
        rotation = np.zeros(count)
        for place, beside in entries.beside.items():
            marks["crowd"][place], marks["ignore"][place] = beside.crowd, beside.ignore
            marks["difficult"][place], rotation[place] = beside.difficult, beside.rotation
        marks["around"][entries.around] = True
        columns = cls(
            place=np.arange(count),
            # The indices of the images that are left.
            image=(np.cumsum(usable) - 1)[image] if count else image,
            label=np.array(entries.label, dtype=np.int64),
            values=np.array(entries.values, dtype=np.float64).reshape(-1, 4),
            area=np.array(entries.area, dtype=np.float64),
            rotation=rotation,
            **marks,
        )
        return columns if usable.all() else columns.rows(usable[image])

    def rows(self, rows: np.ndarray) -> _Columns:
        return type(self)(**{name: column[rows] for name, column in vars(self).items()})


def _frames(entries: Entries, problems: Problems, exif: Exif) -> tuple[Frames, np.ndarray]:
    """The images of known size, and which (M,) bool of the entries they are."""
    sizes = np.array(entries.sizes, dtype=np.int64).reshape(-1, 2)
    whole = Frames(entries.files, sizes, np.ones(len(sizes), dtype=bool), {})
    usable = np.ones(len(sizes), dtype=bool)
    unknown = np.flatnonzero((sizes == 0).any(axis=1)).tolist()
    if not unknown:
        return whole, usable
    whole.look(unknown)
    for place in unknown:
        header = whole.headers[place]
        if header is None:
            usable[place] = False
            name = entries.files[place].name
            problems.add(
                "width and height of " + name, None, "them, or an image that can be read", "bad images"
            )
            continue
        sizes[place] = header.stored if exif == "stored" else header.shown
        problems.correct(orientation.FROM_PICTURES, entries.files[place].name)
    places = np.flatnonzero(usable)
    headers = {
        row: whole.headers[place] for row, place in enumerate(places.tolist()) if place in whole.headers
    }
    files = [entries.files[place] for place in places]
    return Frames(files, sizes[places], np.ones(len(places), dtype=bool), headers), usable


def _corners(
    entries: Entries, columns: _Columns, frames: Frames, problems: Problems, conventions: Conventions
) -> tuple[Reading, np.ndarray]:
    """How the boxes are read, and their corners (N, 4) in pixels, not yet clipped to the images."""
    ordinary, sizes = ~columns.around, frames.sizes[columns.image]
    reading = units.decide(
        columns.values[ordinary],
        sizes[ordinary],
        columns.image[ordinary],
        entries.declared,
        form=conventions.box_form,
        units=conventions.box_units,
        hint=conventions.hint,
        turned=frames.turned_by_a_quarter,
        source=entries.source,
    )
    boxes, swapped = units.corners(columns.values, reading, sizes)
    if columns.around.any():
        plain = Reading("xywh", "pixels")
        boxes[columns.around], swapped[columns.around] = units.corners(
            columns.values[columns.around], plain, sizes[columns.around]
        )

    def told(kind: units.Kind | None, which: np.ndarray) -> None:
        if kind is not None and which.any():
            row = int(np.flatnonzero(which)[0])
            before, after = _short(columns.values[row]), _short(boxes[row])
            key = entries.key_of(entries.position[columns.place[row]])
            problems.correct(kind, f"`{key}` {before}, read as the corners {after}", int(which.sum()))

    if reading.units != "pixels":
        told(scales.READ[reading.units], ordinary)
    elif conventions.box_units == "auto":
        told(scales.suspected(boxes[ordinary], sizes[ordinary]), ordinary)
    told(units.kind_of(entries.declared, reading), ordinary)
    told(units.SWAPPED, swapped)
    if reading != Reading(entries.declared, "pixels"):
        columns.area[ordinary] = np.nan  # it belongs to the box as written, if at all
    rotated = (columns.rotation % 360) != 0
    if rotated.any():
        boxes[rotated] = units.upright(boxes[rotated], columns.rotation[rotated])
        told(units.ROTATED, rotated)
    return reading, boxes


def _inside(
    entries: Entries, columns: _Columns, boxes: np.ndarray, sizes: np.ndarray, problems: Problems
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the boxes with an area inside their images, the clipped boxes (N, 4), and their areas (N,)."""
    limits = sizes[columns.image].astype(np.float64)
    flat = (boxes[:, :2] >= boxes[:, 2:]).any(axis=1)
    outside = ~flat & ((boxes[:, :2] >= limits) | (boxes[:, 2:] <= 0)).any(axis=1)
    for row in np.flatnonzero(outside).tolist():
        problems.note(OUTSIDE)
        key = f"{entries.key_of(entries.position[columns.place[row]])}.{_BOX_KEYS[entries.declared]}"
        width, height = sizes[columns.image[row]].tolist()
        shown = [number(value) for value in columns.values[row].tolist()]
        problems.add(key, shown, f"a box inside its image of {width}x{height}", "bad boxes")
    cut = np.hstack([np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], limits)])
    narrow = cut.astype(np.float32)
    flat |= ~outside & (narrow[:, :2] >= narrow[:, 2:]).any(axis=1)
    problems.drop(ZERO_AREA, int(flat.sum()))
    kept = np.flatnonzero(~flat & ~outside)
    over = (np.abs(boxes[kept] - cut[kept]) > _ROUNDING).any(axis=1)
    problems.note(CLIPPED, int(over.sum()))
    sides = cut[kept, 2:] - cut[kept, :2]
    stated = columns.area[kept]
    return kept, cut[kept], np.where(np.isnan(stated), sides[:, 0] * sides[:, 1], stated)


def _tell_marks(columns: _Columns, classes: Sequence[str], problems: Problems) -> None:
    for kind, marked in (
        (CROWDS, columns.crowd),
        (IGNORED, columns.ignore),
        (DIFFICULT, columns.difficult & ~columns.crowd & ~columns.ignore),
    ):
        labels, counts = np.unique(columns.label[marked], return_counts=True)
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
            problems.correct(kind, count=count, of=classes[label - 1])


def _records(
    entries: Entries,
    usable: np.ndarray,
    frames: Frames,
    columns: _Columns,
    kept: np.ndarray,
    boxes: np.ndarray,
    area: np.ndarray,
) -> tuple[ImageRecord, ...]:
    order = np.argsort(columns.image[kept], kind="stable")
    rows = kept[order]
    ends = np.searchsorted(columns.image[rows], np.arange(len(frames.files) + 1))
    sorted_boxes, sorted_area = boxes[order].astype(np.float32), area[order].astype(np.float32)
    labels, difficult = columns.label[rows], columns.difficult[rows]
    crowd = (columns.crowd | columns.ignore)[rows]
    own = [entries.ids[place] for place in np.flatnonzero(usable)]
    sizes, upright = frames.sizes.tolist(), frames.upright.tolist()
    records = []
    for place, (number, identity) in enumerate(zip(numbered(own), own, strict=True)):
        here = slice(ends[place], ends[place + 1])
        records.append(
            ImageRecord(
                image_id=number,
                file=frames.files[place],
                width=sizes[place][0],
                height=sizes[place][1],
                boxes=sorted_boxes[here],
                labels=labels[here],
                crowd=crowd[here],
                difficult=difficult[here],
                area=sorted_area[here],
                upright=upright[place],
                own_id=identity,
            )
        )
    return tuple(records)


def _category_numbers(own: Sequence[Id | None]) -> tuple[int, ...]:
    """Ids that the metrics can work with: the file's own if all of them are suitable."""
    known = [identity for identity in own if identity is not None]
    return tuple(numbered(known)) if len(known) == len(own) else tuple(range(1, len(own) + 1))


def _own_category_ids(own: Sequence[Id | None]) -> tuple[Id, ...]:
    return tuple(label if identity is None else identity for label, identity in enumerate(own, start=1))


_BOX_KEYS: dict[Form, str] = {"xywh": "bbox", "xyxy": "bndbox"}


def number(value: float) -> float | int:
    """A whole number without its fraction, as most files write it."""
    return int(value) if value == int(value) else value


def _short(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values.tolist()) + "]"
