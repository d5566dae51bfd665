"""COCO's box AP, and top-1.

The reported AP is pycocotools' own. Its Python loops take the better part of a minute for 5,000 images with
100 detections each, and a search needs AP a thousand times: so its fitness is vectorised, following the rules
of `COCOeval` to the last bit. Tests compare the two.
"""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_nni.metrics.boxes import Detections, GroundTruth, Objects, pairs, places_in_run

if TYPE_CHECKING:
    import torch
    from pycocotools.coco import COCO

# COCO's protocol, the defaults of pycocotools' `Params`, in its own floating point.
_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_AREAS = np.array([(0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2)])  # all, small, medium, large
_MOST_DETECTIONS = 100  # of a category in an image

_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

# The outcome of a detection, at one overlap and in one range of areas.
_FALSE, _TRUE, _IGNORED = range(3)


def coco_box_ap(
    ground_truth: Path | str | Mapping[str, Any] | GroundTruth,
    detections: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """COCO's twelve box metrics, equal to pycocotools' and many times as fast.

    Args:
        ground_truth: a COCO annotation file or its content; a `GroundTruth` to measure several times against
            one that is read once.
        detections: COCO results: image_id, category_id, bbox (x, y, width, height), score. May be empty.
        image_ids: the images to count, for a result on a part of the split; all if None.

    Returns:
        AP (IoU 0.50:0.95), AP50, AP75, APs, APm, APl (areas up to 32², up to 96², above), AR1, AR10, AR100
        (by detections of a category in an image), ARs, ARm, ARl; in [0, 1], never rounded, -1 where there is
        no ground truth.

    Raises:
        DataError: the annotation file cannot be read.
        EvaluationError: a detection has a score or a box that is not finite, or an image or category that the
            ground truth lacks; `image_ids` is empty or names an unknown image.
    """
    truth = GroundTruth.of(ground_truth)
    chosen = truth.chosen(image_ids)
    found = truth.detections(detections)
    found, objects = found[chosen[found.image]], truth.objects[chosen[truth.objects.image]]

    # A group is one category in one image: detections and objects are only matched within it.
    group = found.category * truth.images + found.image
    order = np.lexsort((-found.scores, group))
    rank = places_in_run(group[order])
    order, rank = order[rank < _MOST_DETECTIONS], rank[rank < _MOST_DETECTIONS]
    found, group = found[order], group[order]
    object_group = objects.category * truth.images + objects.image
    object_order = np.argsort(object_group, kind="stable")
    objects, object_group = objects[object_order], object_group[object_order]

    ignored = objects.crowd[:, None] | _outside(objects.areas)
    outcomes = _outcomes(found, group, objects, object_group, ignored)
    return _summary(found, rank, outcomes, objects, ignored, len(truth.categories))


def official_coco_box_ap(
    ground_truth: Path | str | Mapping[str, Any] | GroundTruth,
    detections: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """COCO's twelve box metrics by pycocotools' own `COCOeval`: the number to report.

    Arguments, result and errors as for `coco_box_ap`.
    """
    # Imported here: a trial, which only measures fitness, starts without it.
    from pycocotools.cocoeval import COCOeval

    truth = GroundTruth.of(ground_truth)
    chosen = truth.chosen(image_ids)
    truth.detections(detections)  # raises for a broken one
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress and a table
        there = _indexed(truth, _annotations(truth))
        # pycocotools' own loading, which writes into the entries and fails without any.
        found = there.loadRes([dict(entry) for entry in detections]) if detections else _indexed(truth, [])
        evaluation = COCOeval(there, found, "bbox")
        evaluation.params.imgIds = [truth.image_ids[row] for row in np.flatnonzero(chosen)]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(_METRICS, evaluation.stats.tolist(), strict=True))


def _indexed(truth: GroundTruth, annotations: list[dict[str, Any]]) -> "COCO":
    """The images and categories of a ground truth with these annotations."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in truth.image_ids],
        "categories": [{"id": category} for category in truth.categories],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _annotations(truth: GroundTruth) -> list[dict[str, Any]]:
    """The objects as COCO's annotations, numbered from 1: pycocotools takes the id 0 for "unmatched"."""
    objects, images, categories = truth.objects, truth.image_ids, truth.categories
    columns = (objects.image, objects.category, objects.boxes, objects.areas, objects.crowd)
    return [
        {
            "id": number,
            "image_id": images[image],
            "category_id": categories[category],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, (image, category, box, area, crowd) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), start=1
        )
    ]


def top1(logits: "torch.Tensor", labels: "torch.Tensor") -> int:
    """How many of the logits (B, K) are largest at their label (B,)."""
    return int((logits.argmax(dim=1) == labels).sum())


def _outside(areas: np.ndarray) -> np.ndarray:
    """Whether each area (N,) is in none of COCO's ranges, (N, A); a range has both its ends."""
    return (areas[:, None] < _AREAS[:, 0]) | (areas[:, None] > _AREAS[:, 1])


def _outcomes(
    found: Detections, group: np.ndarray, objects: Objects, object_group: np.ndarray, ignored: np.ndarray
) -> np.ndarray:
    """The outcome of each detection in each range of areas at each overlap, (N, A, T) int8.

    Detections are in the order of their groups and by descending score in each, objects in the order of
    theirs; `ignored` (M, A) says which objects do not have to be found. The detections of a group choose one
    after another; groups are independent, so the detections whose turn it is choose together.

    With detections a, b of one image and class and c of another, objects x, y of the first and z of the
    second, first a and c choose: a takes x at all overlaps up to their IoU, c takes z. Then b, which also
    matches x, may take it only at the overlaps at which a has not, and otherwise y, or is a false positive.
    """
    unmatched = np.where(_outside(found.boxes[:, 2] * found.boxes[:, 3]), _IGNORED, _FALSE).astype(np.int8)
    outcomes = np.repeat(unmatched[:, :, None], len(_IOUS), axis=2)
    taken = np.zeros((*ignored.shape, len(_IOUS)), dtype=bool)
    for detection, object_ in pairs(group, object_group):
        overlap = _overlaps(found.boxes[detection], objects.boxes[object_], objects.crowd[object_])
        near = overlap >= _IOUS[0]
        detection, object_, overlap = detection[near], object_[near], overlap[near]
        # By overlap, equal ones in the order given: the last one available to a detection is its best.
        order = np.lexsort((overlap, detection))
        for turn in _turns(detection, group):
            rows = order[turn]
            choosing, its_object, its_overlap = detection[rows], object_[rows], overlap[rows]
            free = ~taken[its_object] | objects.crowd[its_object, None, None]
            free &= its_overlap[:, None, None] >= _IOUS
            row, area, threshold = _choices(choosing, free, ignored[its_object])
            chosen = its_object[row]
            taken[chosen, area, threshold] = True
            outcome = np.where(ignored[chosen, area], _IGNORED, _TRUE)
            outcomes[choosing[row], area, threshold] = outcome
    return outcomes


def _turns(detection: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
    """The rows of the pairs (P,) of each group's first detection, of each one's second, and so on."""
    first = np.flatnonzero(np.diff(detection, prepend=-1))
    turn = np.repeat(places_in_run(group[detection[first]]), np.diff(first, append=len(detection)))
    return np.split(np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn))[:-1])


def _choices(
    detection: np.ndarray, free: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs that detections choose, as indices of pair, range of areas and overlap.

    Args:
        detection: (P,) whose pair it is; those of one are adjacent, the best one last.
        free: (P, A, T) whether the pair can be chosen.
        ignored: (P, A) whether its object is ignored; one that is not takes precedence over all of these.
    """
    count = len(detection)
    preference = np.arange(count)[:, None] + count * ~ignored
    first = np.flatnonzero(np.diff(detection, prepend=-1))
    best = np.maximum.reduceat(np.where(free, preference[:, :, None], -1), first, axis=0)
    row, area, threshold = np.nonzero(best >= 0)
    return best[row, area, threshold] % count, area, threshold


def _overlaps(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of boxes (P, 4) with as many objects; for a crowd, the share of the box that is in it."""
    x, y, width, height = boxes.T
    object_x, object_y, object_width, object_height = objects.T
    shared_width = np.minimum(x + width, object_x + object_width) - np.maximum(x, object_x)
    shared_height = np.minimum(y + height, object_y + object_height) - np.maximum(y, object_y)
    shared = np.maximum(shared_width, 0) * np.maximum(shared_height, 0)
    area = width * height
    union = np.where(crowd, area, area + object_width * object_height - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _summary(
    found: Detections,
    rank: np.ndarray,
    outcomes: np.ndarray,
    objects: Objects,
    ignored: np.ndarray,
    categories: int,
) -> dict[str, float]:
    """The twelve means from the outcomes (N, A, T) of detections that come category by category."""
    # pycocotools' axes, since a mean over them in another order differs in the last bits.
    precision = np.full((len(_IOUS), len(_RECALLS), categories, len(_AREAS)), -1.0)
    recall = np.full((len(_IOUS), categories, len(_AREAS)), -1.0)
    recall_at = {most: np.full((len(_IOUS), categories), -1.0) for most in (1, 10)}
    found_bounds = np.searchsorted(found.category, np.arange(categories + 1))
    object_bounds = np.searchsorted(objects.category, np.arange(categories + 1))
    for category in range(categories):
        rows = slice(*found_bounds[category : category + 2])
        totals = (~ignored[slice(*object_bounds[category : category + 2])]).sum(axis=0)
        if totals[0]:
            for most, values in recall_at.items():
                hits = outcomes[rows, 0][rank[rows] < most] == _TRUE
                values[:, category] = hits.sum(axis=0) / totals[0]
        by_score = outcomes[rows][np.argsort(-found.scores[rows], kind="stable")]
        for area in np.flatnonzero(totals).tolist():
            for threshold, outcome in enumerate(by_score[:, area].T):
                recall[threshold, category, area] = (outcome == _TRUE).sum() / totals[area]
                precision[threshold, :, category, area] = _precisions(outcome, totals[area])
    return {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
        "APs": _mean(precision[..., 1]),
        "APm": _mean(precision[..., 2]),
        "APl": _mean(precision[..., 3]),
        "AR1": _mean(recall_at[1]),
        "AR10": _mean(recall_at[10]),
        "AR100": _mean(recall[..., 0]),
        "ARs": _mean(recall[..., 1]),
        "ARm": _mean(recall[..., 2]),
        "ARl": _mean(recall[..., 3]),
    }


def _precisions(outcome: np.ndarray, total: int) -> np.ndarray:
    """The best precision from each of COCO's recalls on, (101,), for one category's detections by score."""
    # Precision and recall rise only at a true positive.
    hits = np.flatnonzero(outcome == _TRUE)
    counted = np.cumsum(outcome != _IGNORED)[hits]
    found = np.arange(1, len(hits) + 1)
    precision = found / (counted + np.spacing(1))  # COCO's guard against 0 / 0, which affects the last bit
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(found / total, _RECALLS, "left")]


def _mean(values: np.ndarray) -> float:
    """The mean over the defined values; -1 if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else -1.0
