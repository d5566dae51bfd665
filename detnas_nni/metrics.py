"""What a net is judged by: COCO's box AP and top-1; VOC's mAP is in `voc_metric.py`."""

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnas_nni.data.files import read_json_object
from detnas_nni.errors import EvaluationError

if TYPE_CHECKING:
    import torch

# pycocotools' COCOeval.stats in its own order.
_COCO_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def coco_box_ap(
    ground_truth: Path | str | Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """COCO's twelve box metrics, computed by pycocotools.

    Args:
        ground_truth: a COCO annotation file or its content.
        detections: COCO results: image_id, category_id, bbox (x, y, width, height), score. May be empty.
        image_ids: the images to count, for a result on a part of the split; all if None.

    Returns:
        AP (IoU 0.50:0.95), AP50, AP75, APs, APm, APl (areas below 32², below 96², above), AR1, AR10, AR100
        (by detections an image), ARs, ARm, ARl; in [0, 1], never rounded, -1 where there is no ground truth.

    Raises:
        DataError: the annotation file cannot be read.
        EvaluationError: a detection has a score or a box that is not finite, or an image or category that the
            ground truth lacks; `image_ids` is empty or names an unknown image.
    """
    from pycocotools.cocoeval import COCOeval

    ground_truth, chosen = checked_input(ground_truth, detections, image_ids)
    truth = _index(ground_truth, [_truth_entry(entry) for entry in ground_truth["annotations"]])
    results = _index(ground_truth, [_result_entry(entry) for entry in detections])
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints tables and timings
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.params.imgIds = sorted(chosen)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {key: float(value) for key, value in zip(_COCO_KEYS, evaluation.stats, strict=True)}


def top1(logits: "torch.Tensor", labels: "torch.Tensor") -> int:
    """How many of the logits (B, K) are largest at their label (B,)."""
    return int((logits.argmax(dim=1) == labels).sum())


def checked_input(
    ground_truth: Path | str | Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None,
) -> tuple[Mapping[str, Any], set[int]]:
    """The ground truth's content and the images to count; arguments and errors as of `coco_box_ap`."""
    if not isinstance(ground_truth, Mapping):
        ground_truth = read_json_object(Path(ground_truth), ("images", "annotations", "categories"))
    known_images = {image["id"] for image in ground_truth["images"]}
    known_categories = {category["id"] for category in ground_truth["categories"]}
    chosen = known_images if image_ids is None else set(image_ids)
    if not chosen or not chosen <= known_images:
        unknown = sorted(chosen - known_images)[:5]
        raise EvaluationError(
            f"the images to evaluate on are empty or unknown to the ground truth: {unknown}"
        )
    for position, detection in enumerate(detections):
        _check(position, detection, known_images, known_categories)
    return ground_truth, chosen


def _check(position: int, detection: Mapping[str, Any], images: set[int], categories: set[int]) -> None:
    if detection["image_id"] not in images:
        raise EvaluationError(
            f"detections[{position}].image_id {detection['image_id']} is not in the ground truth"
        )
    if detection["category_id"] not in categories:
        raise EvaluationError(
            f"detections[{position}].category_id {detection['category_id']} is not in the ground truth; "
            f"expected one of {sorted(categories)[:20]}"
        )
    if not math.isfinite(detection["score"]) or not all(map(math.isfinite, detection["bbox"])):
        raise EvaluationError(
            f"detections[{position}] has the score {detection['score']} and the box "
            f"{list(detection['bbox'])}, expected finite numbers: the net's outputs have overflowed "
            "or its statistics are broken"
        )


def _truth_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A copy, since pycocotools writes into what it is given, with the optional keys filled in."""
    return {
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "bbox": entry["bbox"],
        "area": entry.get("area", entry["bbox"][2] * entry["bbox"][3]),
        "iscrowd": entry.get("iscrowd", 0),
    }


def _result_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What pycocotools' `loadRes` makes of a detection; it fails on an empty list, so it is not used."""
    box = list(entry["bbox"])
    return {
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "bbox": box,
        "area": box[2] * box[3],
        "score": entry["score"],
        "iscrowd": 0,
    }


def _index(ground_truth: Mapping[str, Any], annotations: list[dict[str, Any]]) -> Any:
    """pycocotools' index of `annotations`, numbered from 1: it takes the id 0 for "unmatched"."""
    from pycocotools.coco import COCO

    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    index = COCO()
    index.dataset = {
        "images": list(ground_truth["images"]),
        "categories": list(ground_truth["categories"]),
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index
