"""`front.json`: the architectures of a search that no other beats in both fitness and cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Ops
from detnas_nni.config import COST_OF, Config
from detnas_nni.config.run_folder import FRONT, member_file
from detnas_nni.cost.table import CostTable
from detnas_nni.errors import EvaluationError, UsageError
from detnas_nni.search.best import provenance_of_search, save_evaluation
from detnas_nni.search.journal import Evaluation, Journal
from detnas_nni.search.nondominated import Point, front_of
from detnas_nni.util.files import write_json

FORMAT = 1
"""The version of the file's format."""


def objective_costs(table: CostTable, objectives: Sequence[str], ops: Ops) -> Point:
    """An architecture's costs, as named by `search.objectives`, in their order."""
    cost = table.cost(ops).to_dict()
    return tuple(cost[COST_OF[name]] for name in objectives)


def point(evaluation: Evaluation, objectives: Sequence[str]) -> Point:
    """A finished evaluation's objectives, all to be minimised: its fitness negated, then its costs.

    Raises EvaluationError for an objective that the journal has no number for.
    """
    costs = [evaluation.cost.get(COST_OF[name]) for name in objectives]
    if None in costs:
        missing = objectives[costs.index(None)]
        raise EvaluationError(
            f"evaluation {evaluation.id} of the journal has no {COST_OF[missing]} in its cost, which "
            f"search.objectives asks for ({', '.join(objectives)}); name those that the search has measured"
        )
    return (-evaluation.fitness, *costs)


def front(evaluations: Iterable[Evaluation], objectives: Sequence[str]) -> list[Evaluation]:
    """Those that no other one beats, highest fitness first; of two equal ones the earlier."""
    finished = [evaluation for evaluation in evaluations if evaluation.fitness is not None]
    members = [finished[i] for i in front_of([point(evaluation, objectives) for evaluation in finished])]
    return sorted(members, key=lambda evaluation: (-evaluation.fitness, evaluation.id))


def export_front(config: Config, journal: Journal) -> Path:
    """Write `front.json` of a search, ended or running, into its folder and return the path.

    Raises EvaluationError if nothing has finished, or `search.objectives` names what was not measured.
    """
    objectives = config.search.objectives
    members = _front_of(config, journal)
    path = config.search_dir / FRONT
    write_json(
        path,
        {
            "format": FORMAT,
            "space": config.space.name,
            "objectives": ["fitness", *(COST_OF[name] for name in objectives)],
            "members": [_member(config, rank, member) for rank, member in enumerate(members, start=1)],
            "provenance": provenance_of_search(config, journal),
        },
    )
    return path


def spread(members: Sequence[Evaluation], objectives: Sequence[str], count: int) -> list[Evaluation]:
    """`count` members of a front, far from each other: the fittest, then repeatedly the one farthest from
    all those taken.

    Distances are normalised: each objective counts as a share of its range over the front. The order
    is that of `members`; a larger count gives the same ones and others.
    """
    points = [point(member, objectives) for member in members]
    least = [min(axis) for axis in zip(*points, strict=True)]
    span = [max(axis) - low or 1.0 for axis, low in zip(zip(*points, strict=True), least, strict=True)]
    scaled = [[(a - low) / width for a, low, width in zip(p, least, span, strict=True)] for p in points]
    taken = [0]
    while len(taken) < count:
        room = [min(math.dist(place, scaled[i]) for i in taken) for place in scaled]
        # Of two equally far the fitter; one equal to a taken one is not taken again.
        taken.append(max((i for i in range(len(points)) if i not in taken), key=lambda i: (room[i], -i)))
    return [members[i] for i in sorted(taken)]


def write_members(config: Config, journal: Journal, count: int) -> list[Path]:
    """Write architectures spread over a search's front, each to its own file, and return the paths.

    Raises UsageError if the front has fewer, and EvaluationError like `export_front`.
    """
    members = _front_of(config, journal)
    if count > len(members):
        raise UsageError(
            f"--front {count}: the front of {journal.path} has {len(members)} of {len(journal)} evaluations; "
            f"ask for at most {len(members)}, or search on (search.generations)"
        )
    chosen = spread(members, config.search.objectives, count)
    paths = [member_file(config.search_dir, member.ops) for member in chosen]
    for member, path in zip(chosen, paths, strict=True):
        save_evaluation(config, journal, member, path)
    return paths


def _front_of(config: Config, journal: Journal) -> list[Evaluation]:
    members = front(journal.evaluations, config.search.objectives)
    if not members:
        raise EvaluationError(
            f"{journal.path}: no evaluation has finished, so there is no front; run `detnas search`"
        )
    return members


def _member(config: Config, rank: int, member: Evaluation) -> dict[str, Any]:
    return {
        "rank": rank,
        "ops": list(member.ops),
        "choices": member.choices,
        "cost": {**member.cost, "resolution": config.search.constraint.resolution},
        "metrics": member.metrics,
        "evaluation": member.id,
        "generation": member.generation,
        "origin": member.origin,
    }
