"""Throw mutated inputs at a parser: each is accepted, or refused with an error of the package's own, soon."""

from __future__ import annotations

import logging
import resource
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from detnas_nni.data.images import BadImageError
from detnas_nni.errors import DetNASError
from search_spaces import SpaceError
from tests.fuzz.mutation import Mutation

REFUSALS = (DetNASError, SpaceError, BadImageError)
"""What may be raised for an input: the package's own errors, which name what is wrong."""

SECONDS = 5
"""An input that takes longer hangs: of the processor's time, since a machine may be busy."""

MINUTE = 60
"""On the clock: an input that waits for something takes no processor's time."""

MEGABYTES = 500
"""What the peak of the process's memory may grow by while a parser gets its inputs."""


@dataclass(frozen=True)
class Target:
    """A parser under test.

    Attributes:
        name: in the table and in messages.
        seeds: inputs that it accepts.
        mutate: makes an input of two seeds.
        parse: reads an input to the end, as a caller would; raises one of `REFUSALS`, or nothing.
    """

    name: str
    seeds: tuple[bytes, ...]
    mutate: Mutation
    parse: Callable[[bytes], None]

    def input(self, seed: int, number: int) -> bytes:
        """The input of that number, which depends on nothing else."""
        random = Random(f"{self.name} {seed} {number}")
        return self.mutate(random, random.choice(self.seeds), random.choice(self.seeds))


@dataclass(frozen=True)
class Report:
    """What came of a parser's inputs.

    Attributes:
        name: of the parser.
        outcomes: how many inputs were `accepted`, and how many refused, by the error's name.
        seconds: of the processor's time, in all, without the making of the inputs.
        slowest: seconds of the slowest input.
        megabytes: that the peak of the process's memory grew by.
    """

    name: str
    outcomes: Counter[str]
    seconds: float
    slowest: float
    megabytes: float

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count:,} {name}" for name, count in self.outcomes.most_common())
        times = f"{self.seconds:6.1f} s  slowest {self.slowest:.3f} s"
        return f"{self.name:<14} {self.outcomes.total():>7,}  {times}  +{self.megabytes:.0f} MB  {outcomes}"


class HangError(BaseException):
    """An input takes too long. No `except Exception` may swallow it."""


def fuzz(target: Target, count: int, seed: int, folder: Path) -> Report:
    """Parse `count` inputs.

    Raises AssertionError for the first one that is not accepted and not refused as it should be, that takes
    too long, or when memory has grown too far. The input is kept in `folder`.
    """
    outcomes: Counter[str] = Counter()
    total = slowest = 0.0
    with _quiet(), _alarm():
        before = _peak_megabytes(reset=True)
        for number in range(count):
            data = target.input(seed, number)
            started = time.process_time()
            try:
                outcome = _outcome(target, data)
            except (Exception, HangError) as error:
                file = folder / f"{target.name.replace(' ', '-')}-{seed}-{number}"
                file.write_bytes(data)
                raise AssertionError(
                    f"{target.name}: {type(error).__name__}: {error} at input {number} of seed {seed}, kept "
                    f"in {file}, {len(data)} bytes: {data[:300]!r}\n"
                    f"again: python -m tests.fuzz '{target.name}' --seed {seed} --only {number}"
                ) from error
            seconds = time.process_time() - started
            total, slowest = total + seconds, max(slowest, seconds)
            outcomes[outcome] += 1
        grown = _peak_megabytes() - before
    assert grown < MEGABYTES, f"{target.name}: the peak of memory grew by {grown:.0f} MB, with seed {seed}"
    return Report(target.name, outcomes, total, slowest, grown)


def _outcome(target: Target, data: bytes) -> str:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MINUTE)
    try:
        target.parse(data)
    except REFUSALS as error:
        # What is told has to be there, and to be readable: a message of megabytes is a hang for a reader.
        message = str(error)
        assert message and len(message) < 200_000, f"a message of {len(message)} characters"
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "accepted"


@contextmanager
def _alarm() -> Iterator[None]:
    def expired(number: int, _: FrameType | None) -> None:
        limit = MINUTE if number == signal.SIGALRM else SECONDS
        raise HangError(f"not done after {limit} seconds")

    numbers = (signal.SIGALRM, signal.SIGPROF)
    before = [signal.signal(number, expired) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Thousands of warnings are kept from the log; that they can be formatted is tried all the same."""
    handler = logging.Handler()
    handler.emit = lambda record: record.getMessage() and None
    loggers = [logging.getLogger(name) for name in ("detnas_nni", "PIL")]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate


def _peak_megabytes(reset: bool = False) -> float:
    """The most memory that the process has held at once, since the last reset where the system has one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on a Mac
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
