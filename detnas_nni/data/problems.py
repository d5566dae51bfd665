"""What is wrong with an annotation file: collected, counted, then corrected, tolerated or an error."""

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from detnas_nni.errors import DataError
from detnas_nni.util.text import show

logger = logging.getLogger(__name__)

MISSING, CLIPPED, OUTSIDE = "missing files", "clipped boxes", "boxes outside"
"""What readers note: images without a file, boxes that extend beyond their image, those entirely outside."""

ZERO_AREA = "zero-area boxes"
"""Dropped without being a problem: usually an accidental click."""

_OWN = re.compile(r"\d+|^.*\.xml|(?<= of ).*$")

_SHOWN = 3  # problems quoted in full; a damaged file may have a hundred thousand of them


@dataclass(frozen=True)
class Kind:
    """A kind of thing that a reader corrects or reports.

    Attributes:
        name: the key of its counts; also stored with crops, so it must not change.
        one, many: the text after the number, for one entry and for several.
        corrects: whether something is read differently from how it is written, which `strict` refuses.
    """

    name: str
    one: str
    many: str
    corrects: bool = True

    def told(
        self, count: int, example: str = "", of: Mapping[str, int] = MappingProxyType({})
    ) -> "Correction":
        """The sentence for a number of entries.

        Args:
            count: how many.
            example: the first of them.
            of: how many of each class, or of whatever else distinguishes them.
        """
        said = f"{count:,} {self.one if count == 1 else self.many}"
        if of:
            most = sorted(of.items(), key=lambda pair: -pair[1])
            rest = f" and {len(of) - 5} more" if len(of) > 5 else ""
            said += f" ({', '.join(f'{number:,} of {name}' for name, number in most[:5])}{rest})"
        return Correction(
            self.name, count, said + (f"; the first: {example}" if example else ""), self.corrects
        )


@dataclass(frozen=True)
class Correction:
    """How often a kind occurred in one annotation file.

    Attributes:
        kind: the kind's name.
        count: the number of entries.
        text: the sentence for a reader.
        corrects: as in `Kind`.
    """

    kind: str
    count: int
    text: str
    corrects: bool = True


@dataclass
class _Alike:
    """Entries that share a problem or a correction."""

    first: str
    count: int = 0
    more: Counter[str] = field(default_factory=Counter)


class Problems:
    """Collects what is wrong in one annotation file and what was corrected; `settle` decides.

    Args:
        source: the annotation file (or image set), named in every message.
        max_bad: how many problems are tolerated (the config's `max_bad_annotations`).
        strict: whether a correction is an error.
    """

    def __init__(self, source: Path, max_bad: int, strict: bool = False) -> None:
        self._source = source
        self._max_bad = max_bad
        self._strict = strict
        self._count = 0
        self._alike: dict[str, _Alike] = {}
        self._dropped: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._corrected: dict[Kind, _Alike] = {}

    def add(self, key: str, value: object, expected: str, reason: str) -> None:
        """Note a problem: the entry at `key` is left out and counted under `reason`."""
        # Entries with the same mistake differ in the numbers in their keys, in file names if a file has one
        # entry, and in the wrong value.
        kind = _OWN.sub("", key)
        self.add_text(
            f"`{key}` is {show(value)}, expected {expected}", reason, kind=f"{kind} {expected[:12]}"
        )

    def add_text(self, text: str, reason: str, *, kind: str | None = None) -> None:
        """Note a problem in its own words, for what is missing rather than wrong."""
        self._count += 1
        self._dropped[reason] += 1
        kind = text if kind is None else kind
        if kind in self._alike or len(self._alike) < 1000:
            self._alike.setdefault(kind, _Alike(text)).count += 1

    def drop(self, reason: str, count: int = 1) -> None:
        """Count something that is left out without being a problem."""
        if count:
            self._dropped[reason] += count

    def note(self, kind: str, count: int = 1) -> None:
        """Count something worth reporting, whether or not it is left out."""
        if count:
            self._notes[kind] += count

    def correct(self, kind: Kind, example: str = "", count: int = 1, of: str = "") -> None:
        """Count entries that are read differently from how they are written.

        Args:
            kind: in which way.
            example: the first of them, with its key and how it was read.
            count: how many.
            of: what the sentence counts them by, such as a class's name.
        """
        if not count:
            return
        alike = self._corrected.setdefault(kind, _Alike(example))
        alike.count += count
        if of:
            alike.more[of] += count

    @property
    def notes(self) -> dict[str, int]:
        """How often each kind of thing was noted."""
        return dict(self._notes)

    @property
    def first(self) -> tuple[str, ...]:
        """The first problem of each of the first kinds, in full, with how many share it."""
        shown = []
        for alike in list(self._alike.values())[:_SHOWN]:
            others = f" (and {alike.count - 1:,} more like it)" if alike.count > 1 else ""
            shown.append(alike.first + others)
        return tuple(shown)

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What was corrected or reported, by kind."""
        return tuple(
            kind.told(alike.count, alike.first, alike.more) for kind, alike in self._corrected.items()
        )

    @property
    def remedy(self) -> str:
        """All problems in one line, for an error that they explain."""
        return "; ".join(self.first)

    def settle(self) -> dict[str, int]:
        """Return the counts of what was left out, by reason; warn if something was.

        Raises:
            DataError: there are more problems than `max_bad`, or corrections although none are allowed.
        """
        quoted = "; ".join(self.first)
        if self._count > self._max_bad:
            problems = "1 problem" if self._count == 1 else f"{self._count} problems"
            raise DataError(
                f"{self._source}: {quoted}. {problems} in all, {self._max_bad} allowed: "
                "correct the annotations, or raise max_bad_annotations in the config to skip such entries."
            )
        self._expect_nothing_corrected()
        if self._dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self._dropped.items()))
            details = f" ({quoted})" if quoted else ""
            logger.warning("%s: left out %s%s", self._source, counts, details)
        return dict(self._dropped)

    def _expect_nothing_corrected(self) -> None:
        texts = [entry.text for entry in self.corrections if entry.corrects]
        if self._dropped[ZERO_AREA]:
            texts.append(f"{self._dropped[ZERO_AREA]:,} boxes without an area, which are left out")
        if self._notes[CLIPPED]:
            texts.append(f"{self._notes[CLIPPED]:,} boxes that extend beyond their image, which are clipped")
        if self._strict and texts:
            raise DataError(
                f"{self._source}: {'; '.join(texts)}. Nothing may be corrected, as `strict` is set: "
                "correct the file, or leave out --strict (data.strict in the config)."
            )
