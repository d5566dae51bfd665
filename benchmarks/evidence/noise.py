"""How much of an AP is luck with the test images: AP on images drawn with replacement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nni.nas.space import model_context

from detnas_nni.config import Config
from detnas_nni.evaluation.tasks import DetectionTask, Metrics
from detnas_nni.metrics import coco_box_ap
from detnas_nni.training.tensors import fill
from detnas_nni.training.weights import load_weights
from detnas_nni.util.seeding import generator


def resampled_ap(config: Config, weights: Path, resamples: int) -> tuple[float, list[float]]:
    """AP of a trained detector on the test split, and on resamples of its images.

    The n-th resample has the same images for every net, so that nets can be compared.
    """
    task = _KeepingTask(config, "test")
    found = load_weights(weights)
    with model_context(found.info.architecture.choices):
        net = task.build()
    fill(net, found.state, weights)
    ap = task.measure(net.to(task.device).eval())["default"]
    truth = task.truth
    images = len(task.image_ids)
    values = []
    for number in range(resamples):
        chosen = generator(0, "evidence noise", number).integers(images, size=images)
        ids = [task.image_ids[index] for index in chosen]
        values.append(_ap(truth, task.detections, ids))
    return ap, values


class _KeepingTask(DetectionTask):
    """Measures, and keeps the detections."""

    detections: list[dict[str, Any]]
    image_ids: list[int]

    @property
    def truth(self) -> dict[str, Any]:
        return self._images.ground_truth()

    def _metrics(self, detections: list[dict[str, Any]], image_ids: list[int]) -> Metrics:
        self.detections, self.image_ids = list(detections), list(image_ids)
        return super()._metrics(detections, image_ids)


def _ap(truth: dict[str, Any], detections: list[dict[str, Any]], drawn: list[int]) -> float:
    """AP on the drawn images; one drawn twice counts as two images."""
    boxes: dict[int, list[dict[str, Any]]] = {}
    for box in truth["annotations"]:
        boxes.setdefault(box["image_id"], []).append(box)
    found: dict[int, list[dict[str, Any]]] = {}
    for detection in detections:
        found.setdefault(detection["image_id"], []).append(detection)
    sizes = {image["id"]: image for image in truth["images"]}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    copied: list[dict[str, Any]] = []
    for new, old in enumerate(drawn, start=1):
        images.append({**sizes[old], "id": new})
        annotations += [
            {**box, "id": len(annotations) + 1 + n, "image_id": new}
            for n, box in enumerate(boxes.get(old, []))
        ]
        copied += [{**detection, "image_id": new} for detection in found.get(old, [])]
    content = {**truth, "images": images, "annotations": annotations}
    return coco_box_ap(content, copied)["AP"]
