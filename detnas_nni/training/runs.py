"""The folders of trainings: what each depends on, its checkpoints, whether it is finished, its result."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.config.run_folder import (
    CHECKPOINTS,
    SUPERNET,
    TRAINING,
    UNNAMED_CHECKPOINT,
    finetune_folder,
    pretrain_folder,
)
from detnas_nni.errors import CheckpointError, DetNASError
from detnas_nni.training.distributed import World, barrier
from detnas_nni.training.pretrained import Published, published
from detnas_nni.training.weights import file_hash, load_weights
from detnas_nni.util.files import replace_file, write_json
from detnas_nni.util.lock import FolderLock

_log = logging.getLogger(__name__)

_DIGITS = 16  # of the hash: enough to tell any two files apart
_NAME = re.compile(rf"step_(\d+)-([0-9a-f]{{{_DIGITS}}})\.ckpt")


class CheckpointFolder:
    """The checkpoints of one training.

    Args:
        path: their folder; exists once the first is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> dict[Path, int]:
        """Every checkpoint and its step, newest first."""
        named = ((file, _NAME.fullmatch(file.name)) for file in self.path.glob("*.ckpt"))
        steps = {file: int(match[1]) for file, match in named if match is not None}
        return dict(sorted(steps.items(), key=lambda item: item[1], reverse=True))

    def save(self, step: int, write: Callable[[Path], None], keep: int) -> Path:
        """Add the checkpoint of a step, and keep the newest `keep` of those up to it."""
        unnamed = self.path / UNNAMED_CHECKPOINT
        replace_file(unnamed, write)
        saved = self.path / f"step_{step:08}-{file_hash(unnamed)[:_DIGITS]}.ckpt"
        unnamed.replace(saved)
        others = {file: at for file, at in self.files().items() if file != saved}
        # Checkpoints beyond this step are those that could not be read when the training was resumed.
        kept = [file for file, at in others.items() if at < step][: keep - 1]
        for file in others.keys() - set(kept):
            file.unlink(missing_ok=True)
        for torn in self.path.glob(".*.tmp"):  # from a training that was killed while writing
            torn.unlink(missing_ok=True)
        return saved

    def newest(self, level: int = logging.WARNING) -> Path | None:
        """The newest intact checkpoint; None if there are none at all.

        Args:
            level: at which damaged ones are logged.

        Raises CheckpointError if all are damaged.
        """
        files = self.files()
        for file in files:
            if file_hash(file)[:_DIGITS] == _NAME.fullmatch(file.name)[2]:
                return file
            _log.log(
                level, "%s: damaged (its content does not hash to its name); taking the one before", file
            )
        if files:
            raise CheckpointError(
                f"{self.path}: every checkpoint in it is damaged; pass --fresh to start over, and have the "
                "disk checked"
            )
        return None

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.path, ignore_errors=True)


_PATIENCE = 30.0  # seconds


class TrainingRunsError(DetNASError):
    """Another process trains in the folder."""


@dataclass(frozen=True)
class TrainingRun:
    """The folder of a training, and the hash of the config's sections that it depends on."""

    folder: Path
    fingerprint: str
    name: str = SUPERNET
    start: Mapping[str, str] | None = None
    """the origin of the published weights that it starts from, for the header of its own weights"""

    @property
    def result(self) -> Path:
        """The trained weights; the file exists once the training has ended."""
        return self.folder / self.name

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The states of the training while it runs, from which it resumes."""
        return CheckpointFolder(self.folder / CHECKPOINTS)

    @property
    def is_begun(self) -> bool:
        """Whether there is a state to resume from."""
        return bool(self.checkpoints.files())

    def is_finished(self, fresh: bool = False) -> bool:
        """Whether the result exists and is to be kept. Raises CheckpointError if it is another config's."""
        if fresh or not self.result.exists():
            return False
        self._expect(load_weights(self.result).info.fingerprint, self.result)
        _log.info("%s exists, trained with this config; pass --fresh to train it again", self.result)
        return True

    @contextmanager
    def claimed(self, fresh: bool, world: World) -> Iterator[None]:
        """Hold the folder for this training while the context lasts; to be entered once its start has been
        checked.

        Args:
            fresh: clear the folder first.
            world: the processes; all call this, the main one writes.

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
        # A cluster may restart a job while the old one still saves its state after SIGTERM.
        _log.info("%s: another process trains here; waiting for it to end", self.folder)
        if not lock.wait(_PATIENCE):
            raise TrainingRunsError(
                f"{self.folder}: another process trains here, and two would corrupt each other's "
                "checkpoints; wait until it ends, or give this training another run_dir"
            )

    def _expect(self, found: str, path: Path) -> None:
        if found != self.fingerprint:
            raise CheckpointError(
                f"{path}: of another config (fingerprint {found}, now {self.fingerprint}); continue with the "
                "old config, pass --fresh to start over, or choose another run_dir"
            )


def _read_fingerprint(path: Path) -> str:
    try:
        return json.loads(path.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}), so it is unknown what the checkpoint beside it belongs to; "
            "pass --fresh to start over"
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
    start = {} if (found := imagenet_start(config)) is None else {"start": found.fingerprint}
    return TrainingRun(
        finetune_folder(config),
        config.fingerprint("seed", "space", "detector", "finetune", data=data, **start),
        start=None if found is None else found.origin,
    )


def imagenet_start(config: Config) -> Published | None:
    """The published weights that the supernet's detector training starts from; None if it does not.

    Raises ConfigError and CheckpointError like `published`.
    """
    if config.finetune.init != "imagenet":
        return None
    return published(config.space.name, config.finetune.weights)


def supernet_weights(config: Config) -> Path:
    """The supernet that a search takes its weights from. Raises CheckpointError if it is not there."""
    if config.evaluation.task == "detection":
        step, data, folder = "finetune", "data.detection", finetune_folder(config)
    else:
        step, data, folder = "pretrain", "data.classification", pretrain_folder(config)
    config.require(data)
    # Not from the run, whose identity needs the published weights that a training may have started from.
    result = folder / SUPERNET
    if not result.exists():
        raise CheckpointError(f"{result}: there is no supernet yet; run `detnas {step}` first")
    return result
