"""Pascal VOC's mean average precision, by the rules of its development kit.

Source: http://host.robots.ox.ac.uk/pascal/VOC, `VOCevaldet.m` and `VOCap.m` of VOC2007 and VOC2012.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detnas_nni.metrics import checked_input


class _Objects(NamedTuple):
    """The objects of one class in one image."""

    boxes: np.ndarray  # (N, 4), x1, y1, x2, y2
    difficult: np.ndarray  # (N,) bool


class _ClassAP(NamedTuple):
    name: str
    eleven_points: float
    all_points: float


def voc_map(
    ground_truth: Path | str | Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    *,
    iou: float = 0.5,
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """VOC's mean average precision over the classes.

    Of each class, the detections of all images are gone through by falling score, equal scores in the order
    given. Each belongs to the object that it overlaps most, whether that is taken already or not. From `iou`
    on it is a true positive if it is the object's first, a false positive if it is another one, and neither
    if the object is `difficult`, or a crowd in COCO's terms; below `iou` it is a false positive. The mean is
    over the classes with an object that is not difficult.

    Boxes are edges. The devkit counts pixels from 1, both ends included, and adds 1 to every side; a reader
    that takes 1 off the lower ends, as `read_voc(one_based=True)` does, gives the same overlaps.

    Args:
        ground_truth: a COCO annotation file or its content; annotations may have `difficult`, 0 or 1.
        detections: COCO results: image_id, category_id, bbox (x, y, width, height), score. May be empty.
        iou: the overlap from which an object is found, in (0, 1].
        image_ids: the images to count, for a result on a part of the split; all if None.

    Returns:
        mAP07, the mean of the best precision at recalls of at least 0, 0.1, …, 1 (VOC2007), and mAP, the area
        under the precision that is made to fall with recall (VOC2010 and later); in [0, 1], never rounded,
        -1 where no class has an object to find.

    Raises:
        DataError, EvaluationError: as `coco_box_ap`.
        ValueError: `iou` is not in (0, 1].
    """
    values = list(_class_aps(ground_truth, detections, iou, image_ids))
    if not values:
        return {"mAP07": -1.0, "mAP": -1.0}
    return {
        "mAP07": sum(value.eleven_points for value in values) / len(values),
        "mAP": sum(value.all_points for value in values) / len(values),
    }


def voc_class_ap(
    ground_truth: Path | str | Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    *,
    iou: float = 0.5,
    image_ids: Iterable[int] | None = None,
) -> dict[str, dict[str, float]]:
    """The terms of `voc_map`'s means: AP07 and AP by class name, without the classes that do not count."""
    return {
        value.name: {"AP07": value.eleven_points, "AP": value.all_points}
        for value in _class_aps(ground_truth, detections, iou, image_ids)
    }


def _class_aps(
    ground_truth: Path | str | Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou: float,
    image_ids: Iterable[int] | None,
) -> Iterator[_ClassAP]:
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou}, expected a number in (0, 1]")
    truth, images = checked_input(ground_truth, detections, image_ids)
    objects = _objects(truth["annotations"], images)
    found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for detection in detections:
        if detection["image_id"] in images:
            found[detection["category_id"]].append(detection)
    for category in truth["categories"]:
        of_class = objects.get(category["id"], {})
        count = sum(int((~entry.difficult).sum()) for entry in of_class.values())
        if count:
            hits = _hits(of_class, found[category["id"]], iou)
            yield _ClassAP(category["name"], _eleven_points(hits, count), _all_points(hits, count))


def _objects(annotations: Sequence[Mapping[str, Any]], images: set[int]) -> dict[int, dict[int, _Objects]]:
    """Category id → image id → its objects, in the order of the annotations."""
    grouped: dict[int, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for entry in annotations:
        if entry["image_id"] in images:
            grouped[entry["category_id"]][entry["image_id"]].append(entry)
    return {
        category: {
            image: _Objects(
                _corners(entries),
                np.array([bool(e.get("difficult", 0) or e.get("iscrowd", 0)) for e in entries]),
            )
            for image, entries in by_image.items()
        }
        for category, by_image in grouped.items()
    }


def _hits(objects: Mapping[int, _Objects], found: Sequence[Mapping[str, Any]], iou: float) -> np.ndarray:
    """Whether each detection that counts (M,) is a true positive, by falling score."""
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, detection in enumerate(found):
        rows_of[detection["image_id"]].append(row)
    corners = _corners(found)
    nearest, overlap = np.zeros(len(found), dtype=np.int64), np.zeros(len(found))
    for image in rows_of.keys() & objects.keys():
        table = _ious(corners[rows_of[image]], objects[image].boxes)
        nearest[rows_of[image]], overlap[rows_of[image]] = table.argmax(axis=1), table.max(axis=1)

    hits: list[bool] = []
    taken: set[tuple[int, int]] = set()
    scores = np.array([detection["score"] for detection in found], dtype=np.float64)
    for row in np.argsort(-scores, kind="stable").tolist():
        image, position = found[row]["image_id"], int(nearest[row])
        if overlap[row] < iou:
            hits.append(False)
        elif not objects[image].difficult[position]:
            hits.append((image, position) not in taken)
            taken.add((image, position))
    return np.array(hits, dtype=bool)


def _eleven_points(hits: np.ndarray, count: int) -> float:
    """VOC2007's AP of a class with `count` objects."""
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    # Whole numbers, since 0.3 as a multiple of 0.1 comes out above 3 / 10 in floating point, and a recall of
    # exactly 0.3 would miss it.
    best = [precision[10 * found >= tenths * count].max(initial=0.0) for tenths in range(11)]
    return float(sum(best) / 11)


def _all_points(hits: np.ndarray, count: int) -> float:
    """AP of VOC2010 and later: a true positive adds 1 / count of recall at the best precision from there."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / count)


def _corners(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N, 4) x1, y1, x2, y2 of COCO's boxes."""
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(M, N) overlaps of M and N boxes; 0 where two do not meet."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
