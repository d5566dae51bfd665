"""The trainings of an audit, in parallel: each a `detnas retrain` in its own process and folder.

GPUs are assigned in turn, CPU cores are divided.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Architecture
from detnas_nni.audit.journal import NetTraining, Trained
from detnas_nni.config import Config, Hardware
from detnas_nni.config.reading import to_yaml
from detnas_nni.config.run_folder import (
    NET_ARCHITECTURE,
    NET_CONFIG,
    NET_LOG,
    finetune_folder,
    pretrain_folder,
    results_beside,
)
from detnas_nni.errors import UsageError
from detnas_nni.finished.results import final_result
from detnas_nni.finished.retrain import folder_name
from detnas_nni.models.hardware import uses_gpu
from detnas_nni.util.processes import die_with_parent

_LOOK_EVERY = 0.2  # seconds
_GRACE = 120.0  # seconds that a training has to finish its step and save it
_ERROR = "detnas: error: "
_LONGEST = 500  # characters of an error


@dataclass(frozen=True)
class Place:
    """Where one training at a time runs.

    Attributes:
        environment: variables of its processes, such as those for their GPUs.
    """

    environment: Mapping[str, str]


@dataclass(frozen=True)
class TrainingPlaces:
    """Attributes:
    all: one for each training that runs in parallel.
    threads: torch's in each, if the config does not set them; None leaves them to torch.
    at_a_time: how many trainings progress as fast as one alone.
    """

    all: tuple[Place, ...]
    threads: int | None
    at_a_time: int


def places(hardware: Hardware, jobs: int) -> TrainingPlaces:
    """Places for this many trainings on this machine.

    Each training has `hardware.devices` GPUs; single ones are shared if there are more jobs than GPUs. CPU
    cores are divided among the jobs, unless the config sets how many threads each takes.

    Raises:
        UsageError: trainings on several GPUs each would have to share them.
    """
    return _on_gpus(hardware.devices, jobs) if uses_gpu(hardware) else _on_cpus(hardware, jobs)


def _on_gpus(devices: int, jobs: int) -> TrainingPlaces:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    groups = [gpus[start : start + devices] for start in range(0, len(gpus) - devices + 1, devices)]
    if jobs == 1 or not groups:  # the training itself reports too few GPUs
        return TrainingPlaces((Place({}),) * jobs, None, 1)
    if devices > 1 and jobs > len(groups):
        raise UsageError(
            f"--jobs {jobs}: each training takes the {devices} GPUs of hardware.devices, and there are "
            f"{len(gpus)}; give --jobs {len(groups)}, or set hardware.devices=1"
        )
    handed_out = (groups[number % len(groups)] for number in range(jobs))
    found = tuple(Place({"CUDA_VISIBLE_DEVICES": ",".join(group)}) for group in handed_out)
    return TrainingPlaces(found, None, min(jobs, len(groups)))


def _on_cpus(hardware: Hardware, jobs: int) -> TrainingPlaces:
    cores = len(os.sched_getaffinity(0))
    threads = hardware.threads
    if threads is None and jobs > 1:
        threads = max(1, cores // jobs)
    taken = cores if threads is None else threads * hardware.devices
    return TrainingPlaces((Place({}),) * jobs, threads, max(1, min(jobs, cores // taken)))


@dataclass
class _Running:
    training: NetTraining
    place: Place
    process: subprocess.Popen[bytes]
    folder: Path
    began: float
    log_from: int


def config_of(config: Config, training: NetTraining, folder: Path, threads: int | None) -> Config:
    """The config of one training: the audit's, except for the seed and the folders that it writes to.

    Args:
        config: the audit's.
        training: the net and its seed.
        folder: that of all nets.
        threads: torch's, if the config does not set them.
    """
    retraining = config.retrain
    if training.seed != config.seed:  # the folder of classifiers holds those of the config's seed
        retraining = retraining.model_copy(update={"classifier_dir": None})
    hardware = config.hardware
    if hardware.threads is None:
        hardware = hardware.model_copy(update={"threads": threads})
    return config.model_copy(
        update={
            "run_dir": folder_of(config, training, folder),
            "pretrain_dir": pretrain_folder(config),
            "finetune_dir": finetune_folder(config),
            "seed": training.seed,
            "retrain": retraining,
            "hardware": hardware,
        }
    )


def folder_of(config: Config, training: NetTraining, folder: Path) -> Path:
    """Where a training is kept, such as `tiny-71033bd8-seed0`."""
    return folder / f"{folder_name(Architecture(config.space.name, training.ops))}-seed{training.seed}"


def write_files(config: Config, training: NetTraining, metrics: Mapping[str, Any]) -> None:
    """The files for `detnas retrain` to read in the folder of a training, `config.run_dir`.

    Args:
        config: the training's own.
        training: the net.
        metrics: those that the search measured for it.
    """
    folder = config.run_dir
    Architecture(config.space.name, training.ops).save(folder / NET_ARCHITECTURE, metrics=metrics)
    head = f"# One net of an audit: detnas retrain -c {NET_CONFIG} --arch {NET_ARCHITECTURE}\n"
    text = to_yaml(config.model_dump(mode="json"))
    (folder / NET_CONFIG).write_text(head + text, encoding="utf-8")


def train_side_by_side(
    trainings: Sequence[NetTraining],
    space: str,
    places: Sequence[Place],
    prepare: Callable[[NetTraining], Path],
    ended: Callable[[Trained], None],
) -> None:
    """Run trainings, in order, one at each place at a time, until all have ended.

    An exception ends those that are running: each is asked to save its current step, and resumes from there
    when it is started again. They end in the same way when this process dies.

    Args:
        trainings: what to train.
        space: the space of their ops.
        places: where they run.
        prepare: makes a training's folder, with its files.
        ended: called for each that has ended, successfully or not.
    """
    waiting, free = list(trainings), list(places)
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and free:
                training, place = waiting.pop(0), free.pop(0)
                running.append(_start(training, place, prepare(training)))
            time.sleep(_LOOK_EVERY)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                free.append(one.place)
                ended(_outcome(one, space))
    finally:
        _end([one.process for one in running])


def _start(training: NetTraining, place: Place, folder: Path) -> _Running:
    command = [sys.executable, "-W", "ignore", "-m", "detnas_nni.cli", "retrain"]
    command += ["-c", str(folder / NET_CONFIG), "--arch", str(folder / NET_ARCHITECTURE)]
    results_beside(folder / NET_ARCHITECTURE).unlink(missing_ok=True)
    with (folder / NET_LOG).open("ab") as log:
        log_from = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **place.environment},
            start_new_session=True,  # a terminal's Ctrl-C must not reach it: it is asked to save first
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )
    return _Running(training, place, process, folder, time.monotonic(), log_from)


def _outcome(one: _Running, space: str) -> Trained:
    """The result of a training that has ended: its metrics, or why there are none."""
    metrics = weights = error = None
    if one.process.returncode == 0:
        result = final_result(results_beside(one.folder / NET_ARCHITECTURE), space)
        metrics, weights = dict(result.metrics), result.weights
        if result.detection < 0:  # as COCO has it
            metrics = weights = None
            error = "AP on the test split is not defined: there is no box in it to find"
    else:
        error = _error(one)
    return Trained(
        *(one.training.ops, one.training.seed),
        seconds=round(time.monotonic() - one.began, 1),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=metrics,
        weights=weights,
        error=error,
    )


def _error(one: _Running) -> str:
    """What the training itself reports about its end, else its last line, or the signal that ended it."""
    with (one.folder / NET_LOG).open("rb") as log:
        log.seek(one.log_from)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    status = one.process.returncode
    said = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    if said:
        return said[-1][:_LONGEST]
    if status < 0:
        return f"ended by {signal.Signals(-status).name}; {one.folder / NET_LOG} has the output before that"
    return lines[-1][:_LONGEST] if lines else f"ended with status {status}"


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to save and end; kill those that have not in time, or at a second Ctrl-C."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with its loaders
                process.wait()
