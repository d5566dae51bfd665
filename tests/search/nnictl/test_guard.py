"""The guard: kill one of the two that it watches, and nothing of them is left."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from detnas_nni.search.nnictl.liveness import start_guard
from detnas_nni.util.processes import Process, descendants
from tests.processes import SLEEP, gone, started, within

# A manager with a tuner behind a shell, as NNI starts it, and two trials: one with a child that ignores
# SIGTERM, one behind a shell.
MANAGER = f"""
import json, os, signal, subprocess, sys, time
python = sys.executable
sleep = {SLEEP!r}
stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + sleep
trial = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]).wait()"
tuner = subprocess.Popen(["/bin/sh", "-c", f"{{python}} -c '{{sleep}}'; true"])
subprocess.Popen([python, "-c", trial, stubborn])
subprocess.Popen(["/bin/sh", "-c", f"{{python}} -c '{{sleep}}'; true"])
print(tuner.pid, flush=True)
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


class House:
    """The manager, its tuner, their guard, and everybody who was started."""

    def __init__(self, folder, kind):
        self.child = started(MANAGER, kind)
        self.manager = Process.of(self.child.pid)
        shell = Process.of(int(self.child.said))
        assert within(60, lambda: len(descendants(shell)) == 1 and len(descendants(self.manager)) == 6)
        [self.tuner] = descendants(shell)
        self.all = [self.manager, *descendants(self.manager)]
        self.log = folder / "guard.log"
        self.guard = start_guard(self.tuner, self.manager, self.log)
        assert within(60, lambda: "watching" in self.log.read_text())  # it has looked once

    def is_empty(self, seconds):
        # What the manager left is the machine's first process's to reap, and the manager is ours.
        return within(seconds, lambda: not any(process.alive for process in [*self.all, self.guard]))


@pytest.fixture
def house(tmp_path, request):
    house = House(tmp_path, getattr(request, "param", "ready"))
    yield house
    for process in [*house.all, house.guard]:
        process.send(signal.SIGKILL)
    house.child.wait()


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="SIGKILL"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("who", ["manager", "tuner"])
def test_nothing_is_left_within_30_seconds_of_a_kill(house, who, number):
    getattr(house, who).send(number)
    assert house.is_empty(30), house.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("house", ["stubborn"], indirect=True)
def test_a_manager_that_does_not_end_is_killed(house):
    house.tuner.send(signal.SIGKILL)
    assert house.is_empty(30), house.log.read_text()


def test_all_killed_at_once_leave_nothing_and_the_guard_ends(house):
    for process in house.all:
        process.send(signal.SIGKILL)
    assert house.is_empty(10)


def test_as_long_as_both_live_nobody_is_touched(house):
    time.sleep(3)
    assert all(process.alive for process in [*house.all, house.guard])
    # Not even when its terminal goes.
    os.killpg(house.guard.pid, signal.SIGINT)
    os.killpg(house.guard.pid, signal.SIGHUP)
    time.sleep(1)
    assert house.guard.alive


def test_it_loads_neither_torch_nor_nni():
    loaded = "import sys, json, detnas_nni.search.nnictl.liveness; print(json.dumps(list(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", loaded]))
    assert not {"torch", "nni", "numpy", "pydantic"} & set(modules)
    assert gone(Process.current(), 0.1) is False
