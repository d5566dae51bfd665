"""Processes by an identity that no later process shares, who their parents are, and how they are ended.

A process number is given away again. Together with the host and the moment of the start, as the kernel
counts it since the machine's own, it names one process for good. All else is psutil's, whose start of a
process is by the clock, which may be set meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


@dataclass(frozen=True)
class Process:
    """One process, alive or not."""

    pid: int
    started: str
    """of the machine's start and of the process's, in clock ticks since then"""
    host: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has a number now; None if none has."""
        started = _started(pid)
        return None if started is None else cls(pid, started, socket.gethostname())

    @classmethod
    def current(cls) -> Process:
        return cls.of(os.getpid()) or cls(os.getpid(), "unknown", socket.gethostname())

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> Process | None:
        return None if values is None else cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether it runs on this machine. One that has ended and waits for its parent to notice does not."""
        if not self.is_here:
            return False
        try:
            status = psutil.Process(self.pid).status()
        except psutil.Error:
            return False
        if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return self.started == _started(self.pid)  # last: the status was that of who has the number now

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; False if it is gone. It never reaches another process of the same number."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The handle is the process's that had the number a moment ago; now look whether it is this one.
            if not self.alive:
                return False
            signal.pidfd_send_signal(handle, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def descendants(*roots: Process) -> list[Process]:
    """The children of processes, their children, and so on; without the processes themselves."""
    found: list[Process | None] = []
    for root in roots:
        with suppress(psutil.Error):
            if root.alive:
                children = psutil.Process(root.pid).children(recursive=True)
                found += [Process.of(child.pid) for child in children]
    return [process for process in found if process is not None]


def ancestors() -> list[Process]:
    """The parent of this process, its parent, and so on, up to but without the machine's first process."""
    found = [Process.of(parent.pid) for parent in psutil.Process().parents() if parent.pid > 1]
    return [process for process in found if process is not None]


def lifeline() -> list[Process]:
    """The ancestors of an NNI trial or tuner up to NNI's own process, which started it; empty outside NNI."""
    found = ancestors()
    for position, process in enumerate(found):
        with suppress(psutil.Error):
            if "nni_node" in " ".join(psutil.Process(process.pid).cmdline()):
                return found[: position + 1]
    return []


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when its parent dies, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def wait(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until processes have ended, so long at most; gives those that have not."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.alive]
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [process for process in left if process.alive]
    return left


def end(processes: Iterable[Process], grace: float = 5.0) -> None:
    """End processes: asked first, by SIGTERM, and killed if they still run so many seconds later."""
    asked = [process for process in processes if process.send(signal.SIGTERM)]
    for process in wait(asked, grace):
        process.send(signal.SIGKILL)
    wait(asked, grace)


def _started(pid: int) -> str | None:
    """When a process began, of the machine's start and in clock ticks since then; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in brackets may hold anything, brackets and spaces too; the fields go on behind the last one.
    return f"{_boot()}/{text.rpartition(')')[2].split()[19]}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
