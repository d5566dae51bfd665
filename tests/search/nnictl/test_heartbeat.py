"""A trial's heartbeat goes on while its process lives, whatever that does, and says how it ended."""

import os
import signal
import subprocess
import sys
import time

import pytest

from detnas_nni.search.nnictl import heartbeat as heartbeat_module
from detnas_nni.search.nnictl.heartbeat import Beat, Listener, heartbeat, read_beat
from detnas_nni.util.processes import Process, descendants
from tests.processes import gone, started, within

TRIAL = """
import re, sys, time
from pathlib import Path
from detnas_nni.search.nnictl.heartbeat import heartbeat
with heartbeat(Path(sys.argv[1])):
    print("ready", flush=True)
    {body}
"""

# re holds the interpreter while it tries 2**40 ways: no thread of Python's runs.
HANGS = "re.match('(a*)*b', 'a' * 40)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "heartbeats/a1B2c"


@pytest.fixture
def trial(path):
    """Starts a trial; in the end it and its witness are gone."""
    processes = []

    def start(body):
        child = started(TRIAL.replace("{body}", body), str(path))
        assert within(
            20, lambda: len(descendants(Process.of(child.pid))) == 1 and read_beat(path) is not None
        )
        processes.extend([Process.of(child.pid), *descendants(Process.of(child.pid))])
        return child

    yield start
    for process in processes:
        process.send(signal.SIGKILL)
        assert gone(process)


def beats(path, seconds=6.0):
    before = read_beat(path)
    return within(seconds, lambda: read_beat(path) != before) and not read_beat(path).ended


def test_it_beats_also_while_the_trial_hangs_in_compiled_code(path, trial):
    trial(HANGS)
    assert beats(path)
    assert beats(path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_trial_that_is_killed_was_seen_to_end(path, trial, number):
    child = trial(HANGS)
    witness = descendants(Process.of(child.pid))
    child.send_signal(number)
    child.wait()
    assert within(10, lambda: read_beat(path).ended)
    assert all(gone(process) for process in witness)


@pytest.mark.parametrize("body", ["pass", "raise SystemExit(1)", "time.sleep(0.1); 1 / 0"])
def test_a_trial_that_ends_by_itself_has_said_so_when_it_is_gone(path, trial, body):
    child = started(TRIAL.replace("{body}", body), str(path), stderr=subprocess.DEVNULL)
    child.wait()
    assert read_beat(path).ended


def test_of_a_machine_that_dies_there_is_no_last_word(path, trial):
    child = trial(HANGS)
    both = [*descendants(Process.of(child.pid)), Process.of(child.pid)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in both:
            process.send(number)
    child.wait()
    assert all(gone(process) for process in both)
    assert not read_beat(path).ended and not beats(path, 3.0)


def test_a_trial_that_is_started_again_under_its_id_takes_its_last_word_back(path):
    for _ in range(2):
        with heartbeat(path):
            assert not read_beat(path).ended
        assert read_beat(path).ended


def test_it_beats_again_in_a_folder_that_was_away_for_a_while(path, trial):
    trial(HANGS)
    path.parent.rename(path.parent.with_name("away"))
    assert read_beat(path) is None
    assert within(10, lambda: read_beat(path) is not None)
    assert beats(path)


def test_it_imports_nothing_of_this_package_and_so_is_there_at_once(path):
    listed = (
        "import sys; sys.argv += ['nowhere', '0']; import runpy; runpy.run_path(sys.argv[1], run_name='x')"
    )
    script = f"{listed}; print(*(name for name in sys.modules if 'nni' in name or name == 'torch'))"
    command = [sys.executable, "-I", "-S", "-c", script, heartbeat_module.__file__]
    assert subprocess.check_output(command, text=True).strip() == ""


# Whoever listens.


def test_silence_is_measured_by_the_listeners_clock_and_a_beats_time_is_never_read(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(heartbeat_module.time, "monotonic", lambda: now)
    listener, silences = Listener(), []
    # The trial's clock is wrong, and is put back while it runs.
    for moment in (900, 905, 100, 105, 105, 105):
        now += 2.0
        listener.look()
        silences.append(listener.silent_for("trial", Beat(moment, False)))
    assert silences == pytest.approx([0, 0, 0, 0, 2, 4])


def test_a_stall_of_the_listener_or_of_the_folder_is_nobodys_silence(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(heartbeat_module.time, "monotonic", lambda: now)
    listener = Listener()
    listener.look()
    listener.silent_for("trial", Beat(1, False))
    now += 3600
    listener.look()
    assert listener.silent_for("trial", Beat(1, False)) == pytest.approx(5)


def test_a_beat_is_seen_by_its_change_alone(path):
    path.parent.mkdir()
    path.touch()
    os.utime(path, ns=(0, 0))
    assert read_beat(path) == Beat(0, False)
    assert read_beat(path.with_name("other")) is None
