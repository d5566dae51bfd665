"""Which processes listen where.

psutil is imported only when needed: the doctor is useful even without it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class ListeningSocket:
    """A TCP socket that takes connections."""

    pid: int
    address: str
    port: int


def is_local(address: str) -> bool:
    """Whether only this machine can reach a socket on this address."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def listeners(pids: Iterable[int]) -> list[ListeningSocket]:
    """The listening sockets of these processes; none for one that has ended or is another user's."""
    import psutil

    found = set()
    for pid in pids:
        with suppress(psutil.Error):
            found |= {
                ListeningSocket(pid, *connection.laddr)
                for connection in psutil.Process(pid).net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    return sorted(found, key=lambda listener: (listener.pid, listener.port, listener.address))


def family(pid: int) -> list[int]:
    """A process and all its running descendants."""
    import psutil

    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return [pid]


def arguments(pid: int) -> list[str]:
    """A process's command line; empty if it has ended."""
    import psutil

    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def owner(pid: int) -> int | None:
    """A process's user id; None if it has ended."""
    import psutil

    try:
        return psutil.Process(pid).uids().effective
    except psutil.Error:
        return None
