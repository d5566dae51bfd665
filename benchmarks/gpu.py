"""On a GPU at COCO's size: a supernet's step and a candidate, and how far both are from plain torch.

    python benchmarks/gpu.py

needs a GPU and prints one JSON object. For each space:

- `step`: milliseconds of detection training at 800x1066, batches in memory: `supernet` is ours, under NNI's
  one-shot strategy; `by_hand` a plain loop over the same paths; `fixed` our training of one net, and
  `fixed_by_hand` a plain loop over that net, without a supernet around it. The ratios are of medians, from
  trainings that ran one after the other; `kernels` is the GPU's share of the time (torch's profiler);
- `candidate`: a candidate's calibration and detection, images per second, in the precision and memory layout
  named; images are in memory, decoded, 640x480 before they are resized. `seconds` extrapolates to the
  paper's 4,000 calibration images and 5,000 measured ones, without AP.

Weights are random, those of the last classifier 20 times as large: about 1,400 boxes per image then have a
sufficient score, and each image has its 100 detections, as in a picture full of objects.
"""

import argparse
import contextlib
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from nni.nas.space import model_context
from supernet_step import InMemory, OneOf
from torch import Tensor, nn
from torch.optim import SGD

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config, Data, Detector, Finetune, Hardware, Space
from detnas_nni.models import DetectorSpace
from detnas_nni.models.batchnorm import fold_batch_norm
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.training import loop
from detnas_nni.training.distributed import World
from detnas_nni.training.jobs import DetectionJob
from detnas_nni.training.runs import TrainingRun
from search_spaces.trunk import layer_choices

_CLASSES = 80
_BATCHES = 4
_CALIBRATED, _MEASURED = 4000, 5000  # images of the paper's protocol
_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--spaces", nargs="+", default=["small", "large"])
    parser.add_argument("--precisions", nargs="+", choices=_PRECISIONS, default=list(_PRECISIONS))
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="of the training")
    parser.add_argument("--steps", type=int, default=20, metavar="N")
    parser.add_argument("--warm-up", type=int, default=10, metavar="STEPS", help="that do not count")
    parser.add_argument("--only", nargs="+", choices=("step", "candidate"), default=["step", "candidate"])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    figures: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "options": vars(options),
    }
    for space in options.spaces:
        for precision in options.precisions:
            figures[f"{space} {precision}"] = {
                part: measure(space, precision, options)
                for part, measure in (("step", step), ("candidate", candidate))
                if part in options.only
            }
            print(space, precision, figures[f"{space} {precision}"], file=sys.stderr, flush=True)
    print(json.dumps(figures, indent=2))


class Clocked:
    """Batches from memory, and the time in seconds when each was requested, with the GPU idle."""

    def __init__(self, batch_size: int, count: int) -> None:
        random = torch.Generator().manual_seed(0)
        self._batches = [_batch(batch_size, random, (800, 1066)) for _ in range(_BATCHES)]
        self._count = count
        self.times: list[float] = []

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        for number in range(self._count):
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())
            yield self._batches[number % _BATCHES]

    def milliseconds(self, warm_up: int) -> float:
        """Median of a step."""
        return 1e3 * statistics.median(b - a for a, b in pairwise(self.times[warm_up:]))


class _Job(InMemory, DetectionJob):
    number_of_classes = _CLASSES


def step(space: str, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    count = options.warm_up + options.steps + 1
    sampler = PathSampler(space, seed=0)
    fixed = sampler.path(0)
    runs: dict[str, Callable[[Clocked], None]] = {
        "supernet": lambda batches: _ours(space, precision, batches, sampler),
        "by_hand": lambda batches: _by_hand(space, precision, batches, sampler),
        "fixed": lambda batches: _ours(space, precision, batches, fixed),
        "fixed_by_hand": lambda batches: _by_hand(space, precision, batches, fixed),
        "fixed_channels_last": lambda batches: _by_hand(
            space, precision, batches, fixed, layout=torch.channels_last
        ),
        "fixed_fused": lambda batches: _by_hand(space, precision, batches, fixed, fused=True),
    }
    milliseconds, memory = {}, {}
    for name, run in runs.items():
        batches = Clocked(options.batch_size, count)
        torch.cuda.reset_peak_memory_stats()
        run(batches)
        milliseconds[name] = batches.milliseconds(options.warm_up)
        memory[name] = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.empty_cache()
    profiled = Clocked(options.batch_size, 5)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        _ours(space, precision, profiled, fixed)
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e3 / len(profiled)
    return {
        "milliseconds": milliseconds,
        "images_a_second": options.batch_size * 1e3 / milliseconds["supernet"],
        "supernet_over_by_hand": milliseconds["supernet"] / milliseconds["by_hand"],
        "fixed_over_by_hand": milliseconds["fixed"] / milliseconds["fixed_by_hand"],
        "kernels": busy / milliseconds["fixed"],
        "gigabytes": memory,
    }


def _job(space: str, precision: str, batches: Clocked) -> _Job:
    config = Config(
        run_dir=Path(),
        space=Space(name=space),
        data=Data(),
        detector=Detector(min_size=800, max_size=1333),
        finetune=Finetune(steps=len(batches), lr=1e-4, init="scratch", log_every=50, checkpoint_every=10**9),
        hardware=Hardware(device="cuda", precision=precision),
    )
    return _Job(config, config.finetune, batches)


def _ours(space: str, precision: str, batches: Clocked, net: PathSampler | Architecture) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = _job(space, precision, batches)
        loop.train(job, TrainingRun(Path(folder), "benchmark"), World(), net=net)


def _by_hand(
    space: str,
    precision: str,
    batches: Clocked,
    net: PathSampler | Architecture,
    *,
    layout: torch.memory_format = torch.contiguous_format,
    fused: bool = False,
) -> None:
    """What an engineer would write."""
    job = _job(space, precision, batches)
    blocks: dict[str, OneOf] = {}
    if isinstance(net, PathSampler):
        model = job.build()
        for name, choice in layer_choices(model, space).items():
            blocks[choice.label] = OneOf((str(key), choice[key]) for key in choice.names)
            model.set_submodule(name, blocks[choice.label])
    else:
        with model_context(net.choices):
            model = job.build()
    model = model.cuda().to(memory_format=layout).train()
    optimizer = SGD(job.parameter_groups(model), lr=1e-4, momentum=0.9, fused=fused)
    for number, batch in enumerate(batches):
        if isinstance(net, PathSampler):
            for label, drawn in net.path(number).choices.items():
                blocks[label].drawn = str(drawn)
        with _autocast(precision):
            loss = sum(job.losses(model, _on_gpu(batch)).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def candidate(space: str, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    batches = [_batch(8, random, (480, 640)) for _ in range(_BATCHES)]
    figures = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        net = _net(space).cuda().to(memory_format=layout)
        net.train()
        calibrated = _images_a_second(lambda batch, net=net: net.calibration_pass(*batch), batches, precision)
        with torch.no_grad():
            for batch in batches:
                net.calibration_pass(*_on_gpu(batch))
        net.eval()
        fold_batch_norm(net)
        found: list[int] = []

        def detect(batch: Any, net: nn.Module = net, found: list[int] = found) -> None:
            for output in net(batch[0]):
                found.append(len(output["scores"].cpu().numpy()))

        detected = _images_a_second(detect, batches, precision)
        figures[name] = {
            "calibration_images_a_second": calibrated,
            "detection_images_a_second": detected,
            "seconds": _CALIBRATED / calibrated + _MEASURED / detected,
            "detections_an_image": statistics.fmean(found),
            "kernels": _share_in_kernels(detect, batches[0], precision),
        }
    return figures


def _net(space: str) -> DetectorSpace:
    path = PathSampler(space, seed=0).path(0)
    with model_context(path.choices):
        net = DetectorSpace(space, _CLASSES, Detector(min_size=800, max_size=1333))
    net.detector.roi_heads.box_predictor.cls_score.weight.data *= 20
    return net


@torch.no_grad()
def _images_a_second(run: Callable[[Any], None], batches: list[Any], precision: str) -> float:
    seconds = []
    with _autocast(precision):
        for number in range(12):
            batch = batches[number % len(batches)]
            torch.cuda.synchronize()
            started = time.perf_counter()
            run(_on_gpu(batch))
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return len(batches[0][0]) / statistics.median(seconds[4:])


@torch.no_grad()
def _share_in_kernels(run: Callable[[Any], None], batch: Any, precision: str) -> float:
    with (
        _autocast(precision),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile,
    ):
        started = time.perf_counter()
        run(_on_gpu(batch))
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / seconds


def _autocast(precision: str) -> contextlib.AbstractContextManager[None]:
    dtype = _PRECISIONS[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast("cuda", dtype)


def _batch(
    count: int, random: torch.Generator, size: tuple[int, int]
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images in memory that the GPU can fetch itself, with seven boxes each, COCO's average."""
    images, targets = [], []
    high, wide = size
    for _ in range(count):
        corners = torch.rand(7, 2, generator=random) * torch.tensor([wide, high]) * 0.6
        sides = 8 + torch.rand(7, 2, generator=random) * torch.tensor([wide, high]) * 0.35
        labels = torch.randint(1, _CLASSES + 1, (7,), generator=random)
        images.append((255 * torch.rand(3, high, wide, generator=random)).pin_memory())
        targets.append({"boxes": torch.cat((corners, corners + sides), dim=1), "labels": labels})
    return images, targets


def _on_gpu(batch: Any) -> Any:
    images, targets = batch
    return (
        [image.cuda(non_blocking=True) for image in images],
        [{key: value.cuda(non_blocking=True) for key, value in target.items()} for target in targets],
    )


if __name__ == "__main__":
    main()
