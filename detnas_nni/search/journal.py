"""What a search has evaluated: one JSON object a line, the one source for resume, export and report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detnas_nni.errors import DetNASError


class JournalError(DetNASError):
    """The journal is damaged, or it is another search's."""


@dataclass(frozen=True)
class Evaluation:
    """One finished or failed evaluation."""

    id: int
    """position in the search, from 0"""
    ops: tuple[int, ...]
    choices: dict[str, Any]
    cost: dict[str, int]
    """macs and params, backbone convention"""
    generation: int
    origin: str
    """random, mutation or crossover"""
    seconds: float | None
    finished_at: str
    """UTC, ISO 8601"""
    metrics: dict[str, float] | None = None
    error: str | None = None

    @property
    def fitness(self) -> float | None:
        return None if self.metrics is None else self.metrics["default"]

    def to_json(self) -> str:
        values = asdict(self)
        del values["error" if self.error is None else "metrics"]
        return json.dumps(values)

    @classmethod
    def from_json(cls, line: str) -> Evaluation:
        values = json.loads(line)
        return cls(**{**values, "ops": tuple(values["ops"])})


class Journal:
    """The file of a search's evaluations, appended and flushed to the disk as each ends.

    A last line that a crash tore is dropped when the file is opened; damage anywhere else is an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.evaluations: list[Evaluation] = list(self._read())
        self._by_ops = {evaluation.ops: evaluation for evaluation in self.evaluations}

    def __len__(self) -> int:
        return len(self.evaluations)

    def find(self, ops: tuple[int, ...]) -> Evaluation | None:
        """The evaluation of an architecture, if it has one."""
        return self._by_ops.get(ops)

    def append(self, evaluation: Evaluation) -> None:
        """Add a finished evaluation, on the disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(evaluation.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.evaluations.append(evaluation)
        self._by_ops[evaluation.ops] = evaluation

    def best(self, count: int = 1) -> list[Evaluation]:
        """The evaluations of highest fitness, best first; the earlier one where two are equal."""
        finished = [evaluation for evaluation in self.evaluations if evaluation.fitness is not None]
        return sorted(finished, key=lambda evaluation: (-evaluation.fitness, evaluation.id))[:count]

    def _read(self) -> Iterator[Evaluation]:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole, newline, torn = content.rpartition(b"\n")
        if torn:  # a crash in the middle of a write: that evaluation has not ended
            with self.path.open("r+b") as file:
                file.truncate(len(whole) + len(newline))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                yield Evaluation.from_json(line.decode())
            except (ValueError, TypeError, KeyError) as error:
                raise JournalError(f"{self.path}: line {number} is damaged: {error}") from None


def journal_path(search_dir: Path) -> Path:
    """Where the search of a folder writes what it has evaluated."""
    return search_dir / "journal.jsonl"
