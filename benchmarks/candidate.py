"""What a candidate costs compared with the bare forward passes that it needs.

    python benchmarks/candidate.py -c experiments/quickstart/detnas.yaml

needs the experiment's trained detection supernet and prints one JSON object; on the quickstart it takes a few
minutes. Three things are timed in turn, candidate by candidate, on the same images, threads and precision:

- `floor`: only the fixed net's passes, on batches that are decoded, resized and padded in memory: in train
  mode over the calibration images up to the last BN, then in eval mode over the search split, up to the box
  head's outputs; `floor_channels_last` the same in the memory layout that ours uses;
- `ours`: `CandidateEvaluation.evaluate` as a search calls it: it builds the net, inherits weights, takes the
  images from the search's decoded ones, resizes, recalibrates, folds BN, detects, and measures AP;
- `paper`: the paper's protocol as in its authors' code: 500 calibration batches of 8 with the losses
  computed, images decoded each time, BN not folded, AP by pycocotools.

Seconds are CPU time on a CPU, which other processes disturb less, and wall-clock time on a GPU. `parts` says
where our time goes, from one more evaluation of each candidate, with a timer around each part.
"""

import argparse
import contextlib
import io
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.models.detection import FasterRCNN

from detnas_nni.architecture import Architecture
from detnas_nni.config.reading import load_config
from detnas_nni.cost.limits import feasible_set
from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.models.batchnorm import fold_batch_norm
from detnas_nni.models.detector import _proposals, _up_to_the_last_norm
from detnas_nni.search.strategies import Proposer
from detnas_nni.util.seeding import generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-c", "--config", required=True, help="the experiment's YAML")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--candidates", type=int, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--iterations", type=int, default=500, metavar="N", help="of the paper's protocol; 0 skips it"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(options.config, options.overrides)
    with tempfile.TemporaryDirectory(dir=config.run_dir) as folder:
        ours = CandidateEvaluation(config, decoded=Path(folder))
        plain = CandidateEvaluation(config)
        chosen = candidates(ours, options.candidates, options.seed)
        first = ours.evaluate(chosen[0])  # decodes the images for all, and warms up torch
        batches = _Resized(ours, chosen[0])
        rows = []
        for candidate in chosen:
            row = {
                "candidate": str(candidate),
                "floor": _floor(ours, candidate, batches, torch.contiguous_format),
                "floor_channels_last": _floor(ours, candidate, batches, torch.channels_last),
            }
            row["ours"] = seconds_of(lambda candidate=candidate: ours.evaluate(candidate))
            if options.iterations:
                row["paper"] = seconds_of(
                    lambda candidate=candidate: thorough(plain, candidate, options.iterations, seed=0)
                )
            row["parts"] = _parts(ours, candidate)
            rows.append(row)
    ratios = {
        "ours_over_floor": _median(row["ours"] / row["floor"] for row in rows),
        "ours_over_floor_channels_last": _median(row["ours"] / row["floor_channels_last"] for row in rows),
        "paper_over_ours": None
        if not options.iterations
        else _median(row["paper"] / row["ours"] for row in rows),
    }
    shares = {
        part: _median(row["parts"][part] / sum(row["parts"].values()) for row in rows)
        for part in rows[0]["parts"]
    }
    print(
        json.dumps(
            {
                **ratios,
                "shares": shares,
                "first_candidate_seconds": first.seconds,
                "device": str(ours.task.device),
                "threads": torch.get_num_threads(),
                "candidates": rows,
            },
            indent=2,
        )
    )


def candidates(evaluation: CandidateEvaluation, count: int, seed: int) -> list[Architecture]:
    """Random ones within the config's constraint."""
    feasible = feasible_set(evaluation.config)
    proposer = Proposer(evaluation.config.space.name, feasible, generator(seed, "benchmark"))
    return [Architecture(evaluation.config.space.name, proposer.random()) for _ in range(count)]


def seconds_of(run: Callable[[], Any]) -> float:
    """CPU seconds of all threads; wall-clock seconds on a GPU."""
    started = _now()
    run()
    return _now() - started


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


class _Resized:
    """The batches of the calibration and of the search split as the backbone takes them, in memory."""

    def __init__(self, evaluation: CandidateEvaluation, candidate: Architecture) -> None:
        task = evaluation.task
        detector = evaluation.net(candidate).detector
        steps = evaluation._calibration(evaluation.config.search_seed)
        self.calibration = [detector.transform(*batch) for batch in task.training_batches(*steps)]
        self.measured = [detector.transform(images)[0] for (images, _), _ in task._batches_with_reports()]


@torch.no_grad()
def _floor(
    evaluation: CandidateEvaluation, candidate: Architecture, batches: _Resized, layout: torch.memory_format
) -> float:
    detector = evaluation.net(candidate).to(memory_format=layout).detector
    roi_heads = getattr(detector, "roi_heads", None)

    def calibrate() -> None:
        for images, targets in batches.calibration:
            features = detector.backbone(images.tensors)
            if roi_heads is not None:
                proposals = _proposals(detector.rpn, images, list(features.values()))
                proposals = roi_heads.select_training_samples(proposals, targets)[0]
                _up_to_the_last_norm(roi_heads.box_head)(
                    roi_heads.box_roi_pool(features, proposals, images.image_sizes)
                )

    def detect() -> None:
        for images in batches.measured:
            features = detector.backbone(images.tensors)
            if isinstance(detector, FasterRCNN):
                proposals = _proposals(detector.rpn, images, list(features.values()))
                pooled = roi_heads.box_roi_pool(features, proposals, images.image_sizes)
                roi_heads.box_predictor(roi_heads.box_head(pooled))
            else:
                detector.head(list(features.values()))

    detector.train()
    seconds = seconds_of(calibrate)
    detector.eval()
    return seconds + seconds_of(detect)


def thorough(evaluation: CandidateEvaluation, candidate: Architecture, iterations: int, seed: int) -> float:
    """AP by the paper's protocol, with statistics as plain means over this many batches of 8."""
    task = evaluation.task
    net = evaluation.net(candidate)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        recalibrate(net, task.training_batches(8, iterations, seed), task.loss)
    found: list[dict[str, Any]] = []
    with torch.no_grad():
        for (batch, targets), _ in task._batches_with_reports():
            for target, output in zip(targets, net(batch), strict=True):
                arrays = (output[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
                found += task._images.to_coco_detections(int(target["image_id"]), *arrays)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = task._images.ground_truth()
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


def _parts(evaluation: CandidateEvaluation, candidate: Architecture) -> dict[str, float]:
    """An evaluation step by step, with the seconds of each step."""
    task, seed = evaluation.task, evaluation.config.search_seed
    seconds = dict.fromkeys(("build and inherit", "read", "resize", "calibrate", "detect", "metric"), 0.0)

    @contextlib.contextmanager
    def timed(part: str) -> Iterator[None]:
        started = _now()
        yield
        seconds[part] += _now() - started

    def each(batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            with timed("read"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    with timed("build and inherit"):
        net = evaluation.net(candidate).to(memory_format=torch.channels_last)
    _time_calls(net.detector.transform, lambda: timed("resize"))
    batches = each(iter(task.training_batches(*evaluation._calibration(seed))))
    with timed("calibrate"):
        recalibrate(net, batches, task.calibrate, evaluation.config.evaluation.calibration_momentum)
        fold_batch_norm(net)
    plain = task._metrics

    def measured(*arguments: Any) -> dict[str, float]:
        with timed("metric"):
            return plain(*arguments)

    whole = dict(seconds)
    task._metrics = measured
    original = task._batches_with_reports
    task._batches_with_reports = lambda: each(original())
    try:
        with timed("detect"):
            task.measure(net)
    finally:
        del task._metrics, task._batches_with_reports
    # Inner parts are not counted twice.
    seconds["calibrate"] -= whole["read"] + whole["resize"]
    within = sum(seconds[part] - whole[part] for part in ("read", "resize", "metric"))
    seconds["detect"] -= within
    return seconds


def _time_calls(module: nn.Module, timer: Callable[[], Any]) -> None:
    forward = module.forward

    def timed(*arguments: Any, **named: Any) -> Any:
        with timer():
            return forward(*arguments, **named)

    module.forward = timed


if __name__ == "__main__":
    main()
