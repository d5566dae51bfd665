"""The watchdog of a trial ends its process: hard, children and all, whatever it hangs in."""

import json
import signal
import subprocess
import sys
import time

import pytest

from detnas_nni.util.processes import Process
from tests.processes import SLEEP, gone, started, within

TRIAL = f"""
import json, subprocess, sys, time
from detnas_nni.search.nnictl import liveness
from detnas_nni.util.processes import Process
from detnas_nni.search.nnictl.liveness import Watchdog
seconds, backstop, lifeline = float(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])
liveness._BACKSTOP = backstop
nowhere = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], **nowhere)
watchdog = Watchdog([Process(**values) for values in lifeline], every=0.2)
def hangs():
    while True:
        time.sleep(0.1)
def hangs_without_python():
    # re holds the interpreter while it tries 2**40 ways.
    import re
    re.match("(a*)*b", "a" * 40)
with watchdog.limit(None if seconds == 0 else seconds, on_late=lambda text: print(text, flush=True)):
    print(child.pid, flush=True)
    {{body}}
"""


def trial(body="hangs()", seconds=0.0, backstop=30.0, lifeline=()):
    """The process, its child, and when it began to hang."""
    names = json.dumps([process.to_dict() for process in lifeline])
    child = started(TRIAL.replace("{body}", body), str(seconds), str(backstop), names, stderr=subprocess.PIPE)
    return child, Process.of(int(child.said))


def test_a_trial_that_hangs_says_where_and_is_ended_with_its_children():
    process, child = trial(seconds=1)
    assert process.wait(300) == 1
    said = process.stdout.read()
    assert said.startswith("EvaluationError: it took longer than search.max_trial_seconds (1 s) (<string>, ")
    assert said.endswith(", in hangs)\n")
    assert gone(child, 60)


def test_one_that_holds_the_interpreter_is_ended_all_the_same_and_shows_where():
    process, child = trial("hangs_without_python()", seconds=0.5, backstop=1.0)
    assert process.wait(300) == 1
    assert "in hangs_without_python" in process.stderr.read()
    child.send(signal.SIGKILL)


def test_a_trial_that_keeps_its_time_is_left_alone():
    process, child = trial("time.sleep(0.5)", seconds=30)
    assert process.wait(300) == 0
    assert process.stdout.read() == ""
    child.send(signal.SIGKILL)


@pytest.mark.parametrize("which", [0, 1], ids=["parent", "manager"])
def test_a_trial_ends_when_what_it_runs_for_has_gone(which):
    others = [subprocess.Popen([sys.executable, "-c", SLEEP]) for _ in range(2)]
    process, child = trial(lifeline=[Process.of(other.pid) for other in others])
    time.sleep(1)
    assert process.poll() is None
    others[which].kill()
    assert process.wait(300) == 1
    assert gone(child, 60)
    for other in others:
        other.kill()
        other.wait()
    assert within(60, lambda: not any(Process.of(other.pid) for other in others))
