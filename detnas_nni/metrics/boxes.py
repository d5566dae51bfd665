"""Objects and detections as columns, checked once: the input of the metrics."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from detnas_nni.errors import EvaluationError
from detnas_nni.util.user_files import read_json_object

# Pairs that are processed together: enough for NumPy to be fast, few enough for memory not to matter.
_PAIRS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Columns:
    """Boxes, N of them, in the order given."""

    image: np.ndarray
    """(N,) the image's position among the ground truth's images, in ascending order of their ids."""
    category: np.ndarray
    """(N,) the category's position among the ground truth's categories, likewise."""
    boxes: np.ndarray
    """(N, 4) x, y, width, height, in float64."""

    def __getitem__(self, rows: np.ndarray) -> "Columns":
        """The boxes of these rows, in that order; `rows` is an index or a mask."""
        return type(self)(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Objects(Columns):
    """The ground truth's objects."""

    areas: np.ndarray
    """(N,) the annotation's area, or the box's if it states none."""
    crowd: np.ndarray
    """(N,) bool"""
    difficult: np.ndarray
    """(N,) bool, as Pascal VOC marks them"""


@dataclass(frozen=True)
class Detections(Columns):
    """A net's detections."""

    scores: np.ndarray
    """(N,) float64"""


class GroundTruth:
    """The objects of an annotated split, and the ids that its detections may use, read and indexed once.

    Args:
        source: a COCO annotation file or its content. An annotation's `ignore` is not used,
            as in pycocotools, which overwrites it with `iscrowd`; an annotation of an unlisted image or
            category is left out.

    Raises DataError if the file cannot be read.
    """

    def __init__(self, source: Path | str | Mapping[str, Any]) -> None:
        if not isinstance(source, Mapping):
            source = read_json_object(Path(source), ("images", "annotations", "categories"))
        self._image_rows = _rows_by_id(entry["id"] for entry in source["images"])
        self._category_rows = _rows_by_id(entry["id"] for entry in source["categories"])
        self.objects = self._objects(source["annotations"])

    @classmethod
    def of(cls, source: "Path | str | Mapping[str, Any] | GroundTruth") -> "GroundTruth":
        """As the constructor; a GroundTruth is returned as it is."""
        return source if isinstance(source, GroundTruth) else cls(source)

    @property
    def image_ids(self) -> tuple[Any, ...]:
        """Ascending: `Columns.image` counts in this order."""
        return tuple(self._image_rows)

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self._image_rows)

    @property
    def categories(self) -> tuple[Any, ...]:
        """Their ids, ascending: `Columns.category` counts in this order."""
        return tuple(self._category_rows)

    def chosen(self, image_ids: Iterable[int] | None) -> np.ndarray:
        """Which images count, (images,) bool; all if None.

        Raises EvaluationError if `image_ids` is empty or names an unknown image.
        """
        if image_ids is None:
            image_ids = self._image_rows
        rows = {image_id: self._image_rows.get(image_id) for image_id in image_ids}
        unknown = sorted(image_id for image_id, row in rows.items() if row is None)[:5]
        if unknown or not rows:
            raise EvaluationError(
                f"the images to evaluate on are empty or unknown to the ground truth: {unknown}"
            )
        chosen = np.zeros(self.images, dtype=bool)
        chosen[list(rows.values())] = True
        return chosen

    def detections(self, entries: Sequence[Mapping[str, Any]]) -> Detections:
        """COCO results as columns.

        Raises EvaluationError for the first one that has a score or a box that is not finite, or an image or
        a category that the ground truth lacks.
        """
        found = Detections(
            image=_places(entries, "image_id", self._image_rows),
            category=_places(entries, "category_id", self._category_rows),
            boxes=_boxes(entries, "detections"),
            scores=np.fromiter(map(itemgetter("score"), entries), np.float64, len(entries)),
        )
        fits = (found.image >= 0) & (found.category >= 0)
        fits &= np.isfinite(found.scores) & np.isfinite(found.boxes).all(axis=1)
        if not fits.all():
            position = int(fits.argmin())
            raise EvaluationError(f"detections[{position}]{self._what_is_wrong(entries[position])}")
        return found

    def _objects(self, entries: Sequence[Mapping[str, Any]]) -> Objects:
        objects = Objects(
            image=_places(entries, "image_id", self._image_rows),
            category=_places(entries, "category_id", self._category_rows),
            boxes=_boxes(entries, "annotations"),
            areas=np.array([_area(entry) for entry in entries], dtype=np.float64),
            crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in entries], dtype=bool),
            difficult=np.array([bool(entry.get("difficult", 0)) for entry in entries], dtype=bool),
        )
        return objects[(objects.image >= 0) & (objects.category >= 0)]

    def _what_is_wrong(self, entry: Mapping[str, Any]) -> str:
        if entry["image_id"] not in self._image_rows:
            return f".image_id {entry['image_id']} is not in the ground truth"
        if entry["category_id"] not in self._category_rows:
            return (
                f".category_id {entry['category_id']} is not in the ground truth; "
                f"expected one of {list(self.categories[:20])}"
            )
        return (
            f" has the score {entry['score']} and the box {list(entry['bbox'])}, expected finite numbers: "
            "the net's outputs have overflowed or its statistics are broken"
        )


def pairs(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of a position in `first` (M,) and one in `second` (N,) that hold the same number.

    Both are in ascending order, and so are the pairs. They come in chunks, each of complete runs of a number.
    Of [3, 3, 7] and [2, 3, 3, 7] these are (0, 1), (0, 2), (1, 1), (1, 2) and (2, 3), as two arrays:
    [0, 0, 1, 1, 2] and [1, 2, 1, 2, 3].
    """
    starts = np.searchsorted(second, first, "left")
    counts = np.searchsorted(second, first, "right") - starts
    met = np.flatnonzero(counts)
    starts, counts, numbers = starts[met], counts[met], first[met]
    ends = np.cumsum(counts)
    # A chunk ends with the last of its run: where the next number differs.
    run_ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1
    parts = ends[run_ends - 1] // _PAIRS_AT_ONCE
    low = 0
    for high in run_ends[np.flatnonzero(np.diff(parts, append=-1))].tolist():
        part = counts[low:high]
        before = np.cumsum(part) - part
        within = np.arange(part.sum()) - np.repeat(before, part)
        yield np.repeat(met[low:high], part), np.repeat(starts[low:high], part) + within
        low = high


def places_in_run(numbers: np.ndarray) -> np.ndarray:
    """For each of `numbers` (N,), where equal ones are adjacent, how many equal ones precede it."""
    new = np.diff(numbers, prepend=numbers[:1] - 1) != 0
    starts = np.flatnonzero(new)
    return np.arange(len(numbers)) - starts[np.cumsum(new) - 1]


def _rows_by_id(ids: Iterable[Any]) -> dict[Any, int]:
    return {identifier: row for row, identifier in enumerate(sorted(set(ids)))}


def _places(entries: Sequence[Mapping[str, Any]], key: str, rows: Mapping[Any, int]) -> np.ndarray:
    """(N,) the row of each entry's id; -1 for an unknown one."""
    return np.fromiter(map(rows.get, map(itemgetter(key), entries), repeat(-1)), np.int64, len(entries))


def _boxes(entries: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    boxes = [entry["bbox"] for entry in entries]
    # Reading number after number is three times as fast as np.array, but does not see where a box ends.
    if set(map(len, boxes)) - {4}:
        position = next(at for at, box in enumerate(boxes) if len(box) != 4)
        raise EvaluationError(
            f"{name}[{position}] has the box {list(boxes[position])}, expected x, y, width and height"
        )
    return np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)


def _area(entry: Mapping[str, Any]) -> float:
    return entry["area"] if "area" in entry else math.prod(entry["bbox"][2:])
