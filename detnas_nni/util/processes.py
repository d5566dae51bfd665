"""Processes with an identity that no later process shares, their parents, and how to end them.

A pid may be reused. Together with the host and the start time, which the kernel counts from boot, it
identifies one process forever. Everything else is psutil's, whose start time of a process follows the clock,
which may be changed meanwhile.
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
    """the boot id, and the process's start in clock ticks since boot"""
    host: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now; None if there is none."""
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
        """Whether it runs on this machine. A zombie, which waits for its parent, does not."""
        if not self.is_here:
            return False
        try:
            status = psutil.Process(self.pid).status()
        except psutil.Error:
            return False
        if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return self.started == _started(self.pid)  # last: the status was that of the pid's present process

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; False if it is gone. It never reaches another process that has its pid."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The handle is that of the process that had the pid a moment ago; now check that it is this one.
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
    """The parent of this process, its parent, and so on, up to but excluding the machine's first process."""
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
    """Have the kernel send this process a signal when its parent dies, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def wait(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until processes have ended, at most this long; returns those that have not."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.alive]
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [process for process in left if process.alive]
    return left


def end(processes: Iterable[Process], grace: float = 5.0) -> None:
    """End processes: by SIGTERM first, and killed if they still run this many seconds later."""
    asked = [process for process in processes if process.send(signal.SIGTERM)]
    for process in wait(asked, grace):
        process.send(signal.SIGKILL)
    wait(asked, grace)


def _started(pid: int) -> str | None:
    """When a process started: the boot id and clock ticks since boot; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in brackets may contain anything, even brackets and spaces; the fields continue after the last
    # one.
    return f"{_boot()}/{text.rpartition(')')[2].split()[19]}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
