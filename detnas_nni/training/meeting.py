"""Where the processes of a training on one machine meet: a store on loopback, unreachable from other
machines.

torchrun's own stores listen on every interface without a password, and the one of `--standalone` is unpickled
by torchrun: whoever can reach it can run code here.
"""

from __future__ import annotations

import os
import socket

from torch.distributed import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

BACKEND = "loopback"
"""For torchrun's `--rdzv-backend`, once `register` was called."""

_HOST = "127.0.0.1"


class LoopbackRendezvous(RendezvousHandler):
    """A single torchrun, rank 0 of 1, and the store through which its processes find each other."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        # TCPStore listens on every interface, whatever host it is given, unless it gets a listening socket.
        listener = socket.create_server((_HOST, 0))
        self._port = listener.getsockname()[1]
        self._store = TCPStore(
            _HOST,
            self._port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )

    @property
    def use_agent_store(self) -> bool:
        return True

    def get_backend(self) -> str:
        return BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        store = PrefixStore(self._run_id, self._store)
        return RendezvousInfo(store, 0, 1, RendezvousStoreInfo(_HOST, self._port))

    def get_run_id(self) -> str:
        return self._run_id

    def num_nodes_waiting(self) -> int:
        return 0

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        pass

    def shutdown(self) -> bool:
        return True


def register() -> None:
    """Make `BACKEND` known to torchrun in this process, and keep its processes' sockets on loopback, too."""
    rendezvous_handler_registry.register(BACKEND, _handler)
    # gloo and NCCL otherwise pick an interface by the host's name or the network.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")


def _handler(parameters: RendezvousParameters) -> RendezvousHandler:
    return LoopbackRendezvous(parameters.run_id)
