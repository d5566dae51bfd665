"""A constraint's feasible set is exact: against brute force over every architecture of small tables."""

import itertools
from collections import Counter

import numpy as np
import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cost.limits import FeasibleSet, Limits
from detnas_nni.cost.table import Cost, CostTable, cost_table
from detnas_nni.errors import ArchitectureError, ConstraintError


def table_of(*blocks: list[tuple[int, int]], base: tuple[int, int] = (100, 10)) -> CostTable:
    """A table by hand: for each block the (MACs, parameters) of each op."""
    rows = tuple(tuple(Cost(*pair) for pair in block) for block in blocks)
    return CostTable("by hand", 224, Cost(*base), rows, (8, 7, 7), 16)


def everything(table: CostTable) -> set[tuple[int, ...]]:
    return set(itertools.product(*(range(len(row)) for row in table.blocks)))


# Ops that trade MACs for parameters, so that neither limit alone decides; blocks of different widths.
TRADE_OFF = table_of(
    [(0, 9), (5, 3), (9, 0), (4, 4)],
    [(0, 0), (-3, 7)],
    [(2, 2), (0, 5), (6, 0)],
    [(1, 8), (8, 1)],
)


def test_costs_add_up() -> None:
    assert Cost(1, 2) + Cost(10, 20) == Cost(11, 22)
    assert TRADE_OFF.cost((1, 1, 2, 0)) == Cost(100 + 5 - 3 + 6 + 1, 10 + 3 + 7 + 0 + 8)


def test_the_classifier_adds_its_convolution_normalisation_and_linear_layer() -> None:
    backbone = TRADE_OFF.cost((0, 0, 0, 0))
    classifier = TRADE_OFF.classifier_cost((0, 0, 0, 0), num_classes=5)
    assert classifier.macs - backbone.macs == 8 * 16 * 7 * 7 + 16 * 5
    assert classifier.params - backbone.params == 8 * 16 + 16 + 2 * 16 + 16 * 5 + 5


def test_a_classifier_without_that_convolution_adds_its_linear_layer_alone() -> None:
    table = CostTable("by hand", 224, Cost(100, 10), (), (8, 7, 7), classifier_channels=None)
    assert table.classifier_cost((), num_classes=5) == Cost(100 + 8 * 5, 10 + 8 * 5 + 5)


def test_a_fixed_net_is_the_only_architecture_of_its_space() -> None:
    table = cost_table("resnet50")
    found = FeasibleSet(table, Limits(max_macs=table.base.macs))
    assert found.contains(())
    assert found.random_unseen(np.random.default_rng(0), set()) == ()
    assert found.random_unseen(np.random.default_rng(0), {()}) is None
    assert FeasibleSet(table, Limits(max_macs=table.base.macs - 1)).is_empty


def test_an_architecture_and_its_ops_cost_the_same() -> None:
    arch = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))
    assert cost_table("tiny").cost(arch) == cost_table("tiny").cost(arch.ops)


def test_an_architecture_of_another_space_is_refused() -> None:
    with pytest.raises(ArchitectureError, match=r"is of space 'large'; the costs are those of '3\.8g'"):
        cost_table("3.8g").cost(Architecture("large", (0,) * 40))


def within(limits: Limits, cost: Cost) -> bool:
    """Written plainly: MACs and parameters each at most their limit, where there is one."""
    return (limits.max_macs is None or cost.macs <= limits.max_macs) and (
        limits.max_params is None or cost.params <= limits.max_params
    )


@pytest.mark.parametrize(
    ("constraint", "cost", "is_within"),
    [
        (Limits(), Cost(10**12, 10**12), True),
        (Limits(max_macs=5), Cost(5, 99), True),
        (Limits(max_macs=5), Cost(6, 0), False),
        (Limits(max_params=5), Cost(99, 5), True),
        (Limits(5, 5), Cost(5, 6), False),
        (Limits(max_macs=0), Cost(1, 0), False),
    ],
)
def test_a_limit_includes_itself(constraint: Limits, cost: Cost, is_within: bool) -> None:
    """Of a net with nothing to choose."""
    table = table_of(base=(cost.macs, cost.params))
    assert FeasibleSet(table, constraint).contains(()) is is_within


CONSTRAINTS = [
    Limits(),
    *(Limits(max_macs=macs) for macs in (97, 98, 99, 104, 200)),
    *(Limits(max_params=params) for params in (10, 11, 12, 17, 99)),
    *(Limits(macs, params) for macs in (98, 104, 107, 109) for params in (13, 18, 20, 24)),
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
def test_many_architectures_at_once_are_checked_as_one_by_one(constraint: Limits) -> None:
    found = FeasibleSet(TRADE_OFF, constraint)
    ops = sorted(everything(TRADE_OFF))
    assert found.mask(np.array(ops)).tolist() == [found.contains(row) for row in ops]


def test_a_limit_beyond_every_number_is_none() -> None:
    found = FeasibleSet(TRADE_OFF, Limits(max_macs=10**30))
    assert found.mask(np.zeros((3, 4), dtype=int)).all()


@pytest.mark.parametrize("space", ["small", "tiny", "3.8g"])
def test_many_architectures_at_once_cost_what_each_one_costs(space: str) -> None:
    table = cost_table(space)
    ops = np.random.default_rng(0).integers([len(row) for row in table.blocks], size=(50, len(table.blocks)))
    costs = [table.cost(row) for row in ops.tolist()]
    assert table.costs(ops).tolist() == [[cost.macs, cost.params] for cost in costs]
    assert table.costs(ops[:0]).shape == (0, 2)


def test_a_fixed_net_costs_the_same_however_often_it_is_asked() -> None:
    table = cost_table("resnet50")
    assert table.costs(np.zeros((2, 0), dtype=int)).tolist() == [[table.base.macs, table.base.params]] * 2


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
def test_every_feasible_architecture_comes_once_and_then_none(constraint: Limits) -> None:
    feasible = {ops for ops in everything(TRADE_OFF) if within(constraint, TRADE_OFF.cost(ops))}
    found = FeasibleSet(TRADE_OFF, constraint)
    assert found.is_empty is (not feasible)
    assert {ops for ops in everything(TRADE_OFF) if found.contains(ops)} == feasible
    rng, seen = np.random.default_rng(0), set()
    while (ops := found.random_unseen(rng, seen)) is not None:
        assert ops not in seen
        assert all(type(op) is int for op in ops)
        seen.add(ops)
    assert seen == feasible


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
def test_what_is_lowered_meets_the_constraint_with_no_change_in_vain(constraint: Limits) -> None:
    found, rng = FeasibleSet(TRADE_OFF, constraint), np.random.default_rng(0)
    limited = [axis for axis, limit in enumerate(constraint.limits) if limit is not None]
    for ops in everything(TRADE_OFF):
        lowered = found.lowered(rng, ops)
        if found.contains(ops):
            assert lowered == ops
        if lowered is None:  # one cost can always be lowered to the least; two may be in each other's way
            assert found.is_empty or len(limited) == 2
            continue
        assert found.contains(lowered)
        for block in np.flatnonzero(np.not_equal(lowered, ops)).tolist():
            assert not found.contains((*lowered[:block], ops[block], *lowered[block + 1 :]))


def test_a_change_that_another_ones_withdrawal_makes_needless_is_withdrawn_too() -> None:
    """Under two limits: to put a block back may lower the other cost, by which others have room."""
    table = cost_table("tiny")
    found = FeasibleSet(table, Limits(max_macs=21_420_448, max_params=84_468))
    rng, lowered = np.random.default_rng(0), 0
    for ops in rng.integers(4, size=(2000, len(table.blocks))).tolist():
        result = found.lowered(rng, ops)
        if result is not None:
            lowered += result != tuple(ops)
            for block in np.flatnonzero(np.not_equal(result, ops)).tolist():
                assert not found.contains((*result[:block], ops[block], *result[block + 1 :]))
    assert lowered > 1000


def test_a_cost_within_its_limit_may_rise_where_another_is_lowered() -> None:
    table = table_of(*[[(10, 0), (0, 1)]] * 4)
    found, rng = FeasibleSet(table, Limits(max_macs=120, max_params=12)), np.random.default_rng(0)
    reached = {found.lowered(rng, (0, 0, 0, 0)) for _ in range(100)}
    assert reached == {ops for ops in everything(table) if sum(ops) == 2}  # all, as they are drawn


def test_the_constraints_of_the_exhaustive_test_are_empty_tight_and_loose() -> None:
    sizes = {sum(within(c, TRADE_OFF.cost(ops)) for ops in everything(TRADE_OFF)) for c in CONSTRAINTS}
    assert {0, 1, 2, 48} <= sizes
    assert len(sizes) >= 6


def test_draws_are_uniform_over_what_is_feasible() -> None:
    found = FeasibleSet(TRADE_OFF, Limits(max_macs=106))
    feasible = [ops for ops in everything(TRADE_OFF) if found.contains(ops)]
    rng = np.random.default_rng(1)
    drawn = Counter(found.random_unseen(rng, set()) for _ in range(200 * len(feasible)))
    assert set(drawn) == set(feasible)
    # Chi-squared over its degrees of freedom is 1 for a uniform draw, within 3 deviations here.
    degrees = len(feasible) - 1
    chi_squared = sum((drawn[ops] - 200) ** 2 / 200 for ops in feasible)
    assert chi_squared < degrees + 3 * (2 * degrees) ** 0.5


def test_one_needle_in_a_haystack_is_found() -> None:
    blocks = [[(1, 0), (0, 0), (1, 0), (1, 0)]] * 30
    found = FeasibleSet(table_of(*blocks), Limits(max_macs=100))
    rng = np.random.default_rng(0)
    assert found.random_unseen(rng, set()) == (1,) * 30
    assert found.random_unseen(rng, {(1,) * 30}) is None


def test_two_limits_that_can_be_met_only_one_at_a_time_leave_nothing() -> None:
    table = table_of([(0, 9), (9, 0)], [(0, 9), (9, 0)])
    assert not FeasibleSet(table, Limits(109, 19)).is_empty
    assert FeasibleSet(table, Limits(108, 19)).is_empty


def test_an_impossible_constraint_says_what_can_be_had() -> None:
    found = FeasibleSet(cost_table("small"), Limits(max_macs=200_000_000))
    with pytest.raises(ConstraintError, match=r"MACs <= 200,000,000: the lowest MACs are 237,222,720"):
        found.raise_if_empty()
    FeasibleSet(cost_table("small"), Limits(max_macs=237_222_720)).raise_if_empty()


@pytest.mark.parametrize(
    "constraint",
    [Limits(300_000_000), Limits(240_000_000), Limits(300_000_000, 1_500_000)],
    ids=str,
)
def test_a_thousand_proposals_of_the_papers_space_are_feasible_and_different(constraint: Limits) -> None:
    found = FeasibleSet(cost_table("small"), constraint)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(1000):
        ops = found.random_unseen(rng, seen)
        assert found.contains(ops)
        seen.add(ops)
    assert len(seen) == 1000


@pytest.mark.parametrize(
    ("million_macs", "is_tight"), [(300, False), (280, False), (270, False), (262, True), (250, True)]
)
def test_draws_are_those_of_one_uniform_draw_after_the_other(million_macs: int, is_tight: bool) -> None:
    """Where two in three meet the limit, and where one in 20,000 does and 200 draws are mostly in vain."""
    found = FeasibleSet(cost_table("small"), Limits(max_macs=million_macs * 10**6))
    rng, plain, seen = np.random.default_rng(5), np.random.default_rng(5), set()
    in_vain = 0
    for _ in range(40):
        tries = (tuple(plain.integers([4] * 20).tolist()) for _ in range(200))
        expected = next((ops for ops in tries if ops not in seen and found.contains(ops)), None)
        drawn = found.random_unseen(rng, seen)
        if expected is None:  # the search by depth, which draws on
            assert found.contains(drawn) and drawn not in seen
            plain.bit_generator.state = rng.bit_generator.state
            in_vain += 1
        else:
            assert drawn == expected
            assert plain.bit_generator.state == rng.bit_generator.state
        seen.add(drawn)
    assert (in_vain > 0) is is_tight


def test_the_same_seed_draws_the_same() -> None:
    found = FeasibleSet(cost_table("tiny"), Limits(max_macs=11_000_000))
    first, second = (
        [found.random_unseen(rng, set()) for _ in range(20)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == second


def test_about_69_percent_of_small_meets_the_papers_limit() -> None:
    found = FeasibleSet(cost_table("small"), Limits(max_macs=300_000_000))
    ops = np.random.default_rng(0).integers(4, size=(4000, 20)).tolist()
    assert sum(map(found.contains, ops)) / 4000 == pytest.approx(0.69, abs=0.02)
