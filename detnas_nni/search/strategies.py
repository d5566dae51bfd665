"""Search strategies, each an NNI `Strategy`, and the choice of the one that a config names.

All are seeded, keep the constraint while they propose (filtering afterwards would leave generations short),
and never propose an architecture twice.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from nni.mutable import SampleValidationError
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import RegularizedEvolution
from nni.nas.strategy.base import Strategy

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.config import Config, Search
from detnas_nni.config.own_parts import is_own, load_factory
from detnas_nni.cost.limits import FeasibleSet
from detnas_nni.errors import ConfigError
from detnas_nni.search.evolution import DetNASEvolution, ParetoEvolution
from detnas_nni.search.front import objective_costs
from detnas_nni.search.proposing import MOST_REDRAWS, Proposer, ProposingStrategy, wait_for_worker
from detnas_nni.search.space import CandidateModel
from detnas_nni.supernet.known_net import known_net
from detnas_nni.util.seeding import derive_seed, generator

__all__ = [
    "ConstrainedRegularizedEvolution",
    "DetNASEvolution",
    "Ops",
    "ParetoEvolution",
    "Proposer",
    "ProposingStrategy",
    "Random",
    "build_strategy",
]

_log = logging.getLogger(__name__)


class Random(ProposingStrategy):
    """Uniformly random architectures: the paper's baseline at the same budget.

    Args:
        proposer: draws them.
        evaluations: how many.
        generation_size: numbers the generations, so that curves of different strategies are comparable.
        wait: whether a generation begins only when the one before it has ended. Racing needs that: its bar
            is set by whole generations, and would otherwise depend on how fast parallel trials are.
    """

    def __init__(
        self, proposer: Proposer, evaluations: int, generation_size: int, *, wait: bool = False
    ) -> None:
        super().__init__(proposer, evaluations)
        self.generation_size = generation_size
        self.wait = wait

    def _run(self) -> None:
        generation: list[CandidateModel] = []
        for number in range(self.evaluations):
            if len(generation) == self.generation_size:
                if self.wait:
                    self.engine.wait_models(*generation)
                generation.clear()
            if not wait_for_worker(self.engine):
                return
            ops = self.proposer.random()
            if ops is None:
                _log.warning("the space is exhausted after %d candidates", number)
                return
            generation.append(self.model(ops, number // self.generation_size, "random"))
            self.engine.submit_models(generation[-1])


class ConstrainedRegularizedEvolution(RegularizedEvolution):
    """NNI's RegularizedEvolution with the constraint, an end, and one seed for everything that it draws."""

    def __init__(self, proposer: Proposer, evaluations: int, seed: int, **arguments: Any) -> None:
        # The proposer takes care of `dedup`: it also knows the constraint.
        super().__init__(seed=seed, dedup=False, **arguments)
        self.proposer = proposer
        self.evaluations = evaluations
        self._proposed = 0
        self._retry_helper.retries = MOST_REDRAWS

    def random(self) -> ExecutableModelSpace | None:
        ops, origin = self.proposer.fresh(self.mutation_prob)
        return None if ops is None else self._numbered(self._freeze(ops), origin)

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


def build_strategy(config: Config, feasible: FeasibleSet) -> Strategy:
    """The strategy that the config names, seeded by its search seed.

    Raises ConfigError for a user's own that cannot be imported or is not an NNI `Strategy`, and for a net to
    begin with that is not of the space.
    """
    search, seed = config.search, config.search_seed
    net = known_net(config, "search")
    if search.strategy == "random":
        net = None  # a baseline draws from the whole space
    if net is not None and not feasible.contains(net.ops):
        _log.info("search.around exceeds %s: the search begins with other nets near it", feasible.constraint)
    rng = generator(seed, "search", search.strategy)
    proposer = Proposer(config.space.name, feasible, rng, None if net is None else net.ops)
    if is_own(search.strategy):
        return _own(search, proposer)
    if search.strategy == "random":
        waits = search.racing is not None
        return Random(proposer, search.evaluations, generation_size=search.population, wait=waits)
    if search.strategy == "regularized_evolution":
        return ConstrainedRegularizedEvolution(
            proposer,
            search.evaluations,
            seed=derive_seed(seed, "search", "regularized_evolution") % 2**32,  # RandomState takes 32 bits
            population_size=search.population,
            sample_size=search.tournament,
            mutation_prob=search.mutation_probability,
        )
    numbers = {
        "population": search.population,
        "generations": search.generations,
        "mutations": search.mutations,
        "crossovers": search.crossovers,
        "mutation_probability": search.mutation_probability,
    }
    if search.strategy == "pareto":
        return ParetoEvolution(
            proposer, partial(objective_costs, feasible.table, search.objectives), **numbers
        )
    return DetNASEvolution(proposer, parents=search.parents, **numbers)


def _own(search: Search, proposer: Proposer) -> Strategy:
    """The strategy that the factory in `search.strategy` makes."""
    strategy = load_factory("search.strategy", search.strategy)(proposer, search)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"search.strategy: {search.strategy!r} returned {type(strategy).__name__}, not an NNI Strategy"
        )
    return strategy
