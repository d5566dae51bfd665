"""Progress of something long: a bar where someone watches, and a log line every so often elsewhere.

A bar is redrawn in place, which makes a mess in a file or in NNI's captured output. It is therefore only
shown on a terminal, and never in a process that NNI has started. Log lines from any part of the program
appear above it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from detnas_nni.util.text import duration as in_words

_log = logging.getLogger(__name__)

Item = TypeVar("Item")

LINE_EVERY = 30.0
"""Seconds between two log lines where there is no bar."""

FORECAST_AFTER = 5.0
"""Seconds of steps that a forecast is based on."""

_REDRAWN_EVERY = 0.25  # seconds

# Set by NNI in the processes that it starts: trials (the first three) and the tuner.
_NNI = ("NNI_TRIAL_JOB_ID", "NNI_PLATFORM", "NNI_EXP_ID", "NNI_TUNER_COMMAND_CHANNEL")

_FORMAT = "{desc}  {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}  {pace}  {remaining} left{postfix}"


class _Bar(tqdm):
    monitor_interval = 0  # no tqdm thread, beside which loader processes would be forked

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        new, seconds = values["n"] - values["initial"], values["elapsed"]
        rate = values["rate"] or (new / seconds if seconds else 0)
        return {**values, "pace": _rate(rate, values["unit"]) if rate else "…"}


def is_watched() -> bool:
    """Whether someone watches this process's stderr: a terminal that can redraw a line, and not NNI's."""
    return (
        sys.stderr.isatty()
        and os.environ.get("TERM") != "dumb"
        and not any(name in os.environ for name in _NNI)
    )


class ProgressBar:
    """The progress of a task; a context manager, which removes the bar at the end, or leaves it as it is.

    Args:
        total: how much there is to do.
        what: a word or two for it.
        unit: of what is done, in the singular.
        done: how much an interrupted run had already done.
        lines: whether to log a line every `LINE_EVERY` seconds if there is no bar; for tasks that log none.
        delay: seconds until the bar appears, for tasks that are mostly quick.
        stays: whether the bar is left on the screen at the end.
    """

    def __init__(
        self,
        total: int,
        what: str,
        unit: str,
        *,
        done: int = 0,
        lines: bool = True,
        delay: float = 0.0,
        stays: bool = True,
    ) -> None:
        self.total = total
        self.done = done
        self._what = what
        self._unit = unit
        self._lines = lines
        self._started_with, self._started = done, time.monotonic()
        self._last_line = self._started
        self._shown: dict[str, str] = {}
        self._ends = ExitStack()
        self._bar: tqdm | None = None
        if is_watched():
            self._ends.enter_context(logging_redirect_tqdm(_console_loggers(), tqdm_class=_Bar))
            self._bar = _Bar(
                total=total,
                initial=done,
                desc=what,
                unit=unit,
                delay=delay,
                leave=stays,
                mininterval=_REDRAWN_EVERY,
                miniters=1,
                dynamic_ncols=True,
                bar_format=_FORMAT,
                file=sys.stderr,
            )
            self._ends.callback(self._bar.close)

    @property
    def is_live(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def advance(self, count: int = 1) -> None:
        """Count this much more as done."""
        self.to(self.done + count)

    def to(self, done: int, **shown: str) -> None:
        """Set how much is done by now; `shown` are values to show beside it from now on."""
        self._shown |= shown
        if self._bar is not None:
            if shown:
                self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update(done - self.done)
            self.done = done
            return
        self.done = done
        if self._lines and time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            self._log_line()

    def write(self, text: str) -> None:
        """Print a line to stdout, above the bar if there is one."""
        if self._bar is None:
            print(text, flush=True)
        else:
            _Bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def close(self) -> None:
        """Restore normal logging."""
        if self._bar is not None and self._bar.leave:
            self._bar.refresh()
        self._ends.close()
        self._bar = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _log_line(self) -> None:
        new, seconds = self.done - self._started_with, time.monotonic() - self._started
        pace = "" if new <= 0 else f"  {_rate(new / max(seconds, 1e-9), self._unit)}"
        left = "" if new <= 0 else f"  {duration((self.total - self.done) * seconds / new)} left"
        values = "".join(f"  {name} {value}" for name, value in self._shown.items())
        _log.info("%s: %d/%d %ss%s%s%s", self._what, self.done, self.total, self._unit, pace, left, values)


class Forecast:
    """Says once how long something will take here, as soon as a few of its steps have been measured.

    Args:
        total: how much there is to do.
        what: a word or two for it.
        unit: of what is done, in the singular.
    """

    def __init__(self, total: int, what: str, unit: str) -> None:
        self._total = total
        self._what = what
        self._unit = unit
        self._first: tuple[int, float] | None = None  # how much was done first, and when
        self._said = False

    def at(self, done: int) -> None:
        """Report how much is done by now."""
        now = time.monotonic()
        if self._first is None:  # it includes setting up, so it does not count
            self._first = (done, now)
        first, since = self._first
        measured = done > first and now - since >= FORECAST_AFTER
        if self._said or not measured or done >= self._total:
            return
        self._said = True
        rate = (done - first) / (now - since)
        _log.info(
            "%s: %s left on this machine, judging by its first %ss (%s)",
            *(self._what, in_words((self._total - done) / rate), self._unit, _rate(rate, self._unit)),
        )


def watched(items: Iterable[Item], total: int, what: str, unit: str, *, delay: float = 0.0) -> Iterator[Item]:
    """The items, with a bar that disappears when they end; arguments as for `ProgressBar`."""
    with ProgressBar(total, what, unit, delay=delay, stays=False) as bar:
        for item in items:
            yield item
            bar.advance()


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _rate(per_second: float, unit: str) -> str:
    """A readable form of a rate above 0: per second, or seconds per unit if it is slow."""
    return f"{per_second:.1f} {unit}s/s" if per_second >= 1 else f"{1 / per_second:.1f} s/{unit}"


def _console_loggers() -> list[logging.Logger]:
    """The loggers that write to this process's stdout or stderr themselves: the root, NNI's and others'."""
    known: list[Any] = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        logger
        for logger in known
        if isinstance(logger, logging.Logger)
        and any(getattr(handler, "stream", None) in (sys.stdout, sys.stderr) for handler in logger.handlers)
    ]
