"""NNI's own engine over a formula: what the tests of strategies, engines and tuners search."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import cycle, islice
from typing import Any

import nni
import numpy as np
from nni.nas.evaluator import Evaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.strategy.base import Strategy

from detnas_nni.architecture import Architecture
from detnas_nni.cost.limits import FeasibleSet, Limits
from detnas_nni.cost.table import cost_table
from detnas_nni.search.evolution import ParetoEvolution
from detnas_nni.search.front import objective_costs
from detnas_nni.search.outcomes import describe
from detnas_nni.search.space import CandidateModel, candidate_space
from detnas_nni.search.strategies import (
    ConstrainedRegularizedEvolution,
    DetNASEvolution,
    Proposer,
    Random,
)
from search_spaces import layout

Ops = tuple[int, ...]
Fitness = Callable[[Ops], float]

STRATEGIES = ("detnas", "pareto", "regularized_evolution", "random")

BLOCKS = len(layout("tiny"))


def tiny(*pattern: int) -> Architecture:
    """The architecture of the tiny space that repeats a pattern of ops."""
    return Architecture("tiny", tuple(islice(cycle(pattern), BLOCKS)))


TARGET = tiny(1, 2, 3, 0, 3, 1, 0).ops
"""What `likeness` is highest for."""


@cache
def macs_of_all() -> np.ndarray:
    """The MACs of every architecture of the tiny space, ascending."""
    table = cost_table("tiny")
    macs = np.array([table.base.macs])
    for block in table.blocks:
        macs = np.add.outer(macs, [cost.macs for cost in block]).ravel()
    return np.sort(macs)


def limit_for(architectures: int) -> int:
    """The least MACs limit that so many architectures of the tiny space keep, or more of equal cost."""
    return int(macs_of_all()[architectures - 1])


def likeness(ops: Ops) -> float:
    """How many blocks are the target's, and how many neighbours both are; 1 at the target itself."""
    right = np.equal(ops, TARGET)
    return float(0.5 * right.mean() + 0.5 * (right[1:] & right[:-1]).mean())


class FormulaEvaluator(Evaluator):
    """Reports a formula's value, and a formula's error, as an evaluation does; remembers what was asked."""

    def __init__(self, fitness: Fitness) -> None:
        self.fitness = fitness
        self.evaluated: list[Ops] = []

    def _execute(self, model: CandidateModel) -> None:
        self.evaluated.append(model.ops)
        try:
            value = self.fitness(model.ops)
        except Exception as error:
            model.error = describe(error)
            raise
        nni.report_final_result({"default": value, "double": 2 * value})


def feasible_set(space: str = "tiny", **limits: int) -> FeasibleSet:
    return FeasibleSet(cost_table(space), Limits(**limits))


def proposer(seed: int = 0, space: str = "tiny", **limits: int) -> Proposer:
    return Proposer(space, feasible_set(space, **limits), np.random.default_rng(seed))


def detnas(seed: int = 0, space: str = "tiny", limits: dict[str, int] | None = None, **numbers: Any):
    numbers = {"population": 20, "generations": 10, "parents": 5, "mutations": 8, "crossovers": 8} | numbers
    return DetNASEvolution(proposer(seed, space, **(limits or {})), **numbers)


def pareto(
    seed: int = 0,
    space: str = "tiny",
    limits: dict[str, int] | None = None,
    objectives: tuple[str, ...] = ("macs",),
    **numbers: Any,
) -> ParetoEvolution:
    """The evolution of a front, 20 candidates per generation."""
    numbers = {"population": 20, "generations": 10, "mutations": 8, "crossovers": 8} | numbers
    costs = partial(objective_costs, cost_table(space), objectives)
    return ParetoEvolution(proposer(seed, space, **(limits or {})), costs, **numbers)


def strategy(
    name: str, seed: int = 0, space: str = "tiny", evaluations: int = 200, **limits: int
) -> Strategy:
    """A strategy by its name in the config, with 20 candidates per generation."""
    if name == "detnas":
        return detnas(seed, space, limits, generations=evaluations // 20)
    if name == "pareto":
        return pareto(seed, space, limits, generations=evaluations // 20)
    own = proposer(seed, space, **limits)
    if name == "random":
        return Random(own, evaluations, generation_size=20)
    return ConstrainedRegularizedEvolution(
        own, evaluations, seed=seed, population_size=20, sample_size=5, mutation_prob=0.1
    )


def search(strategy: Strategy, fitness: Fitness = likeness) -> list[CandidateModel]:
    """Run a strategy to its end on NNI's engine; every candidate in the order of its proposal."""
    engine = SequentialExecutionEngine(continue_on_failure=True)
    strategy(candidate_space(strategy.proposer.space, FormulaEvaluator(fitness)), engine)
    return list(engine.list_models())


def proposals(models: list[CandidateModel]) -> list[Ops]:
    return [model.ops for model in models]
