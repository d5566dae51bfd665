"""Ctrl-C, held back where it must not come between."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C come after this block, not in it: for compiled code that calls Python back.

    An exception there has nowhere to go: the interrupt is lost, or the process aborts.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield  # Python handles signals in its main thread alone
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *what: came.append(what))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(*came[0])
    elif came and before is signal.SIG_DFL:
        signal.raise_signal(signal.SIGINT)
