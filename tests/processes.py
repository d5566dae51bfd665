"""Real processes to be watched, killed and counted."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from detnas_nni.util.processes import Process, descendants

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


@contextlib.contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """A process, killed in the end with all that it has started, also when a test fails."""
    try:
        yield process
    finally:
        below = descendants(Process.of(process.pid)) if process.poll() is None else []
        process.kill()
        for one in below:
            one.send(signal.SIGKILL)
        process.communicate()


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether a condition comes to hold in this time."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(holds)


def gone(process: Process, seconds: float = 30.0) -> bool:
    return within(seconds, lambda: not process.alive)
