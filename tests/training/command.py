"""`detnas` as a tree of processes: how it is started, and that nothing of it is left."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from detnas_nni.doctor.sockets import family, listeners

START = 300  # seconds that processes may take to start on a busy machine; 6 on an idle one


class Command:
    """A `detnas` with two processes, and what becomes of all that it starts."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self.errors = config.with_suffix(".err")
        command = [sys.executable, "-m", "detnas_nni.cli", *arguments, "-c", str(config)]
        with self.errors.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, cwd="/")
        self._ps = psutil.Process(self._process.pid)
        self._seen: set[psutil.Process] = {self._ps}

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that train, by rank."""
        self._look()
        return sorted(self._ps.children(), key=lambda process: process.environ()["RANK"])

    def wait_for(self, checkpoints: Path) -> None:
        """Wait until the training has written a checkpoint, in the middle of which it then is."""
        self._wait_until(lambda: bool(list(checkpoints.glob("step_*.ckpt"))))

    def wait_to_say(self, text: str) -> None:
        """Wait until its log has a text."""
        self._wait_until(lambda: text in self.errors.read_text())

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START
        while not condition():
            self._look()
            assert self._process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.05)
        assert len(self.workers) == 2

    @property
    def addresses(self) -> set[str]:
        """Where its processes listen."""
        return {listener.address for listener in listeners(family(self._process.pid))}

    def send_signal(self, signal_number: int) -> None:
        self._ps.send_signal(signal_number)

    def end(self, seconds: float) -> int:
        """Wait until the command and all processes that it started are gone; gives the exit status."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self.errors.read_text()
            self._look()
            time.sleep(0.02)
        while alive := list(filter(is_alive, self._seen)):
            assert time.monotonic() < deadline, alive
            time.sleep(0.02)
        return self._process.returncode

    @property
    def told(self) -> list[str]:
        """The lines on stderr that are no log lines."""
        lines = self.errors.read_text().splitlines()
        return [line for line in lines if not re.match(r"\d\d:\d\d:\d\d  ", line)]

    def kill(self) -> None:
        """End whatever is left."""
        self._look()
        for process in filter(is_alive, self._seen):
            process.kill()
        self._process.wait()

    def _look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self._seen.update(self._ps.children(recursive=True))


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
