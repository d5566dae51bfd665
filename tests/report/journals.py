"""Journals of known numbers, for the tests of reports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from detnas_nni.architecture import Architecture
from detnas_nni.cost.table import cost_table
from detnas_nni.search.journal import Evaluation, journal_path
from detnas_nni.util.files import write_json, write_text
from search_spaces import layout

Fitness = Callable[[int], float]

_BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def write_journal(
    folder: Path,
    count: int,
    *,
    space: str = "tiny",
    population: int = 8,
    failed: set[int] = frozenset(),
    stopped: set[int] = frozenset(),
    seed: int = 0,
    fitness: Fitness | None = None,
    metrics: dict[str, float] | None = None,
) -> list[Evaluation]:
    """Write a search's journal of `count` different architectures; gives what stands in it.

    The fitness of evaluation i is `fitness(i)`, by default drawn; it takes 2 + i / 10 seconds. `failed` and
    `stopped` are evaluations that end so.
    """
    rng = np.random.default_rng(seed)
    candidates, table = [len(choice.candidates) for choice in layout(space)], cost_table(space)
    evaluations: list[Evaluation] = []
    seen = set()
    while len(evaluations) < count:
        number = len(evaluations)
        ops = tuple(rng.integers(candidates).tolist())
        if ops in seen:
            continue
        seen.add(ops)
        value = float(rng.uniform(0.2, 0.4)) if fitness is None else fitness(number)
        cost = table.cost(ops)
        has_result = number not in failed | stopped
        evaluations.append(
            Evaluation(
                id=number,
                ops=ops,
                choices=Architecture(space, ops).choices,
                cost={"macs": cost.macs, "params": cost.params},
                generation=number // population,
                origin=("random", "mutation", "crossover")[number % 3 if number >= population else 0],
                seconds=2 + number / 10,
                finished_at=(_BEGIN + timedelta(seconds=number)).isoformat(),
                metrics={"default": value, **(metrics or {"AP50": value})} if has_result else None,
                error=f"RuntimeError: no memory for {number} bytes" if number in failed else None,
                tries=2 if number in failed else 1,
                parts=(value / 2,) if number in stopped else (value / 2, value) if has_result else (),
                stopped=number in stopped,
            )
        )
    # At once: a Journal brings each to the disk, which takes its time for a thousand.
    write_text(journal_path(folder), "".join(evaluation.to_json() + "\n" for evaluation in evaluations))
    return evaluations


def write_result(run_dir: Path, ops: tuple[int, ...], ap: float, *, init: str = "classification") -> Path:
    """What `detnas retrain` leaves of one net of the tiny space."""
    path = run_dir / "retrain" / f"net-{'-'.join(map(str, ops))}-{init}" / "results.json"
    document = Architecture("tiny", ops).to_dict()
    write_json(path, {**document, "init": init, "detection": {"default": ap}, "classification": None})
    return path
