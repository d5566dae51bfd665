"""Ctrl-C and SIGTERM: never lost, and deferred where they must not interrupt."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_AGAIN = 0.1  # seconds


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until after this block: for compiled code that calls back into Python.

    An exception there cannot propagate. In torch's writer the interrupt is lost, or the process aborts. In
    a fork, which starts a loader process, Python calls the hooks of other modules and ignores what they
    raise; logging's hook, if interrupted, does not release its lock.
    """
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    if threading.current_thread() is not threading.main_thread() or None in before.values():
        yield  # Python handles signals only in its main thread
        return
    came: dict[int, FrameType | None] = {}
    for number in _NUMBERS:
        signal.signal(number, came.__setitem__)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came.items():
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler is signal.SIG_DFL:
            signal.raise_signal(number)


@contextmanager
def interrupts_come_again() -> Iterator[None]:
    """If Python ignores an interrupt in this block, repeat it a moment later.

    Python has to ignore what a finalizer raises, and some take long: that of a data loader waits until its
    processes have ended, and that is where a search that loads images for each candidate often is.
    """
    before = sys.unraisablehook
    timers: list[threading.Timer] = []

    def hook(unraisable: Any, /) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        # A signal that arrived in here would be ignored, too.
        timers.append(threading.Timer(_AGAIN, _interrupt))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def _interrupt() -> None:
    """Send this process the signal that raises KeyboardInterrupt: SIGINT, or SIGTERM if SIGINT is ignored."""
    for number in _NUMBERS:
        if callable(signal.getsignal(number)):
            os.kill(os.getpid(), number)
            return
