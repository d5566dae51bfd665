"""What becomes of a candidate that fails, and when a search has seen too many that do."""

from __future__ import annotations

import errno
import re
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError, ConfigError, DataError, DetNASError
from detnas_nni.search.journal import JournalError

_LEAST = 10  # candidates, before a share of them says anything

# A disk that is full or gone, and files that cannot grow: the next candidate meets it, too.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}


class Failure(str):
    """Why an evaluation failed, as the journal keeps it, and whether any candidate would have failed so."""

    fatal: bool

    def __new__(cls, text: str, *, fatal: bool = False) -> Failure:
        failure = super().__new__(cls, text)
        failure.fatal = fatal
        return failure


def describe(error: BaseException) -> Failure:
    """An error as the journal keeps it: the last line of its traceback, and where that was.

    Of a longer message the first line. A message for the user says by itself what it is about.
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
        """Why the search must not go on after so many evaluations, or is worth nothing; None if it may.

        Args:
            errors: of those that failed.
            evaluated: all so far, the failed ones too.
            ended: whether there will be no more; a share of fewer than ten then counts, too.
        """
        if evaluated < min(_LEAST, self.evaluations) and not ended:
            return None
        if not errors or len(errors) <= self.max_failed_share * evaluated:
            return None
        common, count = most_common(errors)
        return (
            f"{len(errors)} of {evaluated} candidates have failed, more than search.max_failed_share "
            f"({self.max_failed_share:g}) allows; {count} of them with: {common}. Mend that and start over "
            "(`detnas search --fresh`, or remove the search's folder), or raise search.max_failed_share to "
            "go on without them"
        )


def kinds(errors: Sequence[str]) -> list[tuple[str, int]]:
    """Errors that are alike but for their numbers (sizes, addresses, lines): the first of each kind, and how
    many; the most frequent first.
    """
    of_kind = [re.sub(r"0x[0-9a-f]+|\d+", "#", error) for error in errors]
    return [(errors[of_kind.index(kind)], count) for kind, count in Counter(of_kind).most_common()]


def most_common(errors: Sequence[str]) -> tuple[str, int]:
    """The error that most have in common, whatever its numbers, and how many have it."""
    return kinds(errors)[0]
