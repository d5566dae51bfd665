"""Pascal VOC's mean average precision, by the rules of its development kit.

Source: http://host.robots.ox.ac.uk/pascal/VOC, `VOCevaldet.m` and `VOCap.m` of VOC2007 and VOC2012.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detnas_nni.metrics.boxes import Detections, GroundTruth, Objects, pairs


class _ClassAP(NamedTuple):
    eleven_points: float
    all_points: float


def voc_map(
    ground_truth: Path | str | Mapping[str, Any] | GroundTruth,
    detections: Sequence[Mapping[str, Any]],
    *,
    iou: float = 0.5,
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """VOC's mean average precision over the classes.

    For each class, the detections of all images are visited by descending score, equal scores in the order
    given. Each belongs to the object that it overlaps most, whether or not that is already taken. From `iou`
    on it is a true positive if it is the object's first, a false positive if it is a later one, and neither
    if the object is `difficult`, or a crowd in COCO's terms; below `iou` it is a false positive. The mean is
    over the classes with an object that is not difficult.

    Boxes are edges. The devkit counts pixels from 1, both ends included, and adds 1 to every side; a reader
    that subtracts 1 from the lower ends, as `read_voc(one_based=True)` does, gives the same overlaps.

    Args:
        ground_truth: a COCO annotation file or its content, whose annotations may have `difficult`, 0 or 1;
            a `GroundTruth` to measure several times against one that is read once.
        detections: COCO results: image_id, category_id, bbox (x, y, width, height), score. May be empty.
        iou: the overlap from which an object is found, in (0, 1].
        image_ids: the images to count, for a result on a part of the split; all if None.

    Returns:
        mAP07, the mean of the best precision at recalls of at least 0, 0.1, …, 1 (VOC2007), and mAP, the area
        under the precision made monotonically decreasing in recall (VOC2010 and later); in [0, 1], never
        rounded, -1 where no class has an object to find.

    Raises:
        DataError, EvaluationError: as for `coco_box_ap`.
        ValueError: `iou` is not in (0, 1].
    """
    values = list(_class_aps(ground_truth, detections, iou, image_ids))
    if not values:
        return {"mAP07": -1.0, "mAP": -1.0}
    return {
        "mAP07": sum(value.eleven_points for value in values) / len(values),
        "mAP": sum(value.all_points for value in values) / len(values),
    }


def _class_aps(
    ground_truth: Path | str | Mapping[str, Any] | GroundTruth,
    detections: Sequence[Mapping[str, Any]],
    iou: float,
    image_ids: Iterable[int] | None,
) -> Iterator[_ClassAP]:
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou}, expected a number in (0, 1]")
    truth = GroundTruth.of(ground_truth)
    chosen = truth.chosen(image_ids)
    found = truth.detections(detections)
    found, objects = found[chosen[found.image]], truth.objects[chosen[truth.objects.image]]
    nearest, overlap = _nearest(found, objects, truth.images)
    difficult = objects.difficult | objects.crowd
    counts = np.bincount(objects.category[~difficult], minlength=len(truth.categories))
    by_score = np.lexsort((-found.scores, found.category))
    bounds = np.searchsorted(found.category[by_score], np.arange(len(truth.categories) + 1))
    for category, count in enumerate(counts.tolist()):
        if count:
            rows = by_score[bounds[category] : bounds[category + 1]]
            hits = _hits(nearest[rows], overlap[rows] >= iou, difficult)
            yield _ClassAP(_eleven_points(hits, count), _all_points(hits, count))


def _nearest(found: Detections, objects: Objects, images: int) -> tuple[np.ndarray, np.ndarray]:
    """The object that each detection (N,) overlaps most, the first of equal ones, and the overlap.

    Object 0 with an overlap of 0 if it overlaps none.
    """
    nearest, overlap = np.zeros(len(found.scores), dtype=np.int64), np.zeros(len(found.scores))
    groups = [columns.category * images + columns.image for columns in (found, objects)]
    order, object_order = (np.argsort(group, kind="stable") for group in groups)
    for place, object_place in pairs(groups[0][order], groups[1][object_order]):
        detection, object_ = order[place], object_order[object_place]
        ious = _ious(_corners(found.boxes[detection]), _corners(objects.boxes[object_]))
        meet = ious > 0
        place, object_place = place[meet], object_place[meet]
        detection, object_, ious = detection[meet], object_[meet], ious[meet]
        by_overlap = np.lexsort((-object_place, ious, place))
        best = by_overlap[np.flatnonzero(np.diff(place, append=-1))]
        nearest[detection[best]], overlap[detection[best]] = object_[best], ious[best]
    return nearest, overlap


def _hits(nearest: np.ndarray, near: np.ndarray, difficult: np.ndarray) -> np.ndarray:
    """Whether each detection that counts is a true positive, (M,), for one class by descending score.

    `nearest` (N,) is its nearest object, `near` (N,) whether that is near enough.
    """
    finds = near & ~difficult[nearest]
    rows = np.flatnonzero(finds)
    hits = np.zeros(len(nearest), dtype=bool)
    hits[rows[np.unique(nearest[rows], return_index=True)[1]]] = True
    return hits[finds | ~near]


def _eleven_points(hits: np.ndarray, count: int) -> float:
    """VOC2007's AP of a class with `count` objects."""
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    # Integers, since 3 * 0.1 is above 3 / 10 in floating point, and a recall of exactly 0.3 would miss it.
    best = [precision[10 * found >= tenths * count].max(initial=0.0) for tenths in range(11)]
    return float(sum(best) / 11)


def _all_points(hits: np.ndarray, count: int) -> float:
    """AP of VOC2010 and later: a true positive adds 1 / count of recall at the best precision from there."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / count)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) x1, y1, x2, y2 of COCO's boxes (N, 4)."""
    return np.hstack([boxes[:, :2], boxes[:, 2:] + boxes[:, :2]])


def _ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) overlaps of N boxes with as many others; 0 where two do not overlap."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
