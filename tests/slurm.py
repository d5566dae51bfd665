"""A Slurm cluster on this machine: munged, slurmctld and two nodes, a slurmd each, started by a test."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import within
from tests.search.nnictl.experiments import free_port

ROOT = Path(__file__).parents[1]
_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
# Where Debian and others have the daemons; a user's PATH often lacks it.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_START = 60  # seconds


class Cluster:
    """Two nodes of eight GPUs by name and sixteen processors, on this machine. A context.

    Everything of it lies in a folder of its own, and nothing of the machine's own Slurm is touched. It skips
    the test, and says why, where it cannot start.
    """

    def __enter__(self) -> Cluster:
        missing = [name for name in _DAEMONS if shutil.which(name, path=_PATH) is None]
        if missing:
            pytest.skip(f"no {', '.join(missing)} here: apt install slurm-wlm munge")
        if os.geteuid() != 0:
            pytest.skip("slurmd has to be started by root")
        # A socket's name may have 108 characters, more than pytest's own folders leave.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        self.environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen] = []
        self._configure()
        try:
            self._start("munged", *self._munge())
            self._wait_for("munged", (self.folder / "socket").exists)
            self._start("slurmctld", "-D")
            for node in ("a", "b"):
                self._start("slurmd", "-D", "-N", node)
            self._wait_for("slurmctld", lambda: self.says("sinfo", "-ho", "%t").split() == ["idle"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.says("squeue", "-ho", "%A").split():
            self.says("scancel", "--signal=KILL", "--full", job)
            self.says("scancel", job)
        within(30, lambda: not self.says("squeue", "-ho", "%A").strip())
        for daemon in reversed(self._daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder)

    def says(self, *command: str) -> str:
        """What one of Slurm's commands prints, on either channel."""
        done = subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout

    def submit(self, script: Path, log: Path, *options: str, **variables: object) -> Job:
        """Queue a script as sbatch does from the repository; `variables` are in its environment."""
        environment = {
            **self.environment,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), _PATH]),
            **{name: str(value) for name, value in variables.items()},
        }
        done = subprocess.run(
            ["sbatch", "--parsable", f"--output={log}", *options, str(script)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return Job(self, done.stdout.strip(), log)

    def _configure(self) -> None:
        (self.folder / "key").write_bytes(secrets.token_bytes(128))
        (self.folder / "key").chmod(0o600)
        here, user = socket.gethostname(), getpass.getuser()
        ports = [free_port() for _ in range(3)]
        gpus = [self.folder / f"gpu{number}" for number in range(8)]
        for gpu in gpus:
            gpu.touch()
        (self.folder / "gres.conf").write_text(f"NodeName=a,b Name=gpu File={self.folder}/gpu[0-7]\n")
        lines = (
            "ClusterName=test",
            f"SlurmctldHost={here}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            f"SlurmUser={user}",
            f"SlurmdUser={user}",
            # What is queued again waits until the job's old credentials have expired, 2 minutes by default.
            f"AuthInfo=socket={self.folder}/socket,cred_expire=5",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool-%n",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/slurmd-%n.pid",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SlurmdParameters=config_overrides",
            "GresTypes=gpu",
            f"NodeName=a,b NodeHostname={here} NodeAddr=127.0.0.1 Port={ports[1]},{ports[2]} "
            "CPUs=96 Gres=gpu:8 State=UNKNOWN",
            "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
        )
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n")

    def _munge(self) -> list[str]:
        names = {"key-file": "key", "socket": "socket", "pid-file": "munged.pid", "seed-file": "seed"}
        return ["--foreground", "--force", *(f"--{key}={self.folder / name}" for key, name in names.items())]

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [str(shutil.which(name, path=_PATH)), *arguments]
            self._daemons.append(
                subprocess.Popen(
                    command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def _wait_for(self, name: str, condition: Callable[[], object]) -> None:
        if not within(_START, condition):
            said = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            self.__exit__()
            pytest.skip(f"{name} does not start here: {' / '.join(said[-3:])}")


class Job:
    """A job of a cluster, by its number, and the log that it appends to."""

    def __init__(self, cluster: Cluster, number: str, log: Path) -> None:
        self.number = number
        self._cluster = cluster
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def field(self, name: str) -> str:
        """One of the fields that `scontrol show job` prints, such as JobState."""
        shown = self._cluster.says("scontrol", "--oneliner", "show", "job", self.number)
        return next(field.partition("=")[2] for field in shown.split() if field.startswith(f"{name}="))

    def set_time_limit(self, minutes: int) -> None:
        self._cluster.says("scontrol", "update", f"JobId={self.number}", f"TimeLimit={minutes}")

    def wait_until(self, condition: Callable[[], object], seconds: float = 600) -> None:
        assert within(seconds, condition), f"{self.field('JobState')}\n{self.log}"

    def end(self) -> str:
        """Wait until it has ended for good; gives Slurm's word for how, such as COMPLETED."""
        going = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED")
        self.wait_until(lambda: self.field("JobState") not in going)
        return self.field("JobState")
