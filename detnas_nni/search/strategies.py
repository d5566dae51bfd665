"""The three searches, each an NNI `Strategy`: the paper's evolution, NNI's regularized evolution, random.

All are seeded, keep the constraint while they propose (a filter behind them would leave generations short),
and never propose an architecture twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from nni.mutable import SampleValidationError
from nni.nas.execution import ExecutionEngine
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import RegularizedEvolution
from nni.nas.strategy.base import Strategy
from numpy.typing import ArrayLike

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.config import Config, Search
from detnas_nni.config.own_parts import is_own, load_factory
from detnas_nni.cost.limits import FeasibleSet
from detnas_nni.errors import ConfigError
from detnas_nni.search.space import CandidateModel
from detnas_nni.util.seeding import derive_seed, generator
from search_spaces import layout

_log = logging.getLogger(__name__)


# Redraws of one child before a random architecture takes its place: with the paper's numbers one in three
# redraws succeeds, and near the end of a small space hardly any.
_MOST_REDRAWS = 200


class Proposer:
    """Draws architectures that keep the constraint and were not proposed before, and marks where from.

    `feasible` knows the constraint, `freeze` makes NNI's model of a sample.
    """

    def __init__(self, space: str, feasible: FeasibleSet, rng: np.random.Generator) -> None:
        self.space = space
        self.rng = rng
        self.seen: set[Ops] = set()
        self._feasible = feasible
        self._candidates = np.array([len(choice.candidates) for choice in layout(space)])

    def random(self) -> Ops | None:
        """A new architecture, uniform over the feasible ones while these are many; None if none is left."""
        return self._take(self._feasible.random_unseen(self.rng, self.seen))

    def mutation(self, parent: Callable[[], ArrayLike], probability: float) -> Ops | None:
        """A parent with each block redrawn with the given probability; None if no new one was found."""

        def draw() -> Ops:
            ops = parent()
            redrawn = self.rng.random(len(ops)) < probability
            return tuple(np.where(redrawn, self.rng.integers(self._candidates), ops).tolist())

        return self._redraw(draw)

    def crossover(self, parents: Callable[[], tuple[ArrayLike, ArrayLike]]) -> Ops | None:
        """Each block from one of two parents, evenly; None if no new architecture was found."""

        def draw() -> Ops:
            first, second = parents()
            return tuple(np.where(self.rng.random(len(first)) < 0.5, first, second).tolist())

        return self._redraw(draw)

    def accept(self, ops: Ops) -> bool:
        """Mark an architecture as proposed; False if it was before, or breaks the constraint."""
        if ops in self.seen or not self._feasible.contains(ops):
            return False
        self.seen.add(ops)
        return True

    def _redraw(self, draw: Callable[[], Ops]) -> Ops | None:
        for _ in range(_MOST_REDRAWS):
            ops = draw()
            if self.accept(ops):
                return ops
        return None

    def _take(self, ops: Ops | None) -> Ops | None:
        if ops is not None:
            self.seen.add(ops)
        return ops


class ProposingStrategy(Strategy):
    """A strategy with a proposer that ends after `evaluations` candidates, or with the space.

    The base of strategies of your own, too: `_run` proposes candidates by `self.proposer`, makes NNI's models
    of them by `model`, gives them to `self.engine`, and returns when the search is over.
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


class Random(ProposingStrategy):
    """Uniformly random architectures: the paper's baseline at the same budget.

    `generation_size` only numbers the generations, so that curves of different strategies compare.
    """

    def __init__(self, proposer: Proposer, evaluations: int, generation_size: int) -> None:
        super().__init__(proposer, evaluations)
        self.generation_size = generation_size

    def _run(self) -> None:
        for number in range(self.evaluations):
            if not wait_for_worker(self.engine):
                return
            ops = self.proposer.random()
            if ops is None:
                _log.warning("the space is exhausted after %d candidates", number)
                return
            self.engine.submit_models(self.model(ops, number // self.generation_size, "random"))


class DetNASEvolution(ProposingStrategy):
    """The paper's evolution [P, section 3.3; R].

    The first generation is random. The parents of every later one are the best of *all* generations so far;
    it takes `mutations` of them (each block redrawn with `mutation_probability`), `crossovers` (each block
    from either of two parents), and new random architectures for the rest. A child that was evaluated
    before, or that breaks the constraint, is redrawn; where redrawing finds none, a random one takes its
    place, so that every generation is full until the space is exhausted.
    """

    def __init__(
        self,
        proposer: Proposer,
        *,
        population: int = 50,
        generations: int = 20,
        parents: int = 10,
        mutations: int = 20,
        crossovers: int = 20,
        mutation_probability: float = 0.1,
    ) -> None:
        super().__init__(proposer, population * generations)
        self.population = population
        self.generations = generations
        self.parents = parents
        self.mutations = mutations
        self.crossovers = crossovers
        self.mutation_probability = mutation_probability
        # The best ones so far, best first; not the models, of which a long search has many.
        self._best: list[tuple[float, Ops]] = []

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
            self._remember(models)
            if self._best:
                fitness, ops = self._best[0]
                _log.info(
                    "generation %d of %d: best fitness so far %.4f (%s)",
                    *(generation + 1, self.generations, fitness, Architecture(self.proposer.space, ops)),
                )

    def _remember(self, models: Iterable[CandidateModel]) -> None:
        finished = [(model.metric, model.ops) for model in models if model.metric is not None]
        # sorted() is stable: of two equal ones the earlier stays ahead, whatever order the results came in.
        self._best = sorted(self._best + finished, key=lambda entry: -entry[0])[: self.parents]

    def _propose(self, generation: int) -> Iterable[CandidateModel]:
        elite = [np.array(ops) for _, ops in self._best]
        for origin in self._origins(bool(elite)):
            ops, origin = self._child(origin, elite)
            if ops is None:
                return
            yield self.model(ops, generation, origin)

    def _origins(self, has_parents: bool) -> list[str]:
        if not has_parents:
            return ["random"] * self.population
        rest = self.population - self.mutations - self.crossovers
        return ["mutation"] * self.mutations + ["crossover"] * self.crossovers + ["random"] * rest

    def _child(self, origin: str, elite: list[np.ndarray]) -> tuple[Ops | None, str]:
        rng, ops = self.proposer.rng, None
        if origin == "mutation":
            ops = self.proposer.mutation(lambda: elite[rng.integers(len(elite))], self.mutation_probability)
        elif origin == "crossover":
            ops = self.proposer.crossover(
                lambda: (elite[rng.integers(len(elite))], elite[rng.integers(len(elite))])
            )
        return (self.proposer.random(), "random") if ops is None else (ops, origin)


class ConstrainedRegularizedEvolution(RegularizedEvolution):
    """NNI's RegularizedEvolution with the constraint, an end, and one seed for all that it draws."""

    def __init__(self, proposer: Proposer, evaluations: int, seed: int, **arguments: Any) -> None:
        # `dedup` is the proposer's business here: it knows the constraint, too.
        super().__init__(seed=seed, dedup=False, **arguments)
        self.proposer = proposer
        self.evaluations = evaluations
        self._proposed = 0
        self._retry_helper.retries = _MOST_REDRAWS

    def random(self) -> ExecutableModelSpace | None:
        ops = self.proposer.random()
        return None if ops is None else self._numbered(self._freeze(ops), "random")

    def new_individual(self) -> ExecutableModelSpace | None:
        model = self._retry_helper.retry(self._new_child)
        return self.random() if model is None else self._numbered(model, "mutation")

    def wait_for_resource(self) -> bool:
        return self._proposed < self.evaluations and wait_for_worker(self.engine)

    def _new_child(self) -> CandidateModel:
        if not self._population:
            raise SampleValidationError("no candidate has finished yet: there is no parent")
        model = super().new_individual()
        ops = Architecture.from_choices(self.proposer.space, model.sample).ops
        if not self.proposer.accept(ops):
            raise SampleValidationError(f"{ops} was proposed before or breaks the constraint")
        return model.proposed(ops, 0, "mutation")

    def _freeze(self, ops: Ops) -> CandidateModel:
        sample = Architecture(self.proposer.space, ops).choices
        return self.model_space.freeze(sample).proposed(ops, 0, "random")

    def _numbered(self, model: CandidateModel, origin: str) -> CandidateModel:
        generation = self._proposed // self.population_size
        self._proposed += 1
        return model.proposed(model.ops, generation, origin)


def wait_for_worker(engine: ExecutionEngine, poll_seconds: float = 0.05) -> bool:
    """Wait until the engine can take a candidate; False if its budget is spent.

    As NNI's `wait_for_resource`, which sleeps a whole second between two looks.
    """
    while not engine.idle_worker_available():
        if not engine.budget_available():
            return False
        time.sleep(poll_seconds)
    return engine.budget_available()


def build_strategy(config: Config, feasible: FeasibleSet) -> Strategy:
    """The strategy that the config names, seeded by its search seed.

    Raises ConfigError for one of the user's own that cannot be imported, or is no `Strategy` of NNI.
    """
    search, seed = config.search, config.search_seed
    proposer = Proposer(config.space.name, feasible, generator(seed, "search", search.strategy))
    if is_own(search.strategy):
        return _own(search, proposer)
    if search.strategy == "random":
        return Random(proposer, search.evaluations, generation_size=search.population)
    if search.strategy == "regularized_evolution":
        return ConstrainedRegularizedEvolution(
            proposer,
            search.evaluations,
            seed=derive_seed(seed, "search", "regularized_evolution") % 2**32,  # RandomState takes 32 bits
            population_size=search.population,
            sample_size=search.tournament,
            mutation_prob=search.mutation_probability,
        )
    return DetNASEvolution(
        proposer,
        population=search.population,
        generations=search.generations,
        parents=search.parents,
        mutations=search.mutations,
        crossovers=search.crossovers,
        mutation_probability=search.mutation_probability,
    )


def _own(search: Search, proposer: Proposer) -> Strategy:
    """What the factory in `search.strategy` makes."""
    strategy = load_factory("search.strategy", search.strategy)(proposer, search)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"search.strategy: {search.strategy!r} gave {type(strategy).__name__}, expected a Strategy of NNI"
        )
    return strategy
