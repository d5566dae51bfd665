"""The search's result as a file: `best_architecture.json`."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.errors import EvaluationError
from detnas_nni.search.journal import Evaluation, Journal

_VERSIONS = ("detnas-nni", "nni", "torch", "torchvision", "pycocotools", "numpy")


def export_best(config: Config, journal: Journal, *, rank: int = 1, out: Path | None = None) -> Path:
    """Write the architecture of the journal's best evaluation; gives the file's path.

    Args:
        config: the search's config.
        journal: its journal, of a search that has ended or still runs.
        rank: 1 for the best, 2 for the second best, and so on.
        out: the file; `best_architecture.json` in the search's folder if None.

    Raises:
        EvaluationError: the journal has fewer finished evaluations.
    """
    ranked = journal.best(rank)
    if len(ranked) < rank:
        raise EvaluationError(
            f"{journal.path}: {len(ranked)} finished evaluations, so there is no rank {rank}"
        )
    best = ranked[-1]
    path = out or config.search_dir / "best_architecture.json"
    Architecture(config.space.name, best.ops).save(
        path,
        cost={**best.cost, "resolution": config.search.constraint.resolution},
        metrics=best.metrics,
        provenance=_provenance(config, journal, best),
    )
    return path


def _provenance(config: Config, journal: Journal, best: Evaluation) -> dict[str, Any]:
    identity = json.loads((config.search_dir / "search.json").read_text())
    return {
        "config": identity["config"],
        "supernet": identity["supernet"],
        "task": config.evaluation.task,
        "strategy": config.search.strategy,
        "seed": config.search_seed,
        "evaluation": best.id,
        "generation": best.generation,
        "origin": best.origin,
        "evaluations": len(journal),
        "finished_at": best.finished_at,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that a result depends on; `unknown` where Python has a package, but no record of it."""
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # such as a checkout that is not installed, but on the path
            found[name] = "unknown"
    return found
