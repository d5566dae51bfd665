"""What is wrong with an annotation file: collected, counted, then tolerated or turned into one error."""

import logging
from collections import Counter
from pathlib import Path

from detnas_nni.errors import DataError
from detnas_nni.util.text import show

logger = logging.getLogger(__name__)

MISSING, CLIPPED, OUTSIDE = "missing files", "clipped boxes", "boxes outside"
"""What readers note: images without a file, boxes that stick out of their image, those wholly outside."""

_SHOWN = 3  # problems quoted in full; a damaged file may have a hundred thousand of them


class Problems:
    """Collects the problems of one annotation file; `settle` decides.

    Args:
        source: the annotation file (or image set), named in every message.
        max_bad: how many problems are tolerated (the config's `max_bad_annotations`).
    """

    def __init__(self, source: Path, max_bad: int) -> None:
        self._source = source
        self._max_bad = max_bad
        self._count = 0
        self._first: list[str] = []
        self._dropped: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()

    def add(self, key: str, value: object, expected: str, reason: str) -> None:
        """Note a problem: the entry at `key` is left out and counted under `reason`."""
        self.add_text(f"`{key}` is {show(value)}, expected {expected}", reason)

    def add_text(self, text: str, reason: str) -> None:
        """Note a problem in its own words, for what is missing rather than wrong."""
        self._count += 1
        self._dropped[reason] += 1
        if len(self._first) < _SHOWN:
            self._first.append(text)

    def drop(self, reason: str) -> None:
        """Count something that is left out without being a problem."""
        self._dropped[reason] += 1

    def note(self, kind: str) -> None:
        """Count something that is worth telling, whether or not it is left out."""
        self._notes[kind] += 1

    @property
    def notes(self) -> dict[str, int]:
        """How often each kind of thing was noted."""
        return dict(self._notes)

    @property
    def first(self) -> tuple[str, ...]:
        """The first problems, in full."""
        return tuple(self._first)

    def settle(self) -> dict[str, int]:
        """Give the counts of what was left out, by reason; warn if something was.

        Raises:
            DataError: there are more problems than `max_bad`.
        """
        quoted = "; ".join(self._first)
        more = f"; and {self._count - len(self._first)} more" if self._count > len(self._first) else ""
        if self._count > self._max_bad:
            problems = "1 problem" if self._count == 1 else f"{self._count} problems"
            raise DataError(
                f"{self._source}: {quoted}{more}. {problems} in all, {self._max_bad} allowed: "
                "mend the annotations, or raise max_bad_annotations in the config to leave such entries out."
            )
        if self._dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self._dropped.items()))
            details = f" ({quoted}{more})" if quoted else ""
            logger.warning("%s: left out %s%s", self._source, counts, details)
        return dict(self._dropped)
