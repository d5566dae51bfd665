"""Ctrl-C and SIGTERM: not lost, and held back where they must not come between."""

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
    """Let Ctrl-C and SIGTERM come after this block, not in it: for compiled code that calls Python back.

    An exception there has nowhere to go. In torch's writer the interrupt is lost, or the process aborts. In
    a fork, as starts a loader process, Python calls the hooks of other modules and ignores what they raise;
    logging's, so interrupted, does not give its lock back.
    """
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    if threading.current_thread() is not threading.main_thread() or None in before.values():
        yield  # Python handles signals in its main thread alone
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
    """Where Python ignores an interrupt in this block, let it come once more a moment later.

    Python has to ignore what a finalizer raises, and some take long: that of a data loader waits until its
    processes have ended, and this is where a search that loads images for each candidate is often met.
    """
    before = sys.unraisablehook
    timers: list[threading.Timer] = []

    def hook(unraisable: Any, /) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        # A signal that came in here would be ignored, too.
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
    """Send this process what raises KeyboardInterrupt: Ctrl-C, or SIGTERM where Ctrl-C is ignored."""
    for number in _NUMBERS:
        if callable(signal.getsignal(number)):
            os.kill(os.getpid(), number)
            return
