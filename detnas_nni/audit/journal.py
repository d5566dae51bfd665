"""What an audit has trained: one JSON object per line, from which it resumes."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from detnas_nni.errors import AuditError


@dataclass(frozen=True)
class NetTraining:
    """The training of a net on its own, identified by ops and seed."""

    ops: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Trained:
    """How the training of a net ended: with its metrics, or with an error.

    Attributes:
        ops: the net.
        seed: its training's.
        seconds: from the start of its process to the end, for the last attempt only.
        finished_at: UTC, ISO 8601.
        metrics: on the test split; `default` is AP, or VOC mAP.
        weights: the detector's file.
        error: why there are none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # for lines that are read

    ops: tuple[int, ...]
    seed: int
    seconds: float
    finished_at: str
    metrics: dict[str, float] | None = None
    weights: str | None = None
    error: str | None = None

    @property
    def training(self) -> NetTraining:
        return NetTraining(self.ops, self.seed)

    @property
    def ap(self) -> float | None:
        return None if self.metrics is None else self.metrics["default"]

    def to_json(self) -> str:
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})

    @classmethod
    def from_json(cls, line: str) -> Trained:
        """Raises ValueError for a line that `to_json` would not write."""
        try:
            trained = _LINE.validate_json(line, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None
        if (trained.metrics is None) == (trained.error is None):
            raise ValueError("needs either metrics or an error")
        if trained.metrics is not None and not math.isfinite(trained.metrics.get("default", math.nan)):
            raise ValueError("metrics.default: a finite number is needed")
        return trained


_LINE: TypeAdapter[Trained] = TypeAdapter(Trained)


class NetJournal:
    """The file of an audit's nets, appended and flushed to disk as each ends.

    A net that failed may be tried again: the last line for a net and seed counts. A last line left incomplete
    by a crash counts as not written.

    Args:
        path: the file; it need not exist yet.

    Raises:
        AuditError: a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trained: dict[NetTraining, Trained] = {}
        content = path.read_bytes() if path.exists() else b""
        whole, newline, _ = content.rpartition(b"\n")
        self._whole = len(whole) + len(newline)
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                trained = Trained.from_json(line.decode())
            except ValueError as error:
                raise AuditError(
                    f"{path}: line {number} is damaged: {error}; repair it, or remove it and its net is "
                    "trained again, or pass --fresh to start over"
                ) from None
            self._trained[trained.training] = trained

    def __len__(self) -> int:
        return len(self._trained)

    def find(self, training: NetTraining) -> Trained | None:
        """How a training ended; None if it has not."""
        return self._trained.get(training)

    def is_finished(self, training: NetTraining) -> bool:
        """Whether a training has a result, so that it is left as it is."""
        trained = self.find(training)
        return trained is not None and trained.error is None

    def append(self, trained: Trained) -> None:
        """Add how a training ended; it is on disk before this returns. Raises OSError if that fails."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = trained.to_json().encode() + b"\n"
        with self.path.open("ab", buffering=0) as file:
            os.ftruncate(file.fileno(), self._whole)  # what a crash or a full disk left incomplete
            written = 0
            while written < len(line):  # a full disk takes part of it and refuses the rest
                written += os.write(file.fileno(), line[written:])
            os.fsync(file.fileno())
        self._whole += len(line)
        self._trained[trained.training] = trained
