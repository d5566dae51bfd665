"""How much of the front each strategy finds: hypervolume over evaluations, of pareto, detnas and random.

    python -m benchmarks.fronts experiments/quickstart/detnas.yaml --seeds 5 --population 8 --generations 8 \
        --known runs/quickstart/known.jsonl > fronts.json

All search the same trained supernet. An evaluation depends only on the architecture, so each is made once and
kept in the file of `--known`, whoever proposes it again: the script resumes where it was interrupted. The
volume is that of everything that some candidate beats in fitness and MACs, as a share of the box from a
fitness of 0 to 1 and from the lowest to the highest MACs of the space: the mean over all budgets of the best
within.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import nni
import numpy as np
from nni.nas.evaluator import Evaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.strategy.base import Strategy

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.config import Config, load_config
from detnas_nni.cost.limits import FeasibleSet, Limits, feasible_set
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.search.nondominated import hypervolume
from detnas_nni.search.space import CandidateModel, candidate_space
from detnas_nni.search.strategies import build_strategy

_STRATEGIES = ("pareto", "detnas", "random")


class KnownEvaluator(Evaluator):
    """Measures what is not known yet, and records it."""

    def __init__(self, config: Config, file: Path) -> None:
        self._evaluation = CandidateEvaluation(config, decoded=config.run_dir / "fronts-decoded")
        self._space = config.space.name
        self._file = file
        self.known: dict[Ops, float] = {}
        for line in file.read_text().splitlines() if file.exists() else []:
            entry = json.loads(line)
            self.known[tuple(entry["ops"])] = entry["fitness"]

    def _execute(self, model: CandidateModel) -> None:
        if model.ops not in self.known:
            result = self._evaluation.evaluate(Architecture(self._space, model.ops), seed=0)
            self.known[model.ops] = result.metrics["default"]
            with self._file.open("a") as file:
                file.write(json.dumps({"ops": model.ops, "fitness": self.known[model.ops]}) + "\n")
        nni.report_final_result({"default": self.known[model.ops]})


def volumes(points: list[tuple[float, float]], least: int, greatest: int) -> list[float]:
    """The share of the box after each evaluation."""
    box = greatest - least
    return [round(hypervolume(points[:n], (0.0, greatest)) / box, 5) for n in range(1, len(points) + 1)]


def run(config: Config, evaluator: KnownEvaluator) -> list[tuple[float, float]]:
    """Negative fitness and MACs of each candidate, in the order of their proposal."""
    feasible = feasible_set(config)
    models = searched(build_strategy(config, feasible), config, evaluator)
    return [(-model.metric, feasible.table.cost(model.ops).macs) for model in models]


def searched(strategy: Strategy, config: Config, evaluator: KnownEvaluator) -> list[CandidateModel]:
    """The candidates of a whole search, measured, in the order of their proposal."""
    engine = SequentialExecutionEngine()
    strategy(candidate_space(config.space.name, evaluator), engine)
    return list(engine.list_models())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--known", type=Path, required=True, help="the file with known evaluations")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    own = options.population * 3 // 8
    common = {"population": options.population, "generations": options.generations, "parents": own}
    common |= {"mutations": own, "crossovers": own}
    overrides = [*options.overrides, *(f"search.{key}={value}" for key, value in common.items())]
    config = load_config(options.config, overrides)
    evaluator = KnownEvaluator(config, options.known)
    table = FeasibleSet(feasible_set(config).table, Limits()).table
    rows = [[cost.macs for cost in row] for row in table.blocks]
    least, greatest = (table.base.macs + sum(pick(row) for row in rows) for pick in (min, max))
    curves: dict[str, list[list[float]]] = {name: [] for name in _STRATEGIES}
    for seed in range(options.seeds):
        for name in _STRATEGIES:
            given = load_config(
                options.config, [*overrides, f"search.strategy={name}", f"search.seed={seed}"]
            )
            curves[name].append(volumes(run(given, evaluator), least, greatest))
    print(json.dumps({"search": common, "reference": [0.0, greatest], "least_macs": least, **_of(curves)}))


def _of(curves: dict[str, list[list[float]]]) -> dict[str, Any]:
    ends = {name: [curve[-1] for curve in of] for name, of in curves.items()}
    return {
        "volume": {
            name: {"mean": round(float(np.mean(of)), 4), "std": round(float(np.std(of, ddof=1)), 4)}
            for name, of in ends.items()
        },
        "curves": curves,
    }


if __name__ == "__main__":
    main()
