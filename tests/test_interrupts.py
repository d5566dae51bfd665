"""Ctrl-C that comes while torch writes: it is neither lost, nor does it tear the file."""

import signal
import threading

import pytest
import torch

from detnas_nni.interrupts import interrupts_wait
from detnas_nni.training.weights import write_tensors


@pytest.fixture(autouse=True)
def as_on_a_terminal():
    """What a shell starts in the background ignores Ctrl-C, and so may these tests' process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_comes_after_the_block_and_not_in_it():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest")
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
