"""Comparison by several objectives: dominance, fronts, crowding, and the hypervolume of a front.

From Deb et al., *A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II* (2002). A point has one number
for each objective, all to be minimised: an objective to be maximised is negated. Points are identified by
their positions, so that a caller keeps whatever belongs to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, ...]
"""One number for each objective, each to be minimised."""


def dominates(first: Point, second: Point) -> bool:
    """Whether the first is at most the second in every number, and below it in at least one."""
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def front_of(points: Sequence[Point]) -> list[int]:
    """The points that none dominates, ascending by position; all of several equal ones."""
    front: list[int] = []
    # In lexicographic order whatever dominates a point comes before it, and is on the front or behind it.
    for position in sorted(range(len(points)), key=lambda i: (points[i], i)):
        if not any(dominates(points[other], points[position]) for other in front):
            front.append(position)
    return sorted(front)


def sort_into_fronts(points: Sequence[Point]) -> list[list[int]]:
    """Fast non-dominated sorting: the front, the front of the rest without it, and so on.

    Each is ascending by position, and each point is in exactly one of them.
    """
    beaten_by_it: list[list[int]] = [[] for _ in points]
    beaten_by = [0] * len(points)
    for i, first in enumerate(points):
        for j, second in enumerate(points):
            if dominates(first, second):
                beaten_by_it[i].append(j)
                beaten_by[j] += 1
    fronts = []
    front = [i for i, count in enumerate(beaten_by) if count == 0]
    while front:
        fronts.append(front)
        left = []
        for i in front:
            for j in beaten_by_it[i]:
                beaten_by[j] -= 1
                if beaten_by[j] == 0:
                    left.append(j)
        front = sorted(left)
    return fronts


def crowding_distances(points: Sequence[Point]) -> list[float]:
    """How far from its neighbours each point of one front lies, from 0 to infinity.

    For each objective, the gap between the two neighbours, as a share of the front's range in it; the sum of
    these. The smallest and the largest in an objective have an infinite distance. Of equal ones the earlier
    counts as the smaller. An objective with the same number for all contributes nothing.
    """
    distances = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        least, greatest = points[order[0]][axis], points[order[-1]][axis]
        if least == greatest:
            continue
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            distances[i] += (points[after][axis] - points[before][axis]) / (greatest - least)
    return distances


def crowded_order(points: Sequence[Point]) -> list[int]:
    """All points in the order of NSGA-II's comparison, the best first.

    An earlier front goes before a later one, and within a front those far from their neighbours before the
    crowded ones, so that the front stays wide; ties go to the earlier position.
    """
    order: list[int] = []
    for front in sort_into_fronts(points):
        distances = crowding_distances([points[i] for i in front])
        ranked = sorted(zip(distances, front, strict=True), key=lambda entry: (-entry[0], entry[1]))
        order += [i for _, i in ranked]
    return order


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume of all that some point dominates, up to the reference; a point that is not below it in
    every number adds nothing.

    Computed slice by slice along the last objective, each slice a volume of one dimension less.
    """
    inside = [point for point in points if all(a < b for a, b in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(point[0] for point in inside)
    inside = sorted((inside[i] for i in front_of(inside)), key=lambda point: point[-1])
    ends = [*(point[-1] for point in inside[1:]), reference[-1]]
    return math.fsum(
        (end - point[-1]) * hypervolume([p[:-1] for p in inside[: number + 1]], reference[:-1])
        for number, (point, end) in enumerate(zip(inside, ends, strict=True))
        if end > point[-1]
    )
