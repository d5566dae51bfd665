"""Which processes listen where, as the Linux kernel's tables in /proc say."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTEN = "0A"


@dataclass(frozen=True)
class ListeningSocket:
    """A TCP socket that takes connections."""

    pid: int
    address: str
    port: int


def is_local(address: str) -> bool:
    """Whether this machine alone reaches what listens on the address."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def listeners(pids: Iterable[int]) -> list[ListeningSocket]:
    """The listening sockets of these processes; of one that has ended, or is another user's, none."""
    sockets = _listening_sockets()
    found = {
        ListeningSocket(pid, *sockets[inode])
        for pid in pids
        for inode in _socket_inodes(pid)
        if inode in sockets
    }
    return sorted(found, key=lambda listener: (listener.pid, listener.port, listener.address))


def processes() -> Iterator[int]:
    """The ids of all processes."""
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def family(pid: int) -> list[int]:
    """A process, and all that it has started, directly or not, and that still run."""
    children: dict[int, list[int]] = {}
    for child in processes():
        try:
            # After the name in brackets, which may hold anything, stand the state and the parent.
            parent = int((_PROC / str(child) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        children.setdefault(parent, []).append(child)
    members = [pid]
    for member in members:
        members.extend(children.get(member, []))
    return members


def arguments(pid: int) -> list[str]:
    """What a process was called with; empty if it has ended."""
    try:
        return os.fsdecode((_PROC / str(pid) / "cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        return []


def owner(pid: int) -> int | None:
    """The user id of a process; None if it has ended."""
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def _listening_sockets() -> dict[str, tuple[str, int]]:
    """Address and port of every listening socket, by its inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for line in lines:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == _LISTEN:
                address, _, port = local.partition(":")
                found[inode] = (_address(address), int(port, 16))
    return found


def _address(hexadecimal: str) -> str:
    """The kernel prints an address as words of 4 bytes, each in the machine's byte order."""
    words = re.findall("." * 8, hexadecimal)
    packed = b"".join(struct.pack("=I", int(word, 16)) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _socket_inodes(pid: int) -> Iterator[str]:
    try:
        descriptors = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)  # noqa: PTH115 - "socket:[1234]" is no path
        except OSError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            yield target.removeprefix("socket:[").removesuffix("]")
