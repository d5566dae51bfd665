"""Evolutions that wait for each generation: the paper's, for the best, and NSGA-II, for the whole front."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.search.nondominated import Point, crowded_order, front_of
from detnas_nni.search.proposing import Proposer, ProposingStrategy
from detnas_nni.search.space import CandidateModel

_log = logging.getLogger(__name__)


class GenerationalEvolution(ProposingStrategy):
    """Evolution that waits for a generation before it breeds the next one.

    The first generation is fresh: random, or near a known net (`Proposer.fresh`). Every later one is
    `mutations` of parents (each block redrawn with `mutation_probability`), `crossovers` (each block from
    either of two parents), and fresh architectures for the rest. A child that was evaluated before, or that
    breaks the constraint, is redrawn; if redrawing finds none, a fresh one takes its place, so that every
    generation is full until the space is exhausted. The subclass decides which candidates are parents.
    """

    def __init__(
        self,
        proposer: Proposer,
        *,
        population: int = 50,
        generations: int = 20,
        mutations: int = 20,
        crossovers: int = 20,
        mutation_probability: float = 0.1,
    ) -> None:
        super().__init__(proposer, population * generations)
        self.population = population
        self.generations = generations
        self.mutations = mutations
        self.crossovers = crossovers
        self.mutation_probability = mutation_probability

    @abstractmethod
    def remember(self, finished: Sequence[tuple[float, Ops]]) -> None:
        """Take a generation's fitness and ops, in the order of proposal, without those that failed."""

    @abstractmethod
    def has_parents(self) -> bool:
        """Whether anything has finished yet."""

    @abstractmethod
    def parent(self) -> Ops:
        """Draw a parent with the proposer's `rng`."""

    @abstractmethod
    def standing(self) -> str:
        """A summary so far, for the log; called once there are parents."""

    def _run(self) -> None:
        for generation in range(self.generations):
            if not self.engine.budget_available():
                return
            models = list(self._propose(generation))
            if not models:
                _log.warning("the space is exhausted after %d generations", generation)
                return
            self.engine.submit_models(*models)
            self.engine.wait_models(*models)
            self.remember([(model.metric, model.ops) for model in models if model.metric is not None])
            if self.has_parents():
                _log.info("generation %d of %d: %s", generation + 1, self.generations, self.standing())

    def _propose(self, generation: int) -> Iterable[CandidateModel]:
        for origin in self._origins():
            ops, origin = self._child(origin)
            if ops is None:
                return
            yield self.model(ops, generation, origin)

    def _origins(self) -> list[str]:
        if not self.has_parents():
            return ["fresh"] * self.population
        rest = self.population - self.mutations - self.crossovers
        return ["mutation"] * self.mutations + ["crossover"] * self.crossovers + ["fresh"] * rest

    def _child(self, origin: str) -> tuple[Ops | None, str]:
        ops = None
        if origin == "mutation":
            ops = self.proposer.mutation(self.parent, self.mutation_probability)
        elif origin == "crossover":
            ops = self.proposer.crossover(lambda: (self.parent(), self.parent()))
        return self.proposer.fresh(self.mutation_probability) if ops is None else (ops, origin)


class DetNASEvolution(GenerationalEvolution):
    """The paper's evolution [P, section 3.3; R]: the parents are the best of *all* generations so far."""

    def __init__(self, proposer: Proposer, *, parents: int = 10, **numbers: Any) -> None:
        super().__init__(proposer, **numbers)
        self.parents = parents
        # The best ones so far, best first; not their models, which would be many in a long search.
        self._best: list[tuple[float, Ops]] = []

    def remember(self, finished: Sequence[tuple[float, Ops]]) -> None:
        # sorted() is stable: of two equal ones the earlier stays ahead, in whatever order the results
        # arrived.
        self._best = sorted([*self._best, *finished], key=lambda entry: -entry[0])[: self.parents]

    def has_parents(self) -> bool:
        return bool(self._best)

    def parent(self) -> Ops:
        return self._best[self.proposer.rng.integers(len(self._best))][1]

    def standing(self) -> str:
        fitness, ops = self._best[0]
        return f"best fitness so far {fitness:.4f} ({Architecture(self.proposer.space, ops)})"


class ParetoEvolution(GenerationalEvolution):
    """NSGA-II (Deb et al., 2002) with the children of the paper's evolution.

    Of all candidates so far the `population` best survive: those that nothing beats in both fitness and
    costs, then those that nothing beats once these are removed, and so on; if such a front does not fit
    completely, those far from their neighbours are kept. A parent is the winner of a tournament of two
    survivors. So the search follows no single budget, but all of them at once.

    Args:
        proposer: draws architectures within the constraint.
        costs: gives an architecture's costs, all to be minimised.
        numbers: arguments of `GenerationalEvolution`.
    """

    def __init__(self, proposer: Proposer, costs: Callable[[Ops], Point], **numbers: Any) -> None:
        super().__init__(proposer, **numbers)
        self._costs = costs
        # In the order of NSGA-II's comparison, the best first.
        self._survivors: list[tuple[Point, Ops]] = []

    def remember(self, finished: Sequence[tuple[float, Ops]]) -> None:
        entries = [*self._survivors, *(((-fitness, *self._costs(ops)), ops) for fitness, ops in finished)]
        order = crowded_order([point for point, _ in entries])
        self._survivors = [entries[i] for i in order[: self.population]]

    def has_parents(self) -> bool:
        return bool(self._survivors)

    def parent(self) -> Ops:
        # They are in order: of two, the earlier one wins.
        return self._survivors[self.proposer.rng.integers(len(self._survivors), size=2).min()][1]

    def standing(self) -> str:
        points = [point for point, _ in self._survivors]
        return (
            f"{len(front_of(points))} of {len(points)} survivors are on the front, best fitness so far "
            + (f"{-min(points)[0]:.4f}")
        )
