"""Does a cheaper evaluation rank candidates as the paper's protocol does, and how much cheaper is it?

    python benchmarks/protocol.py -c experiments/quickstart/detnas.yaml

needs the experiment's trained detection supernet and prints one JSON object. Random candidates are evaluated
by each protocol, all on the whole search split:

- `reference`: 500 batches of 8 with the losses computed, images decoded each time, BN not folded, AP by
  pycocotools: the paper's, except for the plain mean over the batches; `reference_again`, on demand, is
  the same with another seed, and says how well the reference agrees with itself;
- `config`: a search's evaluation with this config; and the same with other values, once for each `--also`.

The reference takes most of the time: `--reference FILE` takes its figures from an earlier output of this
script for the same candidates.

For each protocol: seconds per candidate (CPU time, on a CPU) over the reference's, Kendall's τ with the
reference's fitness, and the reference's rank, from 1, of the candidate that it ranks first.
"""

import argparse
import json
import logging
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from candidate import candidates, seconds_of, thorough
from scipy.stats import kendalltau

from detnas_nni.architecture import Architecture
from detnas_nni.config.reading import load_config
from detnas_nni.evaluation.candidate import CandidateEvaluation

Protocol = Callable[[Architecture], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-c", "--config", required=True, help="the experiment's YAML")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--candidates", type=int, default=40, metavar="N")
    parser.add_argument("--iterations", type=int, default=500, metavar="N", help="of the reference")
    parser.add_argument(
        "--also",
        nargs="+",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="also with these changes to the config; repeatable",
    )
    parser.add_argument("--reference", type=Path, metavar="FILE", help="an earlier output")
    parser.add_argument("--again", action="store_true", help="also the reference with another seed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    config = load_config(options.config, options.overrides)
    plain = CandidateEvaluation(config)
    with tempfile.TemporaryDirectory(dir=config.run_dir) as folder:

        def ours(name: str, *overrides: str) -> Protocol:
            changed = load_config(options.config, [*options.overrides, *overrides])
            evaluation = CandidateEvaluation(changed, decoded=Path(folder) / name)
            return lambda candidate: evaluation.evaluate(candidate).metrics["default"]

        protocols: dict[str, Protocol] = {
            "reference": lambda candidate: thorough(plain, candidate, options.iterations, seed=0),
            "config": ours("config"),
            **{" ".join(changes): ours(f"also_{n}", *changes) for n, changes in enumerate(options.also)},
        }
        if options.again:
            protocols["reference_again"] = lambda candidate: thorough(
                plain, candidate, options.iterations, seed=1
            )
        chosen = candidates(plain, options.candidates, options.seed)
        fitness: dict[str, list[float]] = {name: [] for name in protocols}
        seconds: dict[str, list[float]] = {name: [] for name in protocols}
        if options.reference is not None:
            before = json.loads(options.reference.read_text())
            if before["architectures"] != [str(candidate) for candidate in chosen]:
                parser.error(f"--reference {options.reference}: is about other candidates")
            del protocols["reference"]
            fitness["reference"] = before["fitness"]["reference"]
            seconds["reference"] = before["seconds"]["reference"]
        for protocol in protocols.values():
            protocol(chosen[0])  # decodes what is kept, and warms up torch
        for candidate in chosen:
            for name, protocol in protocols.items():
                result: list[float] = []
                seconds[name].append(seconds_of(lambda: result.append(protocol(candidate))))  # noqa: B023
                fitness[name] += result
    reference = fitness["reference"]
    ranking = sorted(range(len(chosen)), key=lambda index: -reference[index])
    print(
        json.dumps(
            {
                "candidates": len(chosen),
                "reference_seconds": statistics.median(seconds["reference"]),
                "reference_sd": statistics.stdev(reference),
                "protocols": {
                    name: {
                        "cost": sum(seconds[name]) / sum(seconds["reference"]),
                        "kendall_tau": float(kendalltau(values, reference).statistic),
                        "sd_of_difference": statistics.stdev(
                            value - other for value, other in zip(values, reference, strict=True)
                        ),
                        "its_first_in_the_reference": ranking.index(values.index(max(values))) + 1,
                    }
                    for name, values in fitness.items()
                    if name != "reference"
                },
                "architectures": [str(candidate) for candidate in chosen],
                "fitness": fitness,
                "seconds": seconds,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
