"""Machines for NNI's remote training service: each an sshd of its own on loopback, with a home of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from detnas_nni.util.processes import Process, descendants
from tests.processes import within
from tests.search.nnictl.experiments import BIN, environment, free_port

# sshd as root wants it, and a system's own start of sshd makes it.
_PRIVILEGE_SEPARATION = Path("/run/sshd")

# Where Debian and others have sshd; a user's PATH often lacks it.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

_MARK = "DETNAS_TEST_MACHINE"


class Machine:
    """One machine. A context that leaves no process behind, however it ends.

    Whoever logs in has `home` for a home, and an environment in which pip neither asks a registry nor changes
    anything: NNI runs `pip install nni --upgrade` at each start.

    Args:
        folder: for the machine's own, in a folder of its name, and for the keys that all have.
        name: of the machine.
        variables: what else is in that environment.
    """

    def __init__(self, folder: Path, name: str, **variables: object) -> None:
        self.name = name
        self._variables = variables
        self.home = folder / name
        self.port = free_port()
        self._keys = folder / "keys"
        self._log = self.home / "sshd.log"
        self.home.mkdir(parents=True)

    def __enter__(self) -> Machine:
        make_keys(self._keys)
        config = self.home / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in self._options()))
        with self._log.open("ab") as log:
            self._sshd = subprocess.Popen(
                [sshd(), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if not within(20, self._answers):
            self.__exit__()
            pytest.skip(f"sshd does not start here: {self._log.read_text().strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self._sshd.wait()

    def entry(self) -> dict[str, Any]:
        """For `machineList` in an experiment's YAML."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "sshKeyFile": str(self._keys / "client"),
            "pythonPath": str(BIN),
        }

    def processes(self) -> list[Process]:
        """All that runs on it. What a daemon leaves to the system is known by its environment."""
        found = [Process.of(int(entry.name)) for entry in Path("/proc").iterdir() if self._marked(entry)]
        own = Process.of(self._sshd.pid)
        roots = [process for process in [own, *found] if process is not None and process.alive]
        return list({*roots, *descendants(*roots)})

    def die(self) -> None:
        """At once, as by a power cut: nobody on it sees another die."""
        self.hang()
        for process in self.processes():
            process.send(signal.SIGKILL)
        assert within(20, lambda: not self.processes()), self.processes()

    def hang(self) -> None:
        """Nothing on it runs any more, and no connection is closed."""
        stopped: set[Process] = set()
        # Again and again: one may be starting another.
        while new := set(self.processes()) - stopped:
            for process in new:
                process.send(signal.SIGSTOP)
            stopped |= new

    def _marked(self, entry: Path) -> bool:
        if not entry.name.isdecimal():
            return False
        try:
            return f"{_MARK}={self.home}".encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def _answers(self) -> bool:
        if self._sshd.poll() is not None:
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _options(self) -> list[tuple[str, object]]:
        env = {
            "HOME": self.home,
            "PATH": environment(self.home)["PATH"],
            "NODE_OPTIONS": environment(self.home)["NODE_OPTIONS"],
            "OMP_NUM_THREADS": 1,
            "PIP_NO_INDEX": 1,
            "PIP_DRY_RUN": 1,
            _MARK: self.home,
            **self._variables,
        }
        variables = " ".join(f'"{key}={value}"' for key, value in env.items())
        return [
            ("ListenAddress", "127.0.0.1"),
            ("Port", self.port),
            ("HostKey", self._keys / "host"),
            ("AuthorizedKeysFile", self._keys / "client.pub"),
            ("PidFile", self.home / "sshd.pid"),
            ("AuthenticationMethods", "publickey"),
            ("PermitRootLogin", "prohibit-password"),
            ("StrictModes", "no"),  # a temporary folder may be writable by others
            ("UsePAM", "no"),
            ("Subsystem", "sftp internal-sftp"),
            ("SetEnv", variables),
        ]


@contextlib.contextmanager
def machines(folder: Path, **named: dict[str, object]) -> Iterator[list[Machine]]:
    """Machines by names, with variables; where there can be none the test is skipped, with the reason."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_privilege_separation())
        yield [stack.enter_context(Machine(folder, name, **variables)) for name, variables in named.items()]


@cache
def sshd() -> str:
    found = shutil.which("sshd", path=_PATH)  # sshd wants to be called by its whole path
    if found is None or shutil.which("ssh-keygen") is None:
        pytest.skip("there is no sshd here; it is in the package openssh-server")
    return found


def make_keys(folder: Path) -> None:
    """A host's key and a user's, the latter in the form that NNI can read."""
    if folder.exists():
        return
    folder.mkdir()
    for name, form in (("host", "RFC4716"), ("client", "PEM")):
        command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", form, "-N", "", "-f"]
        subprocess.run([*command, str(folder / name)], check=True, stdin=subprocess.DEVNULL)


def listening(processes: list[Process]) -> set[str]:
    """The addresses and ports on which processes listen, by the kernel's own word."""
    sockets = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(str(descriptor.readlink()))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, _, port = fields[1].partition(":")
                found.add(f"{_address(address, family)}:{int(port, 16)}")
    return found


def _address(hexadecimal: str, family: socket.AddressFamily) -> str:
    words = [hexadecimal[start : start + 8] for start in range(0, len(hexadecimal), 8)]
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(family, packed)


@contextlib.contextmanager
def _privilege_separation() -> Iterator[None]:
    if os.geteuid() != 0 or _PRIVILEGE_SEPARATION.exists():
        yield
        return
    _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _PRIVILEGE_SEPARATION.rmdir()
