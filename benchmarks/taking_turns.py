"""Trainings in separate processes that take turns, so that other load on the machine slows all equally.

Each gets its batches from `Turns`, which is also the clock.
"""

import hashlib
import multiprocessing
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from unittest import mock

from torch import Tensor


@dataclass(frozen=True)
class Pace:
    """How many rounds there are, and how many steps each training takes in one."""

    rounds: int
    steps: int
    warm_up: int
    """earlier rounds, which do not count"""


class Turns:
    """Batches from memory, and the clock: a step lasts from one batch to the request for the next.

    Args:
        batches: used repeatedly.
        pace: when it is another training's turn.
        connection: to the process that assigns turns.

    Attributes:
        off_the_clock: called before each step, outside its time.
        running: whether the clock is.
        parts: seconds by part of a step, see `clocks`.
    """

    def __init__(self, batches: Sequence[Any], pace: Pace, connection: Any) -> None:
        self._batches = batches
        self._pace = pace
        self._connection = connection
        self._seconds = 0.0
        self.off_the_clock: Callable[[int], object] = lambda step: None
        self.running = False
        self.parts: dict[str, float] = defaultdict(float)

    def __len__(self) -> int:
        """Number of steps, one of them untimed: after the last batch Lightning does not ask for another."""
        return (self._pace.warm_up + self._pace.rounds) * self._pace.steps + 1

    def __iter__(self) -> Iterator[Any]:
        a_turn = self._pace.steps
        for step in range(len(self) - 1):
            if step % a_turn == 0:
                self._connection.recv()
                cpu = wall = 0.0
            self.off_the_clock(step)
            self.running = step >= self._pace.warm_up * a_turn
            started = time.process_time(), time.perf_counter()
            yield self._batches[step % len(self._batches)]
            spent = time.process_time() - started[0]
            wall += time.perf_counter() - started[1]
            cpu += spent
            self._seconds += spent * self.running
            self.running = False
            if (step + 1) % a_turn == 0:
                self._connection.send({"cpu": cpu / a_turn, "wall": wall / a_turn})
        self.off_the_clock(len(self) - 1)
        yield self._batches[0]

    def microseconds(self) -> dict[str, int]:
        """A step's total, that of each part, and the rest."""
        all_parts = sum(self.parts.values())
        seconds = {"all": self._seconds, **self.parts, "rest": self._seconds - all_parts}
        steps = self._pace.rounds * self._pace.steps
        return {part: round(spent / steps * 1e6) for part, spent in seconds.items()}


Part = tuple[str, Any, str]
"""A part of a step: its name, and the class or module and the attribute that execute it."""


@dataclass(frozen=True)
class Course:
    """The time of a training's turns, and its result."""

    turns: list[dict[str, float]]
    """seconds per step of each round, CPU time as `cpu` and wall-clock time as `wall`"""
    microseconds: dict[str, int]
    """microseconds of a step by part"""
    weights: str
    """a digest of the weights"""

    @property
    def seconds(self) -> float:
        """CPU seconds of a step, in the median round."""
        return round(statistics.median(turn["cpu"] for turn in self.turns), 5)

    def ratio(self, other: "Course", clock: str = "cpu") -> list[float]:
        """To another's turns in the same rounds: lower quartile, median and upper quartile."""
        ratios = [mine[clock] / theirs[clock] for mine, theirs in zip(self.turns, other.turns, strict=True)]
        return [round(quartile, 4) for quartile in statistics.quantiles(ratios)]


def race(
    trainings: dict[Any, Callable[[Turns], dict[str, Tensor]]],
    batches: Sequence[Any],
    pace: Pace,
    parts: Sequence[Part] = (),
) -> dict[Any, Course]:
    """Let trainings take turns. Each is called with its `Turns`, and returns its weights.

    With parts, each has clocks at them, which cost time themselves.
    """
    context = multiprocessing.get_context("fork")
    lanes = {}
    for name, training in trainings.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(training, batches, pace, parts, theirs), daemon=True)
        process.start()
        theirs.close()
        lanes[name] = (process, ours)
    turns: dict[Any, list[dict[str, float]]] = {name: [] for name in lanes}
    for number in range(pace.warm_up + pace.rounds):
        for name in list(lanes)[:: -1 if number % 2 else 1]:  # none is always first
            lanes[name][1].send("go")
            turn = lanes[name][1].recv()
            if number >= pace.warm_up:
                turns[name].append(turn)
    courses = {name: Course(turns[name], *connection.recv()) for name, (_, connection) in lanes.items()}
    for process, _ in lanes.values():
        process.join()
    return courses


def _run(
    training: Callable[[Turns], dict[str, Tensor]],
    batches: Sequence[Any],
    pace: Pace,
    parts: Sequence[Part],
    connection: Any,
) -> None:
    turns = Turns(batches, pace, connection)
    with clocks(turns, parts):
        weights = training(turns)
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    connection.send((turns.microseconds(), digest.hexdigest()))


@contextmanager
def clocks(turns: Turns, parts: Sequence[Part]) -> Iterator[None]:
    """A clock at each part; time in a nested part counts only for the inner one."""
    within = [0.0]

    def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            within.append(0.0)
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.process_time() - started
                turns.parts[part] += (spent - within.pop()) * turns.running
                within[-1] += spent

        return call

    with ExitStack() as patches:
        for part, owner, name in parts:
            patches.enter_context(mock.patch.object(owner, name, clocked(part, getattr(owner, name))))
        yield
