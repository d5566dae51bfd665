"""The folders of trainings: what each depends on, whether it is finished, its result."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.config.run_folder import CHECKPOINTS, SUPERNET, TRAINING, finetune_folder, pretrain_folder
from detnas_nni.errors import CheckpointError, DetNASError
from detnas_nni.training.checkpoints import CheckpointFolder
from detnas_nni.training.distributed import World, barrier
from detnas_nni.training.weights import load_weights
from detnas_nni.util.files import write_json
from detnas_nni.util.lock import FolderLock

_log = logging.getLogger(__name__)


_PATIENCE = 30.0  # seconds


class TrainingRunsError(DetNASError):
    """Another process trains in the folder."""


@dataclass(frozen=True)
class TrainingRun:
    """The folder of a training, and the hash of the config's sections that it depends on."""

    folder: Path
    fingerprint: str
    name: str = SUPERNET

    @property
    def result(self) -> Path:
        """The trained weights; there once the training has ended."""
        return self.folder / self.name

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The states of the training while it runs: what it is resumed from."""
        return CheckpointFolder(self.folder / CHECKPOINTS)

    @property
    def is_begun(self) -> bool:
        """Whether there is a state to go on from."""
        return bool(self.checkpoints.files())

    def is_finished(self, fresh: bool = False) -> bool:
        """Whether the result is there and is to be kept. Raises CheckpointError if another config's is."""
        if fresh or not self.result.exists():
            return False
        self._expect(load_weights(self.result).info.fingerprint, self.result)
        _log.info("%s is there, trained with this config; pass --fresh to train anew", self.result)
        return True

    @contextmanager
    def claimed(self, fresh: bool, world: World) -> Iterator[None]:
        """The folder is this training's while the context lasts; to be entered when its start was checked.

        Args:
            fresh: clear the folder first.
            world: the processes; all come here, the main one writes.

        Raises:
            CheckpointError: the folder holds a training of another config.
            TrainingRunsError: another process trains in it.
        """
        if not world.is_main:
            barrier()
            yield
            return
        lock = FolderLock(self.folder)
        try:
            self._wait_for(lock)
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            identity = self.folder / TRAINING
            if self.is_begun:
                self._expect(_read_fingerprint(identity), self.checkpoints.path)
            write_json(identity, {"fingerprint": self.fingerprint})
            barrier()
            yield
        finally:
            lock.release()

    def _wait_for(self, lock: FolderLock) -> None:
        if lock.acquire():
            return
        # A cluster may start a job again while SIGTERM still has it save its state.
        _log.info("%s: another process trains here; waiting for its end", self.folder)
        deadline = time.monotonic() + _PATIENCE
        while not lock.acquire():
            if time.monotonic() > deadline:
                raise TrainingRunsError(
                    f"{self.folder}: another process trains here, and two would spoil each other's "
                    "checkpoints; wait for its end, or give this training a run_dir of its own"
                )
            time.sleep(0.2)

    def _expect(self, found: str, path: Path) -> None:
        if found != self.fingerprint:
            raise CheckpointError(
                f"{path}: of another config (fingerprint {found}, now {self.fingerprint}); go on with the "
                "old config, pass --fresh to train anew, or choose another run_dir"
            )


def _read_fingerprint(path: Path) -> str:
    try:
        return json.loads(path.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}), so it is unknown what the checkpoint beside it is of; "
            "pass --fresh to train anew"
        ) from None


def pretrain_run(config: Config) -> TrainingRun:
    """Where the classification supernet is trained."""
    data = config.require("data.classification")
    return TrainingRun(
        pretrain_folder(config),
        config.fingerprint("seed", "space", "pretrain", data=data),
    )


def finetune_run(config: Config) -> TrainingRun:
    """Where the detection supernet is trained."""
    data = config.require("data.detection")
    return TrainingRun(
        finetune_folder(config),
        config.fingerprint("seed", "space", "detector", "finetune", data=data),
    )


def supernet_weights(config: Config) -> Path:
    """The supernet that a search takes its weights from. Raises CheckpointError if it is not there."""
    run = finetune_run(config) if config.evaluation.task == "detection" else pretrain_run(config)
    if not run.result.exists():
        step = "finetune" if config.evaluation.task == "detection" else "pretrain"
        raise CheckpointError(f"{run.result}: there is no supernet yet; run `detnas {step}` first")
    return run.result
