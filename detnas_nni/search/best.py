"""Architectures as files: the best of a search, or random ones within its limits for comparison."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.run_folder import best_file, sample_file
from detnas_nni.cost.limits import FeasibleSet, feasible_set
from detnas_nni.errors import ConstraintError, EvaluationError, UsageError
from detnas_nni.search.journal import Evaluation, Journal, expect_same_config
from detnas_nni.util.seeding import generator
from search_spaces import is_fixed

_VERSIONS = ("detnas-nni", "nni", "torch", "torchvision", "pycocotools", "numpy")


def export_best(config: Config, journal: Journal, *, rank: int = 1, out: Path | None = None) -> Path:
    """Write the architecture of the journal's best evaluation and return the file's path.

    Args:
        config: the search's config.
        journal: its journal; the search may have ended or still be running.
        rank: 1 for the best, 2 for the second best, and so on.
        out: the file; if None `best_architecture.json` in the search's folder, for another rank than 1
            `best_architecture_rank_N.json`.

    Raises:
        EvaluationError: the journal has fewer finished evaluations.
    """
    ranked = journal.best(rank)
    if len(ranked) < rank:
        raise EvaluationError(
            f"{journal.path}: {len(ranked)} finished evaluations, so there is no rank {rank}"
        )
    path = out or best_file(config.search_dir, rank)
    save_evaluation(config, journal, ranked[-1], path)
    return path


def save_evaluation(
    config: Config, journal: Journal, evaluation: Evaluation, path: Path, **provenance: Any
) -> None:
    """Write the architecture of an evaluation, with its cost, its metrics and its provenance."""
    Architecture(config.space.name, evaluation.ops).save(
        path,
        cost={**evaluation.cost, "resolution": config.search.constraint.resolution},
        metrics=evaluation.metrics,
        provenance={
            **provenance_of_search(config, journal),
            "evaluation": evaluation.id,
            "generation": evaluation.generation,
            "origin": evaluation.origin,
            "finished_at": evaluation.finished_at,
            **provenance,
        },
    )


def provenance_of_search(config: Config, journal: Journal) -> dict[str, Any]:
    """What a search's results depend on, and how far it has got.

    Raises CheckpointError if the search in the folder is of another config: it would be named instead.
    """
    identity = expect_same_config(config)
    return {
        "config": identity["config"],
        "supernet": identity["supernet"],
        "task": config.evaluation.task,
        "strategy": config.search.strategy,
        "seed": config.search_seed,
        "evaluations": len(journal),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on; `unknown` for a package without metadata."""
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # such as a checkout on the path that is not installed
            found[name] = "unknown"
    return found


def sample(config: Config, count: int) -> list[Path]:
    """Draw architectures with the seed, uniformly from those within the limits, none twice.

    Writes `RUN_DIR/samples/random_00.json` and so on, and returns the paths. A larger count gives the same
    ones first.

    Raises:
        ConstraintError: there are not that many; then none is written.
        LatencyError: the config names a latency table that is missing, damaged or of another space.
        UsageError: the space is one fixed net.
    """
    if is_fixed(config.space.name):
        raise UsageError(
            f"space.name is {config.space.name}, a fixed net, so there is nothing to draw; "
            f"`detnas retrain --arch search_spaces/published/{config.space.name}.json` trains it"
        )
    feasible = feasible_set(config)
    paths = []
    for number, ops in enumerate(_draw(feasible, count, generator(config.search_seed, "sample"))):
        path = sample_file(config.run_dir, number)
        Architecture(config.space.name, ops).save(
            path,
            cost={**feasible.table.cost(ops).to_dict(), "resolution": feasible.table.resolution},
            provenance={"origin": "random", "seed": config.search_seed},
        )
        paths.append(path)
    return paths


def _draw(feasible: FeasibleSet, count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    drawn: dict[tuple[int, ...], None] = {}  # a set that keeps its order
    while len(drawn) < count:
        ops = feasible.random_unseen(rng, drawn.keys())
        if ops is None:
            raise ConstraintError(
                f"{count} random architectures were asked for, but {feasible.table.space} has only "
                f"{len(drawn)} with {feasible.constraint}"
            )
        drawn[ops] = None
    return list(drawn)
