"""What a proposal costs: architectures through the constraint, and long searches with an instant fitness.

    python benchmarks/proposals.py --proposals 100000

takes two minutes and prints one JSON object:
- `constraint`: how many architectures per second are checked one by one, all at once, and drawn;
- for each strategy, CPU microseconds per proposal and the process's peak memory after each tenth.

The fitness is a sum over the blocks, on which evolution soon stagnates: new children are then hard to find,
and a proposal costs more than in a real search. The engine evaluates instantly and keeps nothing, so that any
growth is the strategy's own.
"""

import argparse
import json
import logging
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from nni.nas.execution import ExecutionEngine, FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus
from nni.nas.strategy.base import Strategy

from detnas_nni.cost.latency_table import read_latency_table
from detnas_nni.cost.limits import FeasibleSet, Limits
from detnas_nni.cost.table import cost_table
from detnas_nni.search.space import CandidateModel, candidate_space
from detnas_nni.search.strategies import (
    ConstrainedRegularizedEvolution,
    DetNASEvolution,
    Proposer,
    Random,
)

_POPULATION = 50
_STRATEGIES = ("random", "detnas", "regularized_evolution")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--space", default="small")
    parser.add_argument("--max-macs", type=int, default=300_000_000, metavar="N")
    parser.add_argument("--latency-table", type=Path, metavar="FILE", help="written by `detnas latency`")
    parser.add_argument("--max-latency-ms", type=float, metavar="MS", help="a limit by that table")
    parser.add_argument("--proposals", type=int, default=100_000, metavar="N", help="per strategy")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    costs = cost_table(options.space)
    if options.latency_table is not None:
        costs = costs.with_latency(read_latency_table(options.latency_table, space=options.space))
    feasible = FeasibleSet(costs, Limits(options.max_macs, None, options.max_latency_ms))
    feasible.raise_if_empty()
    print(
        json.dumps(
            {
                "space": options.space,
                "constraint": {"limit": str(feasible.constraint), **_through(feasible, options.seed)},
                "proposals": options.proposals,
                **{name: _alone(name, feasible, options) for name in _STRATEGIES},
            },
            indent=2,
        )
    )


class InstantEngine(ExecutionEngine):
    """Gives every candidate its fitness instantly and forgets it."""

    def __init__(self, fitness: Callable[[tuple[int, ...]], float], every: int) -> None:
        super().__init__()
        self.microseconds: list[float] = []
        self.megabytes: list[float] = []
        self.best = 0.0
        self._fitness = fitness
        self._every = every
        self._submitted = 0
        self._mark = time.process_time()

    def submit_models(self, *models: CandidateModel) -> None:
        for model in models:
            fitness = self._fitness(model.ops)
            self.best = max(self.best, fitness)
            self.dispatch_model_event(FinalMetricEvent(model, fitness))
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))
            self._submitted += 1
            if self._submitted % self._every == 0:
                now = time.process_time()
                self.microseconds.append(round((now - self._mark) / self._every * 1e6, 1))
                self.megabytes.append(round(_peak_megabytes(), 1))
                self._mark = now

    def list_models(self, status: ModelStatus | None = None) -> Iterable[CandidateModel]:
        return []

    def idle_worker_available(self) -> bool:
        return True

    def budget_available(self) -> bool:
        return True


def _through(feasible: FeasibleSet, seed: int) -> dict[str, float]:
    """Architectures per second, the best of five rounds: other load can only slow a round down."""
    rng = np.random.default_rng(seed)
    sizes = [len(differences) for differences in feasible.table.blocks]
    many = rng.integers(sizes, size=(100_000, len(sizes)))
    some = list(map(tuple, many[:20_000].tolist()))
    return {
        "one_by_one_per_second": _rate(lambda: list(map(feasible.contains, some)), len(some)),
        "all_at_once_per_second": _rate(lambda: feasible.mask(many), len(many)),
        "drawn_per_second": _rate(lambda: [feasible.random_unseen(rng, ()) for _ in some], len(some)),
        "share_that_meets_it": float(feasible.mask(many).mean()),
    }


def _rate(work: Callable[[], Any], count: int) -> float:
    seconds = []
    for _ in range(5):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return round(count / min(seconds))


def _alone(name: str, feasible: FeasibleSet, options: argparse.Namespace) -> dict[str, Any]:
    """One strategy's search in a separate process, so that its memory is measured alone."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_search, args=(sender, name, feasible, options))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def _search(sender: Any, name: str, feasible: FeasibleSet, options: argparse.Namespace) -> None:
    blocks = len(feasible.table.blocks)
    values = np.random.default_rng(options.seed + 1).random(
        (blocks, max(len(row) for row in feasible.table.blocks))
    )
    table = values.tolist()
    engine = InstantEngine(
        lambda ops: sum(row[op] for row, op in zip(table, ops, strict=True)) / blocks,
        every=max(1, options.proposals // 10),
    )
    proposer = Proposer(options.space, feasible, np.random.default_rng(options.seed))
    space = candidate_space(options.space, None)
    before = _peak_megabytes()
    _strategy(name, proposer, options.proposals, options.seed)(space, engine)
    sender.send(
        {
            "microseconds_a_proposal": round(statistics.mean(engine.microseconds), 1),
            "microseconds_by_tenth": engine.microseconds,
            "megabytes_by_tenth": engine.megabytes,
            # Without the first tenth, in which NNI and NumPy reach their size.
            "bytes_a_proposal": round(
                (engine.megabytes[-1] - engine.megabytes[0]) * 2**20 / (0.9 * options.proposals)
            ),
            "megabytes_grown": round(engine.megabytes[-1] - before, 1),
            "best_fitness": engine.best,
        }
    )


def _strategy(name: str, proposer: Proposer, proposals: int, seed: int) -> Strategy:
    if name == "random":
        return Random(proposer, proposals, _POPULATION)
    if name == "detnas":
        return DetNASEvolution(proposer, population=_POPULATION, generations=proposals // _POPULATION)
    return ConstrainedRegularizedEvolution(
        proposer, proposals, seed, population_size=_POPULATION, sample_size=10, mutation_prob=0.1
    )


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
