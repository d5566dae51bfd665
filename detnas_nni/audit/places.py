"""Where trainings run side by side: GPUs handed out in turn, or shares of the CPU cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from detnas_nni.config import Hardware
from detnas_nni.errors import UsageError
from detnas_nni.hardware import uses_gpu


@dataclass(frozen=True)
class Place:
    """Where one training at a time runs.

    Attributes:
        environment: what its processes find there, such as their GPUs.
    """

    environment: Mapping[str, str]


@dataclass(frozen=True)
class Places:
    """Attributes:
    all: as many as trainings run side by side.
    threads: torch's in each, where the config leaves them open; None leaves them to torch.
    at_a_time: how many trainings make progress as one alone does.
    """

    all: tuple[Place, ...]
    threads: int | None
    at_a_time: int


def places(hardware: Hardware, jobs: int) -> Places:
    """So many places on this machine.

    Each training has `hardware.devices` GPUs; single ones are shared if there are more jobs than GPUs. CPU
    cores are divided among the jobs, unless the config says how many threads each takes.

    Raises:
        UsageError: trainings on several GPUs each would have to share them.
    """
    return _on_gpus(hardware.devices, jobs) if uses_gpu(hardware) else _on_cpus(hardware, jobs)


def _on_gpus(devices: int, jobs: int) -> Places:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    groups = [gpus[start : start + devices] for start in range(0, len(gpus) - devices + 1, devices)]
    if jobs == 1 or not groups:  # of too few GPUs the training itself tells
        return Places((Place({}),) * jobs, None, 1)
    if devices > 1 and jobs > len(groups):
        raise UsageError(
            f"--jobs {jobs}: each training takes the {devices} GPUs of hardware.devices, and there are "
            f"{len(gpus)}; give --jobs {len(groups)}, or set hardware.devices=1"
        )
    handed_out = (groups[number % len(groups)] for number in range(jobs))
    found = tuple(Place({"CUDA_VISIBLE_DEVICES": ",".join(group)}) for group in handed_out)
    return Places(found, None, min(jobs, len(groups)))


def _on_cpus(hardware: Hardware, jobs: int) -> Places:
    cores = len(os.sched_getaffinity(0))
    threads = hardware.threads
    if threads is None and jobs > 1:
        threads = max(1, cores // jobs)
    taken = cores if threads is None else threads * hardware.devices
    return Places((Place({}),) * jobs, threads, max(1, min(jobs, cores // taken)))
