"""What a search has evaluated: one JSON object per line, the one source for resume, export and report.

Also the identity of a search: whether two runs are the same search, and may share a journal.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from detnas_nni.config import Config
from detnas_nni.config.run_folder import JOURNAL, SEARCH
from detnas_nni.cost.limits import latency_table
from detnas_nni.errors import CheckpointError, DetNASError


class JournalError(DetNASError):
    """The journal is damaged, cannot be written, or is another search's."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: finished, failed, or stopped early."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # for lines that are read

    id: int
    """position in the search, from 0"""
    ops: tuple[int, ...]
    choices: dict[str, Any]
    cost: dict[str, int | float]
    """macs and params, backbone convention, and latency_ms in a search with a latency table"""
    generation: int
    origin: str
    """random, mutation, crossover, or given: the net that the search begins with"""
    seconds: float | None
    finished_at: str
    """UTC, ISO 8601"""
    metrics: dict[str, float] | None = None
    error: str | None = None
    tries: int = 1
    """how often it was evaluated: more than once after failures"""
    parts: tuple[float, ...] = ()
    """fitness on the growing parts of the search split, the last the whole unless it was stopped"""
    stopped: bool = False
    """given up on a part of the split, since it could not become a parent: it has no fitness"""

    @property
    def fitness(self) -> float | None:
        return None if self.metrics is None else self.metrics["default"]

    def to_json(self) -> str:
        values = asdict(self)
        for key in ("metrics", "error", "parts", "stopped"):
            if not values[key]:
                del values[key]
        return json.dumps(values)

    @classmethod
    def from_json(cls, line: str) -> Evaluation:
        """Raises ValueError for a line that `to_json` would not write."""
        try:
            evaluation = _LINE.validate_json(line, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None
        ends = (evaluation.metrics is not None, evaluation.error is not None, evaluation.stopped)
        if sum(ends) != 1:
            raise ValueError("needs either metrics or an error, or has to be stopped")
        if evaluation.metrics is not None and not math.isfinite(evaluation.metrics.get("default", math.nan)):
            raise ValueError("metrics.default: a finite number is needed")
        return evaluation


_LINE = TypeAdapter(Evaluation)


class Journal:
    """The file of a search's evaluations, appended and flushed to disk as each ends.

    A last line left incomplete by a crash counts as not written, and is cut off before the next one is
    written. Reading changes nothing, so others may read while a search writes. Damage anywhere else is an
    error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole = 0  # bytes, up to the end of the last complete line
        self._is_cut = False
        self.evaluations: list[Evaluation] = []
        self.errors: list[str] = []
        """of the evaluations that failed"""
        self._by_ops: dict[tuple[int, ...], Evaluation] = {}
        for evaluation in self._read():
            self._add(evaluation)

    def __len__(self) -> int:
        return len(self.evaluations)

    def find(self, ops: tuple[int, ...]) -> Evaluation | None:
        """The evaluation of an architecture, if it has one."""
        return self._by_ops.get(ops)

    def append(self, evaluation: Evaluation) -> None:
        """Add a finished evaluation; it is on disk before this returns.

        Raises JournalError if it cannot be written; the file is then as it was before.
        """
        line = evaluation.to_json().encode() + b"\n"
        is_new = not self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                self._write(file.fileno(), line)
            if is_new:
                _flush_folder(self.path.parent)
        except OSError as error:
            raise JournalError(
                f"{self.path}: cannot be written ({error.strerror}); the {len(self)} evaluations in it are "
                "intact. Make room, then start the search again: it resumes from there"
            ) from None
        self._whole += len(line)
        self._add(evaluation)

    def best(self, count: int = 1) -> list[Evaluation]:
        """The evaluations of highest fitness, best first; the earlier one where two are equal."""
        finished = [evaluation for evaluation in self.evaluations if evaluation.fitness is not None]
        return sorted(finished, key=lambda evaluation: (-evaluation.fitness, evaluation.id))[:count]

    def _add(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)
        self._by_ops[evaluation.ops] = evaluation
        if evaluation.error is not None:
            self.errors.append(evaluation.error)

    def _write(self, file: int, line: bytes) -> None:
        size = os.fstat(file).st_size
        if size != self._whole:
            if size < self._whole or self._is_cut:
                raise JournalError(f"{self.path}: was changed by another process while this one searched")
            os.ftruncate(file, self._whole)
        self._is_cut = True
        try:
            written = 0
            while written < len(line):  # a full disk takes part of it and refuses the rest
                written += os.write(file, line[written:])
            os.fsync(file)
        except OSError:
            os.ftruncate(file, self._whole)
            raise

    def _read(self) -> Iterator[Evaluation]:
        if not self.path.exists():
            return
        # Whatever follows the last end of line was cut off by a crash: that evaluation has not ended.
        whole, newline, _ = self.path.read_bytes().rpartition(b"\n")
        self._whole = len(whole) + len(newline)
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                yield Evaluation.from_json(line.decode())
            except ValueError as error:
                raise JournalError(f"{self.path}: line {number} is damaged: {error}") from None


def journal_path(search_dir: Path) -> Path:
    """Where the search in a folder writes what it has evaluated."""
    return search_dir / JOURNAL


def _flush_folder(folder: Path) -> None:
    """Flush a folder: a new file's name is on disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# What the result of a candidate depends on.
_SECTIONS = ("seed", "space", "data", "detector", "evaluation")

# A search may be extended, or be more or less tolerant of failures: neither changes what was evaluated, nor
# the order of candidates.
_OPEN = {"generations", "retries", "max_failed_share", "max_trial_seconds"}

_LATENCY = ("latency_table", "latency_runtime", "max_latency_ms")

# These strategies ignore objectives, and a random one ignores around. The default is left out, so that older
# searches keep their identity.
_BY_FITNESS_ALONE = {"detnas", "regularized_evolution", "random"}
_OBJECTIVES = ["macs"]


def search_identity(config: Config, supernet: str) -> dict[str, str]:
    """Hashes of the config, as far as a search depends on it, and of the supernet's file (SHA-256).

    A latency table counts by its content, not its path. Raises LatencyError if its file holds none.
    """
    search = config.search.model_dump(mode="json", exclude=_OPEN)
    search["constraint"] = _limits(config, search["constraint"])
    if config.search.strategy in _BY_FITNESS_ALONE or search["objectives"] == _OBJECTIVES:
        del search["objectives"]
    if search["around"] is None or config.search.strategy == "random":
        del search["around"]
    # Candidates are not calibrated where the supernet was frozen.
    freeze = config.finetune.freeze if config.evaluation.task == "detection" else 0
    trained = {"freeze": freeze} if freeze else {}
    if config.evaluation.finetune_iterations:
        trained["candidates"] = _fine_tuning(config)
    return {"config": config.fingerprint(*_SECTIONS, search=search, **trained), "supernet": supernet}


def recorded_identity(search_dir: Path) -> dict[str, str]:
    """What `search_identity` was when the search in a folder began; empty if its file is not there.

    Raises JournalError for a damaged file.
    """
    path = search_dir / SEARCH
    if not path.exists():
        return {}
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise JournalError(f"{path}: is not JSON ({error}); restore it, or search again") from None
    if not isinstance(values, dict):
        raise JournalError(f"{path}: is not a JSON object; restore it, or search again")
    return {key: value for key, value in values.items() if isinstance(value, str)}


def expect_same_config(config: Config) -> dict[str, str]:
    """The identity of the search in the config's folder, if that is a search with this config.

    Raises:
        JournalError: the file with the identity is missing or damaged.
        CheckpointError: the config has changed since.
    """
    found = recorded_identity(config.search_dir)
    missing = {"config", "supernet"} - found.keys()
    if missing:
        raise JournalError(
            f"{config.search_dir / SEARCH}: does not say of which {' and '.join(sorted(missing))} the "
            "journal is; restore the file that the search wrote"
        )
    now = search_identity(config, found["supernet"])["config"]
    if found["config"] != now:
        raise CheckpointError(
            f"{config.search_dir}: holds a search with another config ({found['config']}, now {now}), whose "
            "results are not of this one; name the config as it was when the search began"
        )
    return found


def _fine_tuning(config: Config) -> dict[str, Any]:
    """What a candidate's fine-tuning depends on besides `evaluation`; most searches have none."""
    values = config.finetune.model_dump(include={"batch_size", "momentum"})
    if config.evaluation.task == "classification":
        values |= config.pretrain.model_dump(include={"dropout", "label_smoothing"})
    return values


def _limits(config: Config, constraint: dict[str, Any]) -> dict[str, Any]:
    """Leave out a missing table, so that older searches keep their identity."""
    kept = {key: value for key, value in constraint.items() if key not in _LATENCY}
    table = latency_table(config)
    if table is not None:
        kept["latency"] = {"table": table.fingerprint, "max_ms": constraint["max_latency_ms"]}
    return kept
