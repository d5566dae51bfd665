"""How long the configured steps take here, measured on a few real ones."""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from nni.nas.space import model_context

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.data.crops import write_crops
from detnas_nni.data.splits import open_detection
from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.evaluation.tasks import DetectionTask
from detnas_nni.models.batchnorm import fold_batch_norm
from detnas_nni.supernet.paths import PathSampler, path_sampler
from detnas_nni.training.distributed import World
from detnas_nni.training.jobs import ClassificationJob, DetectionJob
from detnas_nni.training.loop import train
from detnas_nni.training.runs import TrainingRun
from detnas_nni.util.seeding import derive_seed

IMAGES = 32
"""Images of each split that the measured steps use."""

_WARM_UP = 2  # steps that are not timed, as they allocate memory
_LEAST, _MOST = 3, 20  # steps that are timed
_SECONDS = 10.0  # after which timing ends, if there are enough steps
_CANDIDATES = 2
_BATCHES = 2  # of calibration, per candidate


@dataclass(frozen=True)
class TrainingPace:
    """A training's seconds until its first step, seconds per step, and number of timed steps."""

    start: float
    step: float
    steps: int


@dataclass(frozen=True)
class Speeds:
    """Seconds, each measured on this machine with the configured net, image size and batch.

    Attributes:
        start: until a command has imported its packages.
        crop: to cut the crops of an image; 0 without crops.
        pretrain: None without a pre-training.
        finetune: of the supernet; the final net's steps are assumed to be as long.
        decode: to decode an image for all candidates.
        build: to build a candidate's net.
        calibrate: per image of a candidate's calibration.
        detect: per image of a candidate's evaluation.
        images: number of images used of each split.
        took: for the whole measurement.
    """

    start: float
    crop: float
    pretrain: TrainingPace | None
    finetune: TrainingPace
    decode: float
    build: float
    calibrate: float
    detect: float
    images: int
    took: float


Clock = Callable[[], float]
"""Returns seconds: wall-clock or processor time."""


def measure(
    config: Config, *, crops: bool, net: Architecture | None = None, clock: Clock = time.perf_counter
) -> Speeds:
    """Run a few real steps of the configured trainings and parts of a candidate's evaluation.

    Files go to a temporary folder, which is removed. The nets are untrained: a trained detector proposes
    other boxes, which changes a step's time a little. With several devices one is measured, with its share of
    a batch.

    Args:
        config: the experiment.
        crops: whether it pre-trains on crops; some are then cut for the measurement.
        net: trained alone, without a supernet; None for a supernet's paths.
        clock: what measures; `time.process_time` if other programs share the cores.
    """
    began = clock()
    with tempfile.TemporaryDirectory(prefix="detnas-init-") as folder, quiet():
        short = on_one_device(config, Path(folder))
        crop = 0.0
        if crops:
            short, crop = _with_crops(short, Path(folder) / "crops", clock)
        pretrain = None
        if short.data.classification is not None:
            job = TimedClassification(short, short.pretrain, clock=clock)
            pretrain = timed(job, Path(folder) / "pretrain", path_sampler(short, "pretrain"))
        job = TimedDetection(short, short.finetune, clock=clock)
        finetune = timed(job, Path(folder) / "finetune", net or path_sampler(short, "finetune"))
        decode, build, calibrate, detect = _candidate(short, Path(folder) / "decoded", clock)
    return Speeds(
        start=start_up(),
        crop=crop,
        pretrain=pretrain,
        finetune=finetune,
        decode=decode,
        build=build,
        calibrate=calibrate,
        detect=detect,
        images=IMAGES,
        took=clock() - began,
    )


class _EnoughError(Exception):
    """Ends a training whose steps are timed."""


class _Timed:
    """A job that notes when each step begins, and ends its training when enough have passed."""

    def __init__(self, *args: Any, clock: Clock = time.perf_counter) -> None:
        super().__init__(*args)
        self._clock = clock
        self.made = clock()
        self.began: list[float] = []

    def losses(self, *args: Any) -> dict[str, torch.Tensor]:
        self.began.append(self._clock())
        counted = len(self.began) - 1 - _WARM_UP
        if counted >= _MOST or (counted >= _LEAST and self.began[-1] - self.began[_WARM_UP] > _SECONDS):
            raise _EnoughError
        return super().losses(*args)


class TimedClassification(_Timed, ClassificationJob):
    """A classifier's training, to be timed."""


class TimedDetection(_Timed, DetectionJob):
    """A detector's training, to be timed."""


def timed(
    job: TimedClassification | TimedDetection, folder: Path, net: PathSampler | Architecture
) -> TrainingPace:
    """Run a few real steps of a training: of a supernet's paths, or of a single net."""
    try:
        train(job, TrainingRun(folder, "timing"), World(), net=net)
    except _EnoughError:
        pass
    else:
        raise AssertionError(f"the timed training ended by itself after {len(job.began)} steps")
    counted = job.began[_WARM_UP:]
    # Paths differ in cost, so the mean is what many steps will take.
    steps = len(counted) - 1
    return TrainingPace(job.began[0] - job.made, (counted[-1] - counted[0]) / steps, steps)


def on_one_device(config: Config, folder: Path) -> Config:
    """The config on one device and few images, with trainings that write neither logs nor checkpoints."""
    devices, steps = config.hardware.devices, _WARM_UP + _MOST + 2

    def share(training: Any, **changes: Any) -> Any:
        # The timed steps reach neither a checkpoint nor the end of the learning rate's schedule.
        every = {"log_every": 10**6, "checkpoint_every": 10**6, "steps": steps}
        return training.model_copy(update={**every, "batch_size": training.batch_size // devices, **changes})

    return config.model_copy(
        update={
            "run_dir": folder,
            "pretrain_dir": None,
            "finetune_dir": None,
            "data": config.data.model_copy(update={"max_images": IMAGES}),
            "pretrain": share(config.pretrain),
            "finetune": share(config.finetune, init="scratch", weights=None),
            "hardware": config.hardware.model_copy(update={"devices": 1}),
        }
    )


def _with_crops(config: Config, out: Path, clock: Clock) -> tuple[Config, float]:
    """The config with crops of its first images, and the seconds per image for cutting them."""
    images = open_detection(config.data.detection, config.seed, IMAGES).train
    began = clock()
    write_crops(images, out, seed=config.seed)
    seconds = (clock() - began) / len(images)
    classification = config.data.classification.model_copy(update={"train": out, "holdout": 1})
    data = config.data.model_copy(update={"classification": classification})
    return config.model_copy(update={"data": data}), seconds


def _candidate(config: Config, folder: Path, clock: Clock) -> tuple[float, float, float, float]:
    """Seconds to decode an image, to build a candidate's net, and per calibration and per test image."""
    task = DetectionTask(config)
    batch = min(config.evaluation.calibration_batch_size, task.training_images)
    calibration = batch, _BATCHES, derive_seed(config.seed, "calibration")
    decoded = min(batch * _BATCHES, task.training_images) + task.measured_images
    began = clock()
    task.keep_decoded(folder, calibration)
    decode = (clock() - began) / decoded
    sampler = path_sampler(config, "finetune")
    times: list[tuple[float, float, float]] = []
    for number in range(_CANDIDATES + 1):  # the first warms up
        marks = [clock()]
        with model_context(sampler.path(number).choices):
            net = task.build()
        net.to(task.device).eval()
        marks.append(_now(task.device, clock))
        recalibrate(net, task.training_batches(*calibration), task.calibrate, None)
        marks.append(_now(task.device, clock))
        fold_batch_norm(net)
        task.measure(net)
        marks.append(_now(task.device, clock))
        times.append(tuple(b - a for a, b in pairwise(marks)))
    build, calibrate, detect = (statistics.mean(parts) for parts in zip(*times[1:], strict=True))
    return decode, build, calibrate / (batch * _BATCHES), detect / task.measured_images


def _now(device: torch.device, clock: Clock) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


def start_up() -> float:
    """Seconds until a command's process has imported its packages."""
    began = time.perf_counter()
    code = (
        "from detnas_nni.util.imports import import_at_once; import_at_once(); "
        "import detnas_nni.supernet.steps"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    return time.perf_counter() - began


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the log of trainings and searches: it would not be about this experiment's own steps."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
