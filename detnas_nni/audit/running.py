"""The trainings of an audit, side by side: each a `detnas retrain` in a process and a folder of its own."""

from __future__ import annotations

import json
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

import yaml

from detnas_nni.architecture import Architecture
from detnas_nni.audit.journal import Trained, Training
from detnas_nni.audit.places import Place
from detnas_nni.config import Config
from detnas_nni.retrain import folder_name
from detnas_nni.search.process import die_with_parent

CONFIG, ARCHITECTURE, RESULTS, LOG = (
    "detnas.yaml",
    "architecture.json",
    "architecture.results.json",  # which `detnas retrain` writes beside the architecture
    "retrain.log",
)
"""The files of a training's folder, beside what `detnas retrain` makes."""

_LOOK_EVERY = 0.2  # seconds
_GRACE = 120.0  # seconds that a training has to come to the end of its step and save it
_ERROR = "detnas: error: "
_LONGEST = 500  # characters of an error


@dataclass
class _Running:
    training: Training
    place: Place
    process: subprocess.Popen[bytes]
    folder: Path
    began: float
    log_from: int


def config_of(config: Config, training: Training, folder: Path, threads: int | None) -> Config:
    """The config of one training: the audit's, but for the seed and the folders that it writes to.

    Args:
        config: the audit's.
        training: the net and its seed.
        folder: of all nets.
        threads: torch's, where the config leaves them open.
    """
    retraining = config.retrain
    if training.seed != config.seed:  # where classifiers of the config's seed are kept
        retraining = retraining.model_copy(update={"classifier_dir": None})
    hardware = config.hardware
    if hardware.threads is None:
        hardware = hardware.model_copy(update={"threads": threads})
    return config.model_copy(
        update={
            "run_dir": folder_of(config, training, folder),
            "pretrain_dir": config.pretrain_dir or config.run_dir / "pretrain",
            "finetune_dir": config.finetune_dir or config.run_dir / "finetune",
            "seed": training.seed,
            "retrain": retraining,
            "hardware": hardware,
        }
    )


def folder_of(config: Config, training: Training, folder: Path) -> Path:
    """Where a training is kept, such as `tiny-71033bd8-seed0`."""
    return folder / f"{folder_name(Architecture(config.space.name, training.ops))}-seed{training.seed}"


def write_files(config: Config, training: Training, metrics: Mapping[str, Any]) -> None:
    """What `detnas retrain` is to read in the folder of a training, `config.run_dir`.

    Args:
        config: the training's own.
        training: the net.
        metrics: what the search measured of it.
    """
    folder = config.run_dir
    Architecture(config.space.name, training.ops).save(folder / ARCHITECTURE, metrics=metrics)
    head = f"# One net of an audit: detnas retrain -c {CONFIG} --arch {ARCHITECTURE}\n"
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (folder / CONFIG).write_text(head + text, encoding="utf-8")


def train_side_by_side(
    trainings: Sequence[Training],
    places: Sequence[Place],
    prepare: Callable[[Training], Path],
    ended: Callable[[Trained], None],
) -> None:
    """Run trainings, in order, one at each place at a time, until all have ended.

    An exception ends those that run: each is asked to save the step that it is at, and goes on from there
    when it is started again. They end so, too, when this process dies.

    Args:
        trainings: what to train.
        places: at which.
        prepare: makes a training's folder, with its files.
        ended: is told of each that has ended, well or not.
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
                ended(_outcome(one))
    finally:
        _end([one.process for one in running])


def _start(training: Training, place: Place, folder: Path) -> _Running:
    command = [sys.executable, "-W", "ignore", "-m", "detnas_nni.cli", "retrain"]
    command += ["-c", str(folder / CONFIG), "--arch", str(folder / ARCHITECTURE)]
    (folder / RESULTS).unlink(missing_ok=True)
    with (folder / LOG).open("ab") as log:
        log_from = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **place.environment},
            start_new_session=True,  # a terminal's Ctrl-C is not for it: it is asked to save first
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )
    return _Running(training, place, process, folder, time.monotonic(), log_from)


def _outcome(one: _Running) -> Trained:
    """What a training that has ended leaves: its metrics, or why there are none."""
    metrics = weights = error = None
    if one.process.returncode == 0:
        results = json.loads((one.folder / RESULTS).read_text(encoding="utf-8"))
        metrics, weights = results["detection"], results["weights"]["file"]
        if metrics["default"] < 0:  # as COCO has it
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
    """What the training itself says of its end, else its last line, or the signal that ended it."""
    with (one.folder / LOG).open("rb") as log:
        log.seek(one.log_from)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    status = one.process.returncode
    said = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    if said:
        return said[-1][:_LONGEST]
    if status < 0:
        return f"ended by {signal.Signals(-status).name}; {one.folder / LOG} has what came before"
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
