"""Processes are known by more than their number, which is given away again."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from detnas_nni.util.processes import Process, ancestors, descendants, end, lifeline, wait
from tests.processes import SLEEP, gone, sleeping, started, within


def test_a_process_lives_until_it_has_ended():
    with sleeping() as child:
        process = Process.of(child.pid)
        assert process.alive and process.is_here
        assert process.send(signal.SIGKILL)
        assert gone(process)
        assert not process.send(signal.SIGKILL)


def test_one_that_has_ended_and_was_not_reaped_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = Process.of(child.pid)
    assert within(20, lambda: not process.alive)
    assert Process.of(child.pid) is not None  # the kernel keeps its number for the parent
    child.wait()
    assert Process.of(child.pid) is None


@pytest.mark.parametrize("change", [{"started": "another boot/1"}, {"host": "another-machine"}], ids=str)
def test_a_process_that_only_has_the_number_is_never_meant(change):
    with sleeping() as child:
        other = replace(Process.of(child.pid), **change)
        assert not other.alive
        assert not other.send(signal.SIGKILL)
        end([other], grace=0.2)
        assert Process.of(child.pid).alive


def test_its_identity_survives_being_written_down():
    assert Process.from_dict(Process.current().to_dict()) == Process.current()
    assert Process.from_dict(None) is None


def test_children_and_their_children_are_found_and_this_process_is_their_ancestor():
    family = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
print(child.pid, flush=True)
child.wait()
"""
    child = started(family)
    try:
        grandchild = Process.of(int(child.said))
        assert set(descendants(Process.of(child.pid))) == {grandchild}
        assert {Process.of(child.pid), grandchild} <= set(descendants(Process.current()))
        assert Process.of(os.getppid()) in ancestors()
        assert lifeline() == []  # no NNI has started the tests
    finally:
        end([Process.of(child.pid), grandchild])
        child.wait()


@pytest.mark.parametrize("ignores", [False, True], ids=["ends when asked", "has to be killed"])
def test_processes_are_asked_first_and_killed_then(ignores):
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if ignores else ""
    child = started(f"{script}print('ready', flush=True)\n{SLEEP}")
    end([Process.of(child.pid)], grace=1.0)
    assert child.wait(10) == -(signal.SIGKILL if ignores else signal.SIGTERM)


def test_waiting_gives_those_that_have_not_ended():
    with sleeping() as child:
        process = Process.of(child.pid)
        assert wait([process], 0.2) == [process]
        child.kill()
        assert wait([process], 10) == []


def test_a_process_can_be_tied_to_its_parents_life():
    tied = f"""
import os, sys, time
from detnas_nni.util.processes import die_with_parent
if os.fork():
    time.sleep(600)
die_with_parent()
print(os.getpid(), flush=True)
{SLEEP}
"""
    child = started(tied)
    grandchild = Process.of(int(child.said))
    assert grandchild.alive
    child.kill()
    child.wait()
    assert gone(grandchild, 5)
