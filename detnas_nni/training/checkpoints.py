"""The state of a training on the disk: the newest few, each whole or not there, each under its own hash.

A checkpoint's name ends in the first digits of its SHA-256, as torch's hub names weights. So one rename makes
file and hash appear together, and a file that does not hash to its name is known to be damaged.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from detnas_nni.config.run_folder import UNNAMED_CHECKPOINT
from detnas_nni.errors import CheckpointError
from detnas_nni.training.weights import file_hash
from detnas_nni.util.files import replace_file

_log = logging.getLogger(__name__)

_DIGITS = 16  # of the hash, as in no two files that anybody has
_NAME = re.compile(rf"step_(\d+)-([0-9a-f]{{{_DIGITS}}})\.ckpt")


class CheckpointFolder:
    """The checkpoints of one training.

    Args:
        path: their folder; there once the first is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> dict[Path, int]:
        """Every checkpoint and its step, the newest first."""
        named = ((file, _NAME.fullmatch(file.name)) for file in self.path.glob("*.ckpt"))
        steps = {file: int(match[1]) for file, match in named if match is not None}
        return dict(sorted(steps.items(), key=lambda item: item[1], reverse=True))

    def save(self, step: int, write: Callable[[Path], None], keep: int) -> Path:
        """Add the checkpoint of a step, and leave the newest `keep` of those up to it."""
        unnamed = self.path / UNNAMED_CHECKPOINT
        replace_file(unnamed, write)
        saved = self.path / f"step_{step:08}-{file_hash(unnamed)[:_DIGITS]}.ckpt"
        unnamed.replace(saved)
        others = {file: at for file, at in self.files().items() if file != saved}
        # What lies beyond this step is what could not be read when the training was gone on with.
        kept = [file for file, at in others.items() if at < step][: keep - 1]
        for file in others.keys() - set(kept):
            file.unlink(missing_ok=True)
        for torn in self.path.glob(".*.tmp"):  # of a training that was killed while it wrote
            torn.unlink(missing_ok=True)
        return saved

    def newest(self, level: int = logging.WARNING) -> Path | None:
        """The newest checkpoint that is as it was written; None if there are none at all.

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
                f"{self.path}: every checkpoint in it is damaged; pass --fresh to train anew, and have the "
                "disk looked at"
            )
        return None

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.path, ignore_errors=True)
