"""How evaluations of candidates end: with metrics or a failure, and when there are too many failures."""

from __future__ import annotations

import errno
import json
import logging
import re
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnas_nni.architecture import Ops
from detnas_nni.config import Config
from detnas_nni.config.run_folder import OUTCOMES
from detnas_nni.errors import CheckpointError, ConfigError, DataError, DetNASError
from detnas_nni.search.journal import JournalError
from detnas_nni.util.files import write_json

if TYPE_CHECKING:
    from detnas_nni.evaluation.candidate import Result

_log = logging.getLogger(__name__)

_LEAST = 10  # candidates before a share of failures means anything

# A disk that is full or gone, and files that cannot grow: the next candidate would fail so, too.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}


class Failure(str):
    """Why an evaluation failed, as the journal keeps it, and whether any candidate would have failed so."""

    fatal: bool

    def __new__(cls, text: str, *, fatal: bool = False) -> Failure:
        failure = super().__new__(cls, text)
        failure.fatal = fatal
        return failure


def describe(error: BaseException) -> Failure:
    """An error as the journal keeps it: the last line of its traceback, and where it was raised.

    Only the first line of a longer message. A message meant for the user needs no place.
    """
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    frames = traceback.extract_tb(error.__traceback__)
    if frames and not isinstance(error, DetNASError):
        text += f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name})"
    return Failure(text, fatal=_is_fatal(error))


def _is_fatal(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _DISK
    return isinstance(error, CheckpointError | ConfigError | DataError | JournalError)


@dataclass(frozen=True)
class FailurePolicy:
    """How often a candidate is tried, and how many may fail."""

    retries: int
    max_failed_share: float
    evaluations: int
    """candidates of the whole search"""

    @classmethod
    def of(cls, config: Config) -> FailurePolicy:
        search = config.search
        return cls(search.retries, search.max_failed_share, search.evaluations)

    def objection(self, errors: Sequence[str], evaluated: int, ended: bool = False) -> str | None:
        """Why the search must not go on after this many evaluations, or is worthless; None if it may go on.

        Args:
            errors: those of the failed candidates.
            evaluated: all so far, including the failed ones.
            ended: whether there will be no more; a share of fewer than ten then counts, too.
        """
        if evaluated < min(_LEAST, self.evaluations) and not ended:
            return None
        if not errors or len(errors) <= self.max_failed_share * evaluated:
            return None
        common, count = most_common(errors)
        return (
            f"{len(errors)} of {evaluated} candidates have failed, more than search.max_failed_share "
            f"({self.max_failed_share:g}) allows; {count} of them with: {common}. Fix that and start over "
            "(`detnas search --fresh`, or remove the search's folder), or raise search.max_failed_share to "
            "continue without them"
        )


def kinds(errors: Sequence[str]) -> list[tuple[str, int]]:
    """Errors grouped by kind, that is, alike except for their numbers (sizes, addresses, lines): the first of
    each kind, and how many; the most frequent first.
    """
    of_kind = [re.sub(r"0x[0-9a-f]+|\d+", "#", error) for error in errors]
    return [(errors[of_kind.index(kind)], count) for kind, count in Counter(of_kind).most_common()]


def most_common(errors: Sequence[str]) -> tuple[str, int]:
    """The error that most have in common, whatever its numbers, and how many have it."""
    return kinds(errors)[0]


@dataclass(frozen=True)
class Outcome:
    """The metrics of one evaluation, or the error that it ended with, or that it was stopped early."""

    metrics: dict[str, float] | None = None
    """on the whole split; None if it has none"""
    error: Failure | None = None
    parts: tuple[float, ...] = ()
    """fitness on the growing parts of the split that it was measured on"""
    stopped: bool = False
    """whether it was given up on a part of the split: neither a failure nor a result"""

    @classmethod
    def of(cls, result: Result) -> Outcome:
        """The outcome of a candidate measured on the whole split or on a part."""
        metrics = None if result.stopped else result.reported()
        return cls(metrics, parts=result.parts, stopped=result.stopped)


NO_RESULT = Failure("the trial ended without a result: it was killed, or never started")
"""For a trial that reported nothing: killed, perhaps for lack of memory, or `trialCommand` is wrong."""


Identity = Mapping[str, str]
"""What a result depends on besides the architecture: hashes of the config and of the supernet."""


class OutcomeFiles:
    """The outcomes of architectures that NNI's trials evaluated, in a search's folder: `outcomes/OPS.json`.

    Args:
        folder: the search's.
        identity: of the search, or of what the trial computes with. Outcomes of others do not count.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.identity = dict(identity)
        self._folder = folder

    def finish(self, ops: Ops, outcome: Outcome) -> None:
        """Record an architecture's outcome, unless it is a failure."""
        values = {"metrics": outcome.metrics, "parts": outcome.parts, "stopped": outcome.stopped}
        write_json(self._path(OUTCOMES, _name(ops)), {"identity": self.identity, **values})

    def outcome(self, ops: Ops) -> Outcome | None:
        """An architecture's outcome, if a trial with this config and this supernet has recorded one."""
        values = self._read(OUTCOMES, _name(ops))
        if values is None or values["identity"] != self.identity:
            return None
        return Outcome(values["metrics"], parts=tuple(values["parts"]), stopped=values["stopped"])

    def _path(self, kind: str, name: str) -> Path:
        return self._folder / kind / f"{name}.json"

    def _read(self, kind: str, name: str) -> dict[str, Any] | None:
        path = self._path(kind, name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            _log.warning("%s: damaged, so it is ignored: %s", path, error)
            return None


def _name(ops: Ops) -> str:
    return ",".join(map(str, ops))
