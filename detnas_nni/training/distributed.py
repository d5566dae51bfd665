"""Training in several processes: which one this is, how they are started, where they meet.

The processes are torchrun's, whose environment variables identify each. `detnas` starts it by itself for
`hardware.devices` > 1; for several machines the user does, once on each.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from detnas_nni.config import Hardware
from detnas_nni.errors import ConfigError, DetNASError
from detnas_nni.models.hardware import uses_gpu

_LONGEST_WAIT = timedelta(hours=2)
"""how long the others wait while the main process measures a net; torch's limit on GPUs is 10 minutes"""

_meetings = itertools.count()


@dataclass(frozen=True)
class World:
    """The processes of a training, and this one's rank among them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    """processes on this machine"""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the results of all."""
        return self.rank == 0

    def share(self, batch_size: int, key: str) -> int:
        """This process's share of a batch over all; ConfigError, naming the key, if it is not whole."""
        if batch_size % self.size:
            raise ConfigError(
                f"{key} is {batch_size}, images over all devices; it has to be a multiple of the "
                f"{self.size} processes"
            )
        return batch_size // self.size


def world() -> World:
    """The world given by torchrun's environment variables; without them, a single process."""
    if not _is_started_by_torchrun():
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return World(*(int(os.environ[name]) for name in names))


def start_processes(hardware: Hardware, arguments: Sequence[str]) -> None:
    """Run one `detnas` per device if the config asks for several, and exit with their status; else return.

    Args:
        hardware: the config's section.
        arguments: of `detnas`, which each process is called with.

    Raises:
        ConfigError: there are not that many GPUs.
        DetNASError: a process was killed from outside, for example for lack of memory.
        SystemExit: the processes have ended; those that failed have reported why.
    """
    if hardware.devices == 1 or _is_started_by_torchrun():
        return
    # Imported here: each trial imports this module when it starts, but never starts processes.
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from detnas_nni.training import meeting

    if uses_gpu(hardware) and torch.cuda.device_count() < hardware.devices:
        raise ConfigError(
            f"hardware.devices is {hardware.devices}, but torch finds {torch.cuda.device_count()} GPUs"
        )
    # Without a number torch would take every core in every process.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // hardware.devices)))
    meeting.register()
    rendezvous = ["--rdzv-backend", meeting.BACKEND, "--rdzv-endpoint", "127.0.0.1:0"]
    processes = ["--nproc-per-node", str(hardware.devices), "-m", "detnas_nni.cli", *arguments]
    sys.stdout.flush()
    logging.disable(logging.ERROR)  # torchrun's own version of what its processes, or this function, report
    try:
        torchrun.run(torchrun.parse_args([*rendezvous, *processes]))
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from None
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        if first.exitcode < 0:
            raise DetNASError(
                f"process {rank} of {hardware.devices} was ended by {signal.Signals(-first.exitcode).name}; "
                "run the same command again to resume"
            ) from None
        raise SystemExit(first.exitcode) from None
    finally:
        logging.disable(logging.NOTSET)
    raise SystemExit(0)


@contextmanager
def joined(hardware: Hardware) -> Iterator[World]:
    """The process group, for as long as the context lasts; a single process has none.

    If an error ends the processes, the first raises it; the others, which fail for the same reason or
    because the first is gone, exit silently.

    Raises:
        ConfigError: the config asks for several processes, and this one was started alone.
    """
    here = world()
    if here.size == 1:
        if hardware.devices > 1 and not _is_started_by_torchrun():
            raise ConfigError(
                f"hardware.devices is {hardware.devices}; call `detnas`, which starts that many processes, "
                "or start your own with torchrun"
            )
        yield here
        return
    device = torch.device("cuda", here.local_rank) if uses_gpu(hardware) else None
    if device is not None:
        torch.cuda.set_device(device)
    store, rank, size = next(dist.rendezvous("env://", timeout=_LONGEST_WAIT))
    # torchrun's store outlives a group: the next one must not find the old one's addresses.
    store = dist.PrefixStore(f"meeting {next(_meetings)}", store)
    dist.init_process_group(
        "gloo" if device is None else "nccl",
        store=store,
        rank=rank,
        world_size=size,
        timeout=_LONGEST_WAIT,
        device_id=device,
    )
    try:
        yield here
    except BaseException as error:
        # The group stays: NCCL would shut it down jointly with the others, which are waiting elsewhere.
        if store.add("failed", 1) == 1 or isinstance(error, SystemExit):
            raise
        if not isinstance(error, KeyboardInterrupt):
            time.sleep(10)  # torchrun ends this process once the first has reported and exited
        raise SystemExit(1) from None
    dist.destroy_process_group()


def barrier() -> None:
    """Wait until all processes get here."""
    if dist.is_initialized():
        dist.barrier()


def _is_started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ
