"""Values, numbers and lists, worded for a sentence."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_short.maxlong = 40
_short.maxlist = _short.maxdict = 6


def show(value: object) -> str:
    """`value` as Python would write it, cut to a length that fits a message, control characters escaped."""
    return _short.repr(value)


def number(count: int, noun: str) -> str:
    """ "1 net", "3 nets"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def millions(count: int) -> str:
    """ "288M", "21.2M", "0.085M": three significant digits."""
    value = count / 1e6
    return f"{value:.0f}M" if value >= 100 else f"{value:.1f}M" if value >= 10 else f"{value:.3f}M"


def duration(seconds: float) -> str:
    """ "42 s", "3 min 5 s", "2 h 14 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
