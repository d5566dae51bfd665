"""Sorting, crowding and volume on cases that are worked out by hand."""

import itertools
import math

import numpy as np
import pytest

from detnas_nni.search.nondominated import (
    crowded_order,
    crowding_distances,
    dominates,
    front_of,
    hypervolume,
    sort_into_fronts,
)

# Two numbers, both to be small:
#
#   5 | a . . . . .
#   4 | . . d . . .      The front is a, b, g, c, and e, which equals b.
#   3 | . b . . f .      Behind it are d, which b beats, and f, which b, g and c beat.
#   2 | . . . g . .
#   1 | . . . . c .
#       0 1 2 3 4 5
A, B, C, D, E, F, G = (0, 5), (1, 3), (4, 1), (2, 4), (1, 3), (4, 3), (3, 2)
POINTS = [F, A, D, B, G, E, C]


def test_one_dominates_another_if_it_is_nowhere_worse_and_somewhere_better():
    assert dominates((1, 2), (1, 3)) and dominates((0, 0), (1, 1))
    assert not dominates((1, 3), (1, 2))
    assert not dominates((1, 2), (1, 2))
    assert not dominates((0, 3), (1, 2)) and not dominates((1, 2), (0, 3))


def test_fronts_are_peeled_off_one_after_the_other_and_equal_points_stand_in_one():
    first = [1, 3, 4, 5, 6]  # all but F and D
    assert sort_into_fronts(POINTS) == [first, [0, 2]]
    assert front_of(POINTS) == first


def test_a_chain_has_as_many_fronts_as_points():
    assert sort_into_fronts([(2, 2), (0, 0), (3, 3), (1, 1)]) == [[1], [3], [0], [2]]


def test_of_no_points_there_is_no_front():
    assert sort_into_fronts([]) == [] and front_of([]) == [] and crowding_distances([]) == []


def test_a_points_distance_is_the_sum_of_the_gaps_around_it_in_shares_of_the_range():
    # First: 0, 1, 3, 4, of a range of 4. Second: 5, 3, 2, 1, of a range of 4.
    distances = crowding_distances([A, B, G, C])
    assert distances == [math.inf, (3 - 0) / 4 + (5 - 2) / 4, (4 - 1) / 4 + (3 - 1) / 4, math.inf]


def test_of_equal_points_the_earlier_counts_as_the_lesser_in_every_objective():
    # By the first: A, B, E, C; by the second: C, B, E, A. So B has A and E beside it, then C and E.
    a, b, e, c = crowding_distances([A, B, E, C])
    assert (a, c) == (math.inf, math.inf)
    assert b == (1 - 0) / 4 + (3 - 1) / 4
    assert e == (4 - 1) / 4 + (5 - 3) / 4


def test_an_objective_that_is_the_same_for_all_tells_nothing():
    assert crowding_distances([(0, 7), (1, 7), (4, 7)]) == [math.inf, 1.0, math.inf]
    assert crowding_distances([(1, 1), (1, 1)]) == [0.0, 0.0]


def test_the_order_is_by_front_then_by_room_then_by_position():
    order = crowded_order(POINTS)
    assert order[:2] == [POINTS.index(A), POINTS.index(C)]  # the ends, as they came
    assert set(order[:5]) == {1, 3, 4, 5, 6}
    assert order[5:] == [0, 2]  # two points are both ends, as they came
    assert crowded_order([(1, 1), (1, 1), (0, 0)]) == [2, 0, 1]


def test_the_volume_of_a_staircase_is_counted_in_squares():
    # Below 6 in both. A: 6 x 1. B: 5 x 2 more. G: 3 x 1 more. C: 2 x 1 more.
    assert hypervolume(POINTS, (6, 6)) == 6 + 10 + 3 + 2
    assert hypervolume([(2, 2)], (6, 6)) == 16
    assert hypervolume([(6, 0), (0, 6), (7, 7)], (6, 6)) == 0
    assert hypervolume([], (6, 6)) == 0


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_the_volume_is_the_share_of_a_grids_cells_that_some_point_dominates(objectives):
    rng = np.random.default_rng(objectives)
    for _ in range(5):
        points = [tuple(map(int, point)) for point in rng.integers(0, 6, size=(9, objectives))]
        cells = itertools.product(range(5), repeat=objectives)
        covered = sum(
            any(all(a <= b for a, b in zip(p, cell, strict=True)) for p in points) for cell in cells
        )
        assert hypervolume(points, (5,) * objectives) == covered


def test_sorting_agrees_with_the_definition_on_many_points_with_ties():
    rng = np.random.default_rng(0)
    points = [tuple(map(int, point)) for point in rng.integers(0, 8, size=(120, 3))]
    left, fronts = list(range(len(points))), sort_into_fronts(points)
    for front in fronts:
        assert front == [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        left = [i for i in left if i not in front]
    assert not left
    assert front_of(points) == fronts[0]
