"""What COCO's box AP costs: ours next to pycocotools', on one scene, and how ours grows.

    python benchmarks/ap.py --images 5000 --detections 100

takes three minutes and prints one JSON object. Seconds are CPU time, medians over the repeats, each in a
separate process, the two alternating; they cover everything from the lists of dicts to the twelve numbers,
including the index of the ground truth. Memory is the process's peak growth. The scene has COCO's
proportions: 80 categories, about 7 objects per image from 3 categories, 1 in 100 a crowd, and detections,
half of which are near an object.
"""

import argparse
import contextlib
import copy
import io
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from detnas_nni.metrics import GroundTruth, coco_box_ap

_CATEGORIES = np.delete(np.arange(1, 91), [11, 25, 28, 29, 44, 65, 67, 68, 70, 82])
_CROWDS = 0.01
_SIDES = (8, 300)
_SIZE = 640

Entries = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=5000, metavar="N")
    parser.add_argument("--detections", type=int, default=100, metavar="N", help="in each image")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    truth, found = scene(options.images, options.detections, options.seed)
    reference: list[dict[str, float]] = []
    ours: list[dict[str, float]] = []
    for _ in range(options.repeats):
        reference.append(alone(partial(by_pycocotools, truth, found)))
        ours.append(alone(partial(coco_box_ap, truth, found)))
    indexing = [alone(partial(_index, truth)) for _ in range(options.repeats)]
    reference_seconds, our_seconds = (_median(runs, "seconds") for runs in (reference, ours))
    print(
        json.dumps(
            {
                "images": options.images,
                "objects": len(truth["annotations"]),
                "detections": len(found),
                "pycocotools_seconds": reference_seconds,
                "ours_seconds": our_seconds,
                "ratio": reference_seconds / our_seconds,
                "largest_difference": max(
                    abs(reference[0]["result"][key] - value) for key, value in ours[0]["result"].items()
                ),
                "of_it_index_seconds": _median(indexing, "seconds"),
                "pycocotools_megabytes": _median(reference, "megabytes"),
                "ours_megabytes": _median(ours, "megabytes"),
                "metrics": ours[0]["result"],
                "growth": growth(options.images, options.detections, options.repeats, options.seed),
            },
            indent=2,
        )
    )


def growth(images: int, detections: int, repeats: int, seed: int) -> list[dict[str, float]]:
    """Our seconds and memory for parts of the images, and for parts and a multiple of the detections."""
    rows = []
    sizes = [(images // part, detections) for part in (8, 4, 2, 1)]
    sizes += [(images, detections * times // 10) for times in (1, 3, 30)]
    for some_images, some_detections in sizes:
        truth, found = scene(some_images, some_detections, seed)
        runs = [alone(partial(coco_box_ap, truth, found)) for _ in range(repeats)]
        rows.append(
            {
                "images": some_images,
                "detections_an_image": some_detections,
                "seconds": _median(runs, "seconds"),
                "megabytes": _median(runs, "megabytes"),
            }
        )
    return rows


def scene(images: int, detections: int, seed: int) -> tuple[dict[str, Any], Entries]:
    """A ground truth and results for it."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [{"id": 7 * number + 3} for number in range(images)],
        "categories": [{"id": category, "name": str(category)} for category in _CATEGORIES.tolist()],
        "annotations": [],
    }
    found: Entries = []
    for image in truth["images"]:
        present = rng.choice(_CATEGORIES, 3)
        count = min(int(rng.geometric(1 / 8.3)) - 1, 90)
        objects, categories = _random_boxes(rng, count), rng.choice(present, count)
        fill, crowd = rng.uniform(0.4, 0.9, count), rng.random(count) < _CROWDS
        for row, box in enumerate(objects.tolist()):
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": int(categories[row]),
                    "bbox": box,
                    "area": box[2] * box[3] * float(fill[row]),
                    "iscrowd": int(crowd[row]),
                }
            )
        boxes = _random_boxes(rng, detections)
        labels = np.where(
            rng.random(detections) < 0.6, rng.choice(present, detections), rng.choice(_CATEGORIES, detections)
        )
        near = rng.random(detections) < (0.5 if count else 0)
        if count:
            nearest = rng.integers(0, count, detections)
            moved = (
                objects[nearest] + rng.normal(0, 0.12, (detections, 4)) * objects[nearest][:, [2, 3, 2, 3]]
            )
            moved[:, 2:] = np.abs(moved[:, 2:]) + 1
            boxes[near], labels[near] = moved[near], categories[nearest][near]
        scores = rng.beta(1, 4, detections) + 0.2 * near * rng.random(detections)
        found += [
            {"image_id": image["id"], "category_id": label, "bbox": box, "score": score}
            for label, box, score in zip(labels.tolist(), boxes.tolist(), scores.tolist(), strict=True)
        ]
    return truth, found


def by_pycocotools(truth: dict[str, Any], found: Entries) -> dict[str, float]:
    """The twelve numbers by pycocotools' own loading and evaluation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.copy(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    keys = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    return dict(zip(keys, map(float, evaluation.stats), strict=True))


def alone(function: Callable[[], Any]) -> dict[str, Any]:
    """The result, the CPU seconds and the growth in memory of a call in a separate process.

    It is forked: the scene need not be sent, and what a call writes into it is lost.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function))
    process.start()
    sender.close()
    outcome = receiver.recv()
    process.join()
    return outcome


def _send(sender: Any, function: Callable[[], Any]) -> None:
    before, started = _peak_megabytes(), time.process_time()
    result = function()
    seconds = time.process_time() - started
    sender.send({"result": result, "seconds": seconds, "megabytes": _peak_megabytes() - before})


def _index(truth: dict[str, Any]) -> None:
    GroundTruth(truth)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, _SIZE - _SIDES[1], (count, 2))
    return np.hstack([corners, np.exp(rng.uniform(*np.log(_SIDES), (count, 2)))])


def _median(runs: list[dict[str, float]], key: str) -> float:
    return round(statistics.median(run[key] for run in runs), 4)


if __name__ == "__main__":
    main()
