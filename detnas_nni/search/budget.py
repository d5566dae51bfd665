"""`detnas export --within`: the best architecture within a budget, among those a search has evaluated."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detnas_nni.config import Config
from detnas_nni.config.run_folder import within_file
from detnas_nni.cost.latency_table import read_latency_table
from detnas_nni.errors import EvaluationError, UsageError
from detnas_nni.search.best import save_evaluation
from detnas_nni.search.journal import Evaluation, Journal

_log = logging.getLogger(__name__)

_NEAR = 0.9  # share of the budget from which on a candidate counts as near it
_FEW = 10  # candidates near the budget; with fewer, the search has hardly looked there


def export_within(
    config: Config,
    journal: Journal,
    limits: Mapping[str, float],
    *,
    rank: int = 1,
    latency_table: Path | None = None,
    out: Path | None = None,
) -> Path:
    """Write the architecture of highest fitness within limits and return the file's path.

    Nothing is evaluated: a search knows the fitness of its candidates, whatever its own limits. Warns if few
    of its candidates come near the budget.

    Args:
        config: the search's config.
        journal: its journal; the search may have ended or still be running.
        limits: the largest `macs`, `params` and `latency_ms` allowed.
        rank: 1 for the best within them, 2 for the second best, and so on.
        latency_table: of the device that `latency_ms` refers to; the search's own if None.
        out: the file; if None `best_within_….json` in the search's folder, whose name has the limits, the
            rank if it is not 1, and part of the table's fingerprint unless that is the search's own.

    Raises:
        EvaluationError: none, or fewer than `rank`, are within the limits; the message names the nearest.
        LatencyError: the table is missing, damaged or of another space.
        UsageError: a limit on latency, and no latency is known.
    """
    finished = journal.best(len(journal))
    provenance: dict[str, Any] = {"within": dict(limits)}
    file, fingerprint = None, None
    if "latency_ms" in limits:
        file = _table_file(config, finished, latency_table)
    if file is not None:
        table = read_latency_table(file, space=config.space.name, options=config.space.options)
        finished = [replace(e, cost={**e.cost, "latency_ms": table.predict(e.ops) / 1000}) for e in finished]
        fingerprint = table.fingerprint
        provenance["latency_table"] = {"file": str(file), "fingerprint": fingerprint}
    within = [e for e in finished if all(e.cost[key] <= limit for key, limit in limits.items())]
    budget = describe(limits)
    if len(within) < rank:
        found = f"{len(within)} of {len(finished)} finished evaluations are within {budget}"
        if not within:
            found = f"none of {len(finished)} finished evaluations is within {budget}" + _nearest(
                finished, limits
            )
        raise EvaluationError(f"{journal.path}: {found}")
    near = [e for e in within if any(e.cost[key] >= _NEAR * limit for key, limit in limits.items())]
    if len(near) < _FEW:
        _log.warning(
            "only %d of %d evaluations come within 10 %% of %s: this search has hardly looked there; a "
            "search with search.strategy: pareto, or with search.constraint near that budget, would",
            *(len(near), len(finished), budget),
        )
    path = out or within_file(config.search_dir, limits, rank, fingerprint)
    save_evaluation(config, journal, within[rank - 1], path, **provenance)
    return path


def describe(limits: Mapping[str, float]) -> str:
    """ "macs <= 40,000,000 and latency_ms <= 5"."""
    return " and ".join(f"{key} <= {_shown(limit)}" for key, limit in limits.items())


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _nearest(finished: Sequence[Evaluation], limits: Mapping[str, float]) -> str:
    """The candidate that exceeds the limits by least, and its cost."""
    if not finished:
        return ""
    nearest = min(finished, key=lambda e: max(e.cost[key] / limit for key, limit in limits.items()))
    costs = " and ".join(f"{key} {_shown(nearest.cost[key])}" for key in limits)
    return f"; the nearest has {costs} (ops {','.join(map(str, nearest.ops))})"


def _table_file(config: Config, finished: Sequence[Evaluation], table: Path | None) -> Path | None:
    """The table that latencies are read from: the given one, else the config's; None for a search that knows
    them."""
    if table is None and all("latency_ms" in e.cost for e in finished):
        return None
    table = table or config.search.constraint.latency_table
    if table is None:
        raise UsageError(
            "--within latency_ms: this search had no latency table; measure one on the target device "
            "(`detnas latency`), and pass it as --latency-table"
        )
    return table
