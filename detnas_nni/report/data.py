"""The data of the figures, without any drawing: a journal's numbers, and how well its supernet has ranked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from detnas_nni.architecture import Architecture
from detnas_nni.audit.statistics import spearman_rho, tau_b
from detnas_nni.finished.results import final_results
from detnas_nni.report.searches import ReportedSearch
from detnas_nni.search.journal import Evaluation
from search_spaces import Choice


def best_so_far(evaluations: Sequence[Evaluation]) -> np.ndarray:
    """The highest fitness up to each evaluation, (N,) float64; NaN before the first that has one.

    A candidate that failed or was stopped has none: then the best stays as it was.
    """
    values = [np.nan if e.fitness is None else e.fitness for e in evaluations]
    return np.fmax.accumulate(np.array(values, dtype=float))


@dataclass(frozen=True)
class Band:
    """Where a generation lies among the evaluations, counted from 0: `first` and `last`, both included."""

    generation: int
    first: int
    last: int


def generation_bands(evaluations: Sequence[Evaluation]) -> list[Band]:
    """One band per generation, in order and without gaps.

    With several trials at a time the last of a generation may end after the first of the next: a band begins
    where a generation first occurs.
    """
    bands: list[Band] = []
    for position, evaluation in enumerate(evaluations):
        if bands and evaluation.generation <= bands[-1].generation:
            bands[-1] = Band(bands[-1].generation, bands[-1].first, position)
        else:
            bands.append(Band(evaluation.generation, position, position))
    return bands


def pareto_front(costs: Sequence[float], fitness: Sequence[float]) -> list[int]:
    """The positions that nothing beats in both: no other costs at most as much and is at least as fit.

    Ascending by cost, and so by fitness; of equal ones only the first.
    """
    front: list[int] = []
    for position in sorted(range(len(costs)), key=lambda i: (costs[i], -fitness[i], i)):
        if not front or fitness[position] > fitness[front[-1]]:
            front.append(position)
    return front


def candidate_names(layout: Sequence[Choice]) -> list[str]:
    """Every candidate of a space, as text, in the order in which its blocks name them."""
    return list(dict.fromkeys(str(name) for choice in layout for name in choice.candidates))


def choice_shares(layout: Sequence[Choice], ops: Sequence[Sequence[int]]) -> np.ndarray:
    """How often each candidate is chosen in each block, (candidates, blocks), shares of one.

    NaN where a block does not have the candidate. `ops` has at least one architecture.
    """
    names = candidate_names(layout)
    shares = np.full((len(names), len(layout)), np.nan)
    chosen = np.array(ops)
    for block, choice in enumerate(layout):
        for op, name in enumerate(choice.candidates):
            shares[names.index(str(name)), block] = np.mean(chosen[:, block] == op)
    return shares


@dataclass(frozen=True)
class Times:
    """Where the time went, in seconds; None if the journal does not record it."""

    total: float
    """the sum over all evaluations"""
    wall: float | None
    """from the start of the first to the end of the last, with any pause between"""
    median: dict[str, float]
    """of an evaluation, by how it ended: finished, failed, stopped"""


def ending(evaluation: Evaluation) -> str:
    """How an evaluation has ended: `finished`, `failed` or `stopped`."""
    if evaluation.stopped:
        return "stopped"
    return "finished" if evaluation.error is None else "failed"


ENDINGS = ("finished", "failed", "stopped")


def times(evaluations: Sequence[Evaluation]) -> Times:
    timed = [e for e in evaluations if e.seconds is not None]
    by_ending = {end: [e.seconds for e in timed if ending(e) == end] for end in ENDINGS}
    ends = [(end, e) for e in timed if (end := _moment(e.finished_at)) is not None]
    wall = None
    if ends:
        starts = [end - timedelta(seconds=e.seconds) for end, e in ends]
        wall = (max(end for end, _ in ends) - min(starts)).total_seconds()
    return Times(
        total=float(sum(e.seconds for e in timed)),
        wall=wall,
        median={end: float(np.median(values)) for end, values in by_ending.items() if values},
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@dataclass(frozen=True)
class Pair:
    """One net: its fitness in the search, and its AP on the test split after training on its own."""

    architecture: Architecture
    supernet: float
    retrained: float


@dataclass(frozen=True)
class Agreement:
    """The nets whose detector training had the same start: a classifier, the supernet, or scratch.

    `tau` (Kendall's, b) and `rho` (Spearman's) are None for fewer than three nets, or if one of the two
    measures is the same for all of them.
    """

    init: str
    pairs: tuple[Pair, ...]
    tau: float | None
    rho: float | None


def agreements(search: ReportedSearch, run_dir: Path, space: str) -> list[Agreement]:
    """The agreement for the run's nets that are in the search's journal and retrained, by their start.

    Raises ArchitectureError for a results.json that `detnas retrain` would not write.
    """
    fitness = {e.ops: e.fitness for e in search.evaluations if e.fitness is not None}
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for result in final_results(run_dir, space):
        architecture = result.architecture
        # COCO's AP is -1 where there is nothing to find.
        if architecture.space == space and architecture.ops in fitness and result.detection >= 0:
            pair = Pair(architecture, fitness[architecture.ops], result.detection)
            pairs[result.init].append(pair)
    return [Agreement(init, tuple(found), *correlations(found)) for init, found in sorted(pairs.items())]


def correlations(pairs: Sequence[Pair]) -> tuple[float | None, float | None]:
    """Kendall's tau-b and Spearman's rho; None where they are undefined or meaningless."""
    first, second = [p.supernet for p in pairs], [p.retrained for p in pairs]
    return tau_b(first, second), spearman_rho(first, second)
