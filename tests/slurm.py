"""A Slurm cluster of this machine alone, with its own munge, ports and folder, for as long as a test runs."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
_SBIN = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])

_CONF = """\
ClusterName=trial
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
# A job that is queued again may start after as many seconds; 120 by default.
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
# As many as the scripts ask for, whatever the machine has.
NodeName=localhost NodeAddr=127.0.0.1 CPUs=64 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SlurmdParameters=config_overrides
"""


def missing() -> list[str]:
    """The programs of Slurm and munge that this machine does not have."""
    return [program for program in PROGRAMS if _find(program) is None]


@dataclass(frozen=True)
class Cluster:
    """Slurm's commands, answered by the test's own cluster."""

    folder: Path

    def __call__(self, program: str, *arguments: object, cwd: Path | None = None, **variables: str) -> str:
        """Run one of Slurm's programs; gives what it prints."""
        command = [str(_find(program)), *map(str, arguments)]
        env = os.environ | variables | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self("scontrol", "show", "job", number, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start munged, slurmctld and slurmd in an empty folder, and end them with all that they have started."""
    folder.chmod(0o700)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf = _CONF.format(folder=folder, user=getpass.getuser(), ports=_free_ports())
    (folder / "slurm.conf").write_text(conf)
    files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = [f"--{option}={folder}/munge.{ending}" for option, ending in files.items()]
    started = []
    try:
        for daemon in (
            ["munged", "--force", "--foreground", *munged],
            ["slurmctld", "-D", "-f", folder / "slurm.conf"],
            ["slurmd", "-D", "-f", folder / "slurm.conf"],
        ):
            with (folder / f"{daemon[0]}.out").open("w") as out:
                command = [str(_find(daemon[0])), *map(str, daemon[1:])]
                started.append(psutil.Popen(command, stdout=out, stderr=subprocess.STDOUT))
            if daemon[0] == "munged":
                _wait_for(folder / "munge.sock")
        here = Cluster(folder)
        _wait_until_idle(here)
        yield here
    finally:
        for daemon in reversed(started):
            everything = [*daemon.children(recursive=True), daemon] if daemon.is_running() else [daemon]
            for process in everything:
                process.terminate()
            _, alive = psutil.wait_procs(everything, timeout=10)
            for process in alive:
                process.kill()


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def _free_ports() -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait_for(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.1)


def _wait_until_idle(here: Cluster, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if "State=IDLE" in here("scontrol", "show", "node", "localhost"):
                return
        except AssertionError:  # slurmctld does not answer yet
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, (here.folder / "slurmctld.log").read_text()
        time.sleep(0.5)
