"""Does the search mean something? Whether candidates differ by more than noise, and whether evolution gains.

    python benchmarks/search_signal.py -c experiments/quickstart/detnas.yaml

needs the experiment's trained supernet. It prints one JSON object:
- `first_generation_sd` over `recalibration_sd`: the standard deviation of the fitness over the candidates of
  the first generation, and over evaluations of one candidate that differ only in their calibration images;
- for each search seed, the mean fitness of the first and of the last generation.
"""

import argparse
import json
import logging
import statistics

from nni.nas.execution import SequentialExecutionEngine

from detnas_nni.architecture import Architecture
from detnas_nni.config.reading import load_config
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.search.evaluator import DetNASEvaluator
from detnas_nni.search.session import SearchSession


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-c", "--config", required=True, help="the experiment's YAML")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--search-seeds", type=int, default=5, metavar="N")
    parser.add_argument("--calibration-seeds", type=int, default=5, metavar="N")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    generations = {}
    for seed in range(options.search_seeds):
        # Its own name keeps each search in its own folder, away from the experiment's.
        overrides = [*options.overrides, f"search.seed={seed}", f"search.name=signal-seed-{seed}"]
        config = load_config(options.config, overrides)
        evaluation = CandidateEvaluation(config)
        session = SearchSession(config, fresh=True)
        session.run(SequentialExecutionEngine(continue_on_failure=True), DetNASEvaluator(evaluation))
        generations[seed] = _by_generation(session)

    config = load_config(options.config, options.overrides)
    evaluation = CandidateEvaluation(config)
    first = generations[0][0]
    candidate = Architecture(config.space.name, first[0].ops)
    repeats = [
        evaluation.evaluate(candidate, seed=seed).metrics["default"]
        for seed in range(options.calibration_seeds)
    ]
    first_sd = statistics.stdev(entry.fitness for entry in first)
    repeat_sd = statistics.stdev(repeats)
    print(
        json.dumps(
            {
                "first_generation_sd": first_sd,
                "recalibration_sd": repeat_sd,
                "ratio": first_sd / repeat_sd if repeat_sd else None,
                "candidate": str(candidate),
                "recalibrated_fitness": repeats,
                "searches": [
                    {
                        "seed": seed,
                        "first_generation_mean": _mean(entries[0]),
                        "last_generation_mean": _mean(entries[max(entries)]),
                        "best": max(entry.fitness for of_one in entries.values() for entry in of_one),
                    }
                    for seed, entries in generations.items()
                ],
            },
            indent=2,
        )
    )


def _by_generation(session: SearchSession) -> dict[int, list]:
    generations: dict[int, list] = {}
    for entry in session.journal.evaluations:
        if entry.fitness is not None:
            generations.setdefault(entry.generation, []).append(entry)
    return generations


def _mean(entries: list) -> float:
    return statistics.mean(entry.fitness for entry in entries)


if __name__ == "__main__":
    main()
