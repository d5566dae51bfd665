"""An end to an evaluation that hangs, and to a trial whose NNI has gone."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detnas_nni.errors import EvaluationError, UsageError
from detnas_nni.search.outcomes import Failure
from detnas_nni.util.processes import Process, descendants

# Seconds after its limit at which a trial is ended without Python's help: code that holds the interpreter
# keeps the watchdog from running.
_BACKSTOP = 30.0

_AGAIN = 1.0  # seconds


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise EvaluationError in this block after so many seconds; no limit if None.

    For the main thread, where Python handles signals. It interrupts waits and Python code; a single call into
    compiled code that never comes back is not interrupted. A trial of nnictl is (see `Watchdog`).

    Raises UsageError in another thread.
    """
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "search.max_trial_seconds needs a search in the process's main thread; leave it out, or search "
            "by nnictl"
        )

    def too_late(*_: object) -> None:
        raise _TooLate

    before = signal.signal(signal.SIGALRM, too_late)
    # Again and again: a library may pass over the first one, whatever it is.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TooLate:
        raise EvaluationError(_too_long(seconds)) from None
    finally:  # once more, since the alarm may come in the very moment of leaving
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _TooLate(BaseException):
    """No Exception: who reads images takes any of these for a bad image, and goes on with the next."""


class Watchdog:
    """Ends this process, hard and with all its children, when its time is up or what it runs for has gone.

    Args:
        lifeline: processes without which this one has no purpose, such as NNI's manager.
        every: seconds between two looks.
    """

    def __init__(self, lifeline: Sequence[Process], every: float = 1.0) -> None:
        self._lifeline = lifeline
        self._every = every
        self._deadline: float | None = None
        self._on_late: Callable[[Failure], None] = lambda failure: None
        self._seconds = 0.0
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    @contextmanager
    def limit(self, seconds: float | None, on_late: Callable[[Failure], None]) -> Iterator[None]:
        """Give this block so many seconds; `on_late` is called before the process ends."""
        if seconds is None:
            yield
            return
        self._seconds, self._on_late = seconds, on_late
        self._deadline = time.monotonic() + seconds
        faulthandler.dump_traceback_later(seconds + _BACKSTOP, exit=True)
        try:
            yield
        finally:
            self._deadline = None
            faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        while True:
            time.sleep(self._every)
            if not all(process.alive for process in self._lifeline):
                _end_now()
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                try:
                    self._on_late(Failure(f"EvaluationError: {_too_long(self._seconds)} {_where()}"))
                finally:
                    _end_now()


def _too_long(seconds: float) -> str:
    return f"it took longer than search.max_trial_seconds ({seconds:g} s)"


def _where() -> str:
    """Where the main thread is, as the last line of its traceback."""
    frame = sys._current_frames()[threading.main_thread().ident]
    last = traceback.extract_stack(frame)[-1]
    return f"({Path(last.filename).name}, line {last.lineno}, in {last.name})"


def _end_now() -> None:
    for process in descendants(Process.current()):
        process.send(signal.SIGKILL)
    os._exit(1)
