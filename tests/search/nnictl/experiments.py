"""Real experiments: nnictl in a home of its own, the manager and its processes, and its REST API."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from detnas_nni.architecture import Architecture
from detnas_nni.search import nnictl
from detnas_nni.search.lock import Owner, read_owner
from detnas_nni.util.processes import Process, descendants

ROOT = Path(__file__).parents[3]
LOOPBACK = Path(nnictl.__file__).with_name("loopback.js")
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path) -> dict[str, str]:
    """NNI keeps ~/nni-experiments and ~/.config/nni."""
    return {
        **os.environ,
        "HOME": str(home),
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "NODE_OPTIONS": f"--require {LOOPBACK}",
        "OMP_NUM_THREADS": "1",
    }


class Experiment:
    """An experiment, created by `nnictl create --config FILE`. A context that leaves no process behind."""

    def __init__(self, file: Path, home: Path) -> None:
        self.file = file
        self._home = home
        self._processes: set[Process] = set()
        said = self._start("create", "--config", str(file))
        identity = re.search(r"Experiment ID: \S*?(\w{8})\b", said)
        assert identity, said
        self.id = identity[1]
        self.manager = self._manager()

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *_: object) -> None:
        # No `nnictl stop`, which imports all of NNI. The manager first: then nothing is started any more.
        self._processes |= set(self.processes())
        for process in (self.manager, *self._processes):
            process.send(signal.SIGKILL)

    def resume(self) -> None:
        """`nnictl resume`, after its manager has gone."""
        self._processes |= set(self.processes())
        self._start("resume", self.id)
        self.manager = self._manager()

    def nnictl(self, *arguments: str) -> str:
        done = self._run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _start(self, *arguments: str) -> str:
        """nnictl gives its node process three seconds, which on a busy machine is not enough."""
        for _ in range(5):
            self.port = free_port()
            done = self._run(*arguments, "--port", str(self.port))
            if done.returncode == 0:
                return done.stdout
            assert "Max retries exceeded" in done.stderr, done.stdout + done.stderr
        raise AssertionError(done.stdout + done.stderr)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "nnictl"), *arguments]
        options = {"env": environment(self._home), "cwd": self.file.parent}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)

    def rest(self, path: str, body: Any = None) -> Any:
        """The API's answer; to a POST if there is a body."""
        url = f"http://127.0.0.1:{self.port}/api/v1/nni/{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def jobs(self) -> list[dict[str, Any]]:
        """The trials, in their order."""
        return sorted(self.rest("trial-jobs"), key=lambda job: job["sequenceId"])

    def log(self, name: str) -> Path:
        return self._home / "nni-experiments" / self.id / "log" / name

    def processes(self) -> list[Process]:
        """Everything that the manager has started, and itself, alive or not."""
        return [self.manager, *descendants(self.manager)]

    def owner(self, search_dir: Path) -> Owner | None:
        """Who searches in the folder, if it is this experiment's tuner as it is now."""
        owner = read_owner(search_dir)
        return owner if owner is not None and owner.manager == self.manager else None

    def _manager(self) -> Process:
        listed = json.loads((self._home / "nni-experiments" / ".experiment").read_text())
        process = Process.of(listed[self.id]["pid"])
        assert process is not None
        return process


def write_experiment(
    folder: Path,
    write_config: Callable[..., Path],
    run_dir: Path,
    *,
    command: str = "{trial}",
    concurrency: int = 4,
    **sections: Any,
) -> Path:
    """The quickstart's search.yaml for a small config: elsewhere, smaller, otherwise the same."""
    write_config(folder / "detnas.yaml", run_dir=str(run_dir), **sections)
    values = yaml.safe_load((ROOT / "experiments/quickstart/search.yaml").read_text())
    values["searchSpaceFile"] = str(ROOT / "search_spaces/tiny.json")
    values["trialConcurrency"] = concurrency
    values["trialCommand"] = command.format(trial=values["trialCommand"])
    values.pop("maxTrialNumber", None)
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def linked_run(folder: Path, supernets: Path) -> Path:
    """A run's folder that shares the trained supernets."""
    run_dir = folder / "run"
    run_dir.mkdir(parents=True)
    (run_dir / "finetune").symlink_to(supernets / "finetune")
    return run_dir


def parameters_of(job: dict[str, Any]) -> dict[str, Any]:
    [record] = job["hyperParameters"]
    return json.loads(record)["parameters"]


def architecture_of(job: dict[str, Any]) -> Architecture:
    """What the REST API, and so the web UI, says that a trial's parameters are."""
    return Architecture.from_choices("tiny", parameters_of(job))


def final_of(job: dict[str, Any]) -> dict[str, float]:
    """NNI keeps a metric as JSON in JSON."""
    [final] = job["finalMetricData"]
    return json.loads(json.loads(final["data"]))


def wait_until(condition: Callable[[], object], seconds: float = 600.0) -> None:
    """A trial's start alone takes up to half a minute on a busy machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)
