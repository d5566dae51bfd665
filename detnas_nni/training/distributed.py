"""A training in several processes: which one this is, how they are started, where they meet.

The processes are torchrun's, whose environment variables say who is who. `detnas` starts it by itself for
`hardware.devices` > 1; for several machines the user does, once on each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from detnas_nni.config import Hardware
from detnas_nni.errors import ConfigError
from detnas_nni.hardware import uses_gpu


@dataclass(frozen=True)
class World:
    """The processes of a training, and this one's place among them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    """processes on this machine"""

    @property
    def is_main(self) -> bool:
        """Whether this process writes what all have come to."""
        return self.rank == 0

    def share(self, batch_size: int, key: str) -> int:
        """This process's part of a batch over all; ConfigError, naming the key, if it does not come out."""
        if batch_size % self.size:
            raise ConfigError(
                f"{key} is {batch_size}, images over all devices; it has to be a multiple of the "
                f"{self.size} processes"
            )
        return batch_size // self.size


def world() -> World:
    """As torchrun's environment variables have it; one process alone without them."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return World(*(int(os.environ[name]) for name in names))


def start_processes(hardware: Hardware, arguments: Sequence[str]) -> None:
    """Become torchrun with one `detnas` process a device, if the config asks for several; else return.

    Args:
        hardware: the config's section.
        arguments: of `detnas`, which each process is called with.

    Raises:
        ConfigError: there are not so many GPUs.
    """
    if hardware.devices == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    if uses_gpu(hardware) and torch.cuda.device_count() < hardware.devices:
        raise ConfigError(
            f"hardware.devices is {hardware.devices}, but torch finds {torch.cuda.device_count()} GPUs"
        )
    # torchrun takes the place of this process: a signal that is sent to it reaches torchrun, which ends
    # its workers.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", str(hardware.devices), "-m", "detnas_nni.cli", *arguments]
    sys.stdout.flush()
    os.execv(sys.executable, command)


@contextmanager
def joined(hardware: Hardware) -> Iterator[World]:
    """The process group, for as long as the context lasts; of one process there is none.

    Raises:
        ConfigError: the config asks for several processes, and this one was started alone.
    """
    here = world()
    if here.size == 1:
        if hardware.devices > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise ConfigError(
                f"hardware.devices is {hardware.devices}; call `detnas`, which starts so many processes, or "
                "start yours with torchrun"
            )
        yield here
        return
    if uses_gpu(hardware):
        torch.cuda.set_device(here.local_rank)
    dist.init_process_group("nccl" if uses_gpu(hardware) else "gloo")
    try:
        yield here
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()
