"""The folders of the two supernet trainings: what each depends on, whether it is finished, its result."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError
from detnas_nni.files import write_json
from detnas_nni.supernet.checkpoint import load_supernet

_log = logging.getLogger(__name__)

CLASSIFIER = "classifier"
"""The kind of supernet that pre-training gives; a detection supernet's kind is the detector's name."""


@dataclass(frozen=True)
class SupernetRun:
    """The folder that a supernet is trained in, and the hash of the config's sections that it depends on."""

    folder: Path
    fingerprint: str

    @property
    def checkpoint(self) -> Path:
        """The trained supernet; there once the training has ended."""
        return self.folder / "supernet.pt"

    @property
    def state(self) -> Path:
        """The state of the training while it runs: what it is resumed from."""
        return self.folder / "last.ckpt"

    def is_finished(self) -> bool:
        """Whether the supernet is there. Raises CheckpointError if it is one of another config."""
        if not self.checkpoint.exists():
            return False
        self._expect(load_supernet(self.checkpoint).info.fingerprint, self.checkpoint)
        _log.info("%s is there, trained with this config; pass --fresh to train anew", self.checkpoint)
        return True

    def claim(self, fresh: bool) -> None:
        """Make the folder this training's; to be called when the training's start has been checked.

        Args:
            fresh: clear the folder first.

        Raises:
            CheckpointError: the folder holds a training of another config.
        """
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        identity = self.folder / "training.json"
        if self.state.exists():
            self._expect(_read_fingerprint(identity), self.state)
        write_json(identity, {"fingerprint": self.fingerprint})

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


def pretrain_run(config: Config) -> SupernetRun:
    """Where the classification supernet is trained."""
    data = config.require("data.classification")
    return SupernetRun(
        config.run_dir / "pretrain", config.fingerprint("seed", "space", "pretrain", extra=data)
    )


def finetune_run(config: Config) -> SupernetRun:
    """Where the detection supernet is trained."""
    data = config.require("data.detection")
    return SupernetRun(
        config.run_dir / "finetune", config.fingerprint("seed", "space", "detector", "finetune", extra=data)
    )


def supernet_checkpoint(config: Config) -> Path:
    """The supernet that a search takes its weights from. Raises CheckpointError if it is not there."""
    run = finetune_run(config) if config.evaluation.task == "detection" else pretrain_run(config)
    if not run.checkpoint.exists():
        step = run.folder.name
        raise CheckpointError(f"{run.checkpoint}: there is no supernet yet; run `detnas {step}` first")
    return run.checkpoint
