"""Ctrl-C and SIGTERM where Python would lose them: they come a moment later, and nothing is torn."""

import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from detnas_nni.training.tensors import write_tensors
from detnas_nni.util.interrupts import interrupts_come_again, interrupts_wait

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def as_on_a_terminal():
    """What a shell starts in the background ignores Ctrl-C, and so may these tests' process."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@SIGNALS
def test_an_interrupt_comes_after_the_block_and_not_in_it(number):
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(number)
        done.append("the rest")
    assert done == ["the rest"]
    assert signal.getsignal(number) is signal.default_int_handler


def test_sigterm_that_nobody_handles_ends_the_process_after_the_block():
    script = """
import signal
from detnas_nni.util.interrupts import interrupts_wait
with interrupts_wait():
    signal.raise_signal(signal.SIGTERM)
    print("the rest", flush=True)
print("not reached", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "the rest\n")


# Python calls hooks on the way through a fork and ignores what they raise; a signal that came while the
# kernel forked raises in the first of them. Here it comes in a hook.
FORKED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.default_int_handler)
from detnas_nni.data.loaders import ImageLoader
os.register_at_fork(after_in_parent=lambda: signal.raise_signal(number))
for number in map(int, sys.argv[1:]):
    try:
        print("lost", list(ImageLoader(range(4), num_workers=1)))
    except KeyboardInterrupt:
        print("interrupted by", number)
"""


def test_an_interrupt_while_a_loader_process_is_forked_is_not_lost():
    ended = subprocess.run(
        [sys.executable, "-c", FORKED, *(str(int(number)) for number in (signal.SIGINT, signal.SIGTERM))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "interrupted by 2\ninterrupted by 15\n"
    assert "Exception ignored" not in ended.stderr


def test_without_one_and_after_an_error_the_handler_is_as_it_was():
    with interrupts_wait():
        pass
    with pytest.raises(OSError), interrupts_wait():
        raise OSError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_nothing_is_held_back():
    seen = []

    def work():
        with interrupts_wait():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


class Finalized:
    def __del__(self):
        signal.raise_signal(self.number)


@SIGNALS
def test_an_interrupt_of_a_finalizer_comes_again(number):
    if number == signal.SIGTERM:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a process that a shell started in the background
    finalized = Finalized()
    finalized.number = number
    with pytest.raises(KeyboardInterrupt), interrupts_come_again():
        del finalized
        time.sleep(10)  # no empty loop: CPython 3.13.0 lets what interrupts its jump pass by the `with`
        pytest.fail("the interrupt was lost")


def test_other_errors_of_a_finalizer_are_reported_as_ever(capsys, monkeypatch):
    class Failing:
        def __del__(self):
            raise OSError("of a finalizer")

    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    with interrupts_come_again():
        failing = Failing()
        del failing
    assert "of a finalizer" in capsys.readouterr().err
    assert sys.unraisablehook is sys.__unraisablehook__


def test_a_file_that_is_interrupted_while_torch_writes_it_is_whole(tmp_path):
    class Interrupting(dict):
        """Ctrl-C, in the middle of pickling."""

        def __reduce__(self):
            signal.raise_signal(signal.SIGINT)
            return dict, ({"after": torch.ones(3)},)

    with pytest.raises(KeyboardInterrupt):
        write_tensors(tmp_path / "a.pt", {"before": torch.zeros(100_000), "interrupting": Interrupting()})
    found = torch.load(tmp_path / "a.pt", weights_only=False)
    assert found["interrupting"]["after"].tolist() == [1, 1, 1]
