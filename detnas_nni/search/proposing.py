"""Parts of strategies: the proposer that draws architectures, and a base that makes NNI's models."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from nni.nas.execution import ExecutionEngine
from nni.nas.strategy.base import Strategy
from numpy.typing import ArrayLike

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.cost.limits import FeasibleSet
from detnas_nni.search.space import CandidateModel
from search_spaces import layout

# Redraws of one child before a random architecture takes its place: with the paper's numbers one in three
# redraws succeeds, and near the end of a small space hardly any.
MOST_REDRAWS = 200


class Proposer:
    """Draws architectures that keep the constraint and have not been proposed before.

    Args:
        space: the trunk's.
        feasible: knows the constraint.
        rng: what is drawn from.
        around: a net that is known to be good, near which `fresh` draws; None for anywhere.
    """

    def __init__(
        self, space: str, feasible: FeasibleSet, rng: np.random.Generator, around: Ops | None = None
    ) -> None:
        self.space = space
        self.rng = rng
        self.seen: set[Ops] = set()
        self._feasible = feasible
        self._around = around
        self._candidates = np.array([len(choice.candidates) for choice in layout(space)])

    def random(self) -> Ops | None:
        """A new architecture, uniform over the feasible ones while there are many; None if none is left."""
        return self._take(self._feasible.random_unseen(self.rng, self.seen))

    def fresh(self, probability: float) -> tuple[Ops | None, str]:
        """A new architecture that comes from no parent, and its origin; None if none is left.

        It is random, or, around a known net, the net itself, then its mutations with the given probability,
        each brought within the limits.
        """
        net = self._around
        if net is None:
            return self.random(), "random"
        if self.accept(net):
            return net, "given"
        ops = self._redraw(lambda: self._feasible.lowered(self.rng, self._mutated(net, probability)))
        return (self.random(), "random") if ops is None else (ops, "mutation")

    def mutation(self, parent: Callable[[], ArrayLike], probability: float) -> Ops | None:
        """A parent with each block redrawn with the given probability; None if no new one was found."""

        return self._redraw(lambda: self._mutated(parent(), probability))

    def crossover(self, parents: Callable[[], tuple[ArrayLike, ArrayLike]]) -> Ops | None:
        """Each block from one of two parents, evenly; None if no new architecture was found."""

        def draw() -> Ops:
            first, second = parents()
            return tuple(np.where(self.rng.random(len(first)) < 0.5, first, second).tolist())

        return self._redraw(draw)

    def accept(self, ops: Ops) -> bool:
        """Mark an architecture as proposed; False if it already was, or breaks the constraint."""
        if ops in self.seen or not self._feasible.contains(ops):
            return False
        self.seen.add(ops)
        return True

    def _mutated(self, ops: ArrayLike, probability: float) -> Ops:
        redrawn = self.rng.random(len(ops)) < probability
        return tuple(np.where(redrawn, self.rng.integers(self._candidates), ops).tolist())

    def _redraw(self, draw: Callable[[], Ops | None]) -> Ops | None:
        for _ in range(MOST_REDRAWS):
            ops = draw()
            if ops is not None and self.accept(ops):
                return ops
        return None

    def _take(self, ops: Ops | None) -> Ops | None:
        if ops is not None:
            self.seen.add(ops)
        return ops


class ProposingStrategy(Strategy):
    """A strategy with a proposer that ends after `evaluations` candidates, or when the space is exhausted.

    Also the base for strategies of your own: `_run` proposes candidates with `self.proposer`, turns them into
    NNI's models with `model`, submits these to `self.engine`, and returns when the search is over.
    """

    def __init__(self, proposer: Proposer, evaluations: int) -> None:
        super().__init__()
        self.proposer = proposer
        self.evaluations = evaluations

    def model(self, ops: Ops, generation: int, origin: str) -> CandidateModel:
        """NNI's model of a candidate; generation and origin are for the journal."""
        sample = Architecture(self.proposer.space, ops).choices
        return self.model_space.freeze(sample).proposed(ops, generation, origin)

    def extra_repr(self) -> str:
        return f"evaluations={self.evaluations}"


def wait_for_worker(engine: ExecutionEngine, poll_seconds: float = 0.05) -> bool:
    """Wait until the engine can take a candidate; False if its budget is spent.

    Like NNI's `wait_for_resource`, which however sleeps a whole second between two checks.
    """
    while not engine.idle_worker_available():
        if not engine.budget_available():
            return False
        time.sleep(poll_seconds)
    return engine.budget_available()
