"""Real processes to be watched, killed and counted."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from detnas_nni.util.processes import Process

SLEEP = "import time; time.sleep(600)"


def started(script: str, *arguments: str, **options: object) -> subprocess.Popen:
    """A Python process that has said "ready", or whatever its first line is."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, **options
    )
    child.said = child.stdout.readline().strip()
    return child


@contextlib.contextmanager
def sleeping(script: str = SLEEP) -> Iterator[subprocess.Popen]:
    """A process that does nothing, killed and reaped in the end."""
    child = started(f"print('ready', flush=True)\n{script}")
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether a condition comes to hold in this time."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(holds)


def gone(process: Process, seconds: float = 30.0) -> bool:
    return within(seconds, lambda: not process.alive)
