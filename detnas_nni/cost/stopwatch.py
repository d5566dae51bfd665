"""How long a forward pass takes, whole or block by block while it runs, on a CPU or a GPU."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Mark = Any
"""A moment: seconds on a CPU; on a GPU an event in its stream."""


class Stopwatch:
    """Marks moments on a device and tells the microseconds between two of them.

    On a CPU with one thread it is the thread's own processor time: what the clock on the wall shows on a
    machine without other work, and without the turns that other processes take. With several threads it is
    the clock on the wall.

    On a GPU the marks are events in the stream of its work, read when all of it is done: the time between two
    holds what the GPU computed and what it waited for its next kernel, as a user waits.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    def mark(self) -> Mark:
        if not self._on_gpu:
            return self._seconds()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self) -> None:
        """Until all work is done."""
        if self._on_gpu:
            torch.cuda.synchronize()

    def microseconds(self, start: Mark, end: Mark) -> float:
        return start.elapsed_time(end) * 1e3 if self._on_gpu else (end - start) * 1e6

    def whole(self, net: nn.Module, image: Tensor) -> float:
        """Microseconds of one forward pass."""
        self.wait()
        start = self.mark()
        net(image)
        end = self.mark()
        self.wait()
        return self.microseconds(start, end)


class Laps:
    """Hooks that mark when each of some modules begins and ends, in every pass while `running`."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        self._marks: list[tuple[Any, Mark, Mark]] = []
        self._begun: list[Mark] = []

    @contextmanager
    def running(self, modules: Mapping[Any, Iterable[nn.Module]]) -> Iterator[None]:
        """Mark these modules, each under its name."""
        handles = []
        for name, of_name in modules.items():
            for module in of_name:
                handles.append(module.register_forward_pre_hook(self._begin))
                handles.append(module.register_forward_hook(lambda *_, name=name: self._end(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def take(self) -> dict[Any, float]:
        """Microseconds by name since the last call, those of a name with several modules added up."""
        self._stopwatch.wait()
        taken: dict[Any, float] = {}
        for name, start, end in self._marks:
            taken[name] = taken.get(name, 0.0) + self._stopwatch.microseconds(start, end)
        self._marks.clear()
        return taken

    def _begin(self, *_: Any) -> None:
        self._begun.append(self._stopwatch.mark())

    def _end(self, name: Any) -> None:
        self._marks.append((name, self._begun.pop(), self._stopwatch.mark()))


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's as Linux tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
