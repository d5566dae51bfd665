"""How long a forward pass takes, whole or block by block, for one architecture of a trunk after another."""

from __future__ import annotations

import gc
import platform
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_nni.errors import UsageError
from detnas_nni.models.batchnorm import fold_batch_norm
from search_spaces import is_fixed, layout
from search_spaces.trunk import TrunkSpace, layer_choices

Mark = Any
"""A moment: seconds on a CPU; on a GPU an event in its stream."""


class Stopwatch:
    """Marks moments on a device and gives the microseconds between two of them.

    On a CPU with one thread it is the thread's own processor time: the wall-clock time on an otherwise idle
    machine, without the turns of other processes. With several threads it is wall-clock time.

    On a GPU the marks are events in its stream, read when all work is done: the time between two contains
    both computation and waiting for the next kernel, as a user experiences it.
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
        """Wait until all work is done."""
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
        """Mark these modules, by name."""
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
        """Microseconds by name since the last call, summed if a name has several modules."""
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
    """The GPU's name, or the CPU's according to Linux."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


_CALIBRATION_BATCH = 4  # BN needs more than one value per channel, even if a feature has one pixel


class ChangingTrunk:
    """The trunk of a space in eval mode, BN folded, with one candidate in place of each choice.

    That is the module tree that NNI builds for an architecture under `model_context`; becoming another one
    only swaps references. Weights are random, and BN has the statistics of noise, so that activations keep
    their size: if they decayed to denormal numbers, they would be slower than in any trained net.

    Args:
        space: its name.
        options: the trunk's.
        resolution: side of its images, in pixels.
        device: where it computes.

    Raises `UsageError` for a fixed net.
    """

    def __init__(
        self, space: str, options: Mapping[str, Any], resolution: int, device: torch.device | str
    ) -> None:
        if is_fixed(space):
            raise UsageError(f"{space} is one fixed net: it has no candidates to measure")
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net: nn.Module = TrunkSpace(space, **options)
            image = torch.randn(_CALIBRATION_BATCH, 3, resolution, resolution)
        labels = [choice.label for choice in layout(space)]
        places: dict[str, list[tuple[nn.Module, str, list[nn.Module]]]] = defaultdict(list)
        for name, choice in layer_choices(self.net, space).items():
            parent, _, attribute = name.rpartition(".")
            places[choice.label].append((self.net.get_submodule(parent), attribute, list(choice)))
        # A label may occur in several places, which then choose together.
        self._places = [places[label] for label in labels]
        self.sizes = [len(of_label[0][2]) for of_label in self._places]
        for module in self._everything():
            module.to(self.device)
        self._calibrate(image.to(self.device))
        for module in self._everything():
            fold_batch_norm(module)

    def become(self, ops: Sequence[int]) -> None:
        """Put the candidates of these ops into their places."""
        for places, op in zip(self._places, ops, strict=True):
            for parent, attribute, candidates in places:
                parent._modules[attribute] = candidates[op]

    def candidates(self) -> list[list[list[nn.Module]]]:
        """For each block and op, the candidate's modules: one for each place of the label."""
        return [
            [[candidates[op] for _, _, candidates in places] for op in range(size)]
            for places, size in zip(self._places, self.sizes, strict=True)
        ]

    def _everything(self) -> list[nn.Module]:
        """The current net, and every candidate."""
        return [
            self.net,
            *(module for of_block in self.candidates() for of_op in of_block for module in of_op),
        ]

    @torch.no_grad()
    def _calibrate(self, image: Tensor) -> None:
        for module in self._everything():
            module.train()
            for norm in module.modules():
                if isinstance(norm, _BatchNorm):
                    norm.momentum = 1.0  # the statistics are then those of the last batch
        for turn in range(max(self.sizes, default=1)):
            self.become([turn % size for size in self.sizes])
            self.net(image)
        for module in self._everything():
            module.eval()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """No garbage collection, which in the middle of a pass would count as one block's time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
