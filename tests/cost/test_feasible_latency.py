"""A limit on the latency beside MACs and parameters: exact, against brute force over every architecture."""

import itertools
from collections import Counter

import numpy as np
import pytest

from detnas_nni.cost.latency_table import LatencyTable
from detnas_nni.cost.limits import FeasibleSet, Limits, SuffixFronts, pareto_minimal
from detnas_nni.cost.table import Cost, CostTable, cost_table
from detnas_nni.errors import ConstraintError
from search_spaces import layout
from tests.cost.latencies import by_hand

SIZES = [4] * len(layout("tiny"))
# Ops that trade MACs, parameters and microseconds against one another, so that no limit alone decides.
TRADE_OFF = CostTable(
    "by hand",
    224,
    Cost(100, 10, 50),
    (
        (Cost(0, 9, 4), Cost(5, 3, 6), Cost(9, 0, 1), Cost(4, 4, 0)),
        (Cost(0, 0, 3), Cost(-3, 7, 0)),
        (Cost(2, 2, 2), Cost(0, 5, 9), Cost(6, 0, 5)),
        (Cost(1, 8, 0), Cost(8, 1, -4)),
    ),
    (8, 7, 7),
    16,
)


def everything(table: CostTable) -> set[tuple[int, ...]]:
    return set(itertools.product(*(range(len(row)) for row in table.blocks)))


def drawn_to_the_end(found: FeasibleSet) -> set[tuple[int, ...]]:
    rng, seen = np.random.default_rng(0), set()
    while (ops := found.random_unseen(rng, seen)) is not None:
        assert ops not in seen
        seen.add(ops)
    return seen


def within(limits: Limits, cost: Cost) -> bool:
    """Written plainly: each number at most its limit, where there is one."""
    numbers = zip((cost.macs, cost.params, cost.latency_us), limits.limits, strict=True)
    return all(limit is None or number <= limit for number, limit in numbers)


CONSTRAINTS = [
    *(Limits(max_latency_ms=us / 1000) for us in (46, 47, 52, 60, 99)),
    *(Limits(macs, None, us / 1000) for macs in (98, 104, 109) for us in (50, 54, 60)),
    *(Limits(None, params, us / 1000) for params in (13, 20) for us in (50, 54, 60)),
    *(Limits(macs, params, us / 1000) for macs in (104, 109) for params in (18, 24) for us in (53, 57, 61)),
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
def test_every_feasible_architecture_comes_once_and_then_none(constraint: Limits) -> None:
    feasible = {ops for ops in everything(TRADE_OFF) if within(constraint, TRADE_OFF.cost(ops))}
    found = FeasibleSet(TRADE_OFF, constraint)
    assert found.is_empty is (not feasible)
    assert {ops for ops in everything(TRADE_OFF) if found.contains(ops)} == feasible
    ops = sorted(everything(TRADE_OFF))
    assert found.mask(np.array(ops)).tolist() == [one in feasible for one in ops]
    assert drawn_to_the_end(found) == feasible


def test_the_constraints_of_the_exhaustive_test_are_empty_tight_and_loose() -> None:
    sizes = {sum(within(c, TRADE_OFF.cost(ops)) for ops in everything(TRADE_OFF)) for c in CONSTRAINTS}
    assert {0, 1, 48} <= sizes
    assert len(sizes) >= 8


def test_draws_are_uniform_over_what_is_feasible() -> None:
    found = FeasibleSet(TRADE_OFF, Limits(110, None, 0.06))
    feasible = [ops for ops in everything(TRADE_OFF) if found.contains(ops)]
    assert 5 < len(feasible) < 40
    rng = np.random.default_rng(1)
    drawn = Counter(found.random_unseen(rng, set()) for _ in range(200 * len(feasible)))
    assert set(drawn) == set(feasible)
    # Chi-squared over its degrees of freedom is 1 for a uniform draw, within 3 deviations here.
    degrees = len(feasible) - 1
    assert sum((drawn[ops] - 200) ** 2 / 200 for ops in feasible) < degrees + 3 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("with_macs", [False, True])
def test_of_the_tiny_space_all_that_is_feasible_is_drawn_and_nothing_else(with_macs: bool) -> None:
    table = cost_table("tiny").with_latency(by_hand())
    ops = np.stack(np.meshgrid(*map(np.arange, SIZES), indexing="ij"), axis=-1).reshape(-1, len(SIZES))
    costs = table.costs(ops)
    latency = np.sort(costs[:, 2])[40]
    macs = int(np.quantile(costs[costs[:, 2] <= latency, 0], 0.6)) if with_macs else None
    met = costs[:, 2] <= latency
    if macs is not None:
        met &= costs[:, 0] <= macs
    assert 15 < met.sum() < 200
    found = FeasibleSet(table, Limits(macs, None, latency / 1000))
    assert drawn_to_the_end(found) == set(map(tuple, ops[met].tolist()))


def test_a_limit_in_milliseconds_includes_itself() -> None:
    # 4.1 * 1000 is a little below 4100 in floats.
    def is_within(microseconds: int) -> bool:
        table = CostTable("by hand", 224, Cost(1, 1, microseconds), (), (8, 7, 7), 16)
        return FeasibleSet(table, Limits(max_latency_ms=4.1)).contains(())

    assert is_within(4100) and not is_within(4101)


def test_a_limit_on_a_latency_that_nobody_measured_is_refused() -> None:
    table = CostTable("by hand", 224, Cost(1, 1), (), (8, 7, 7), 16)
    with pytest.raises(ConstraintError, match="the latencies of space 'by hand' are not known; measure them"):
        FeasibleSet(table, Limits(max_latency_ms=4.1))


def test_the_least_possible_is_named() -> None:
    table = cost_table("tiny").with_latency(by_hand())
    least = by_hand().predict((0,) * len(SIZES)) / 1000
    FeasibleSet(table, Limits(max_latency_ms=least)).raise_if_empty()
    with pytest.raises(ConstraintError, match=rf"meets latency <= 1 ms: .*the lowest latency {least:g} ms"):
        FeasibleSet(table, Limits(max_latency_ms=1)).raise_if_empty()


def test_a_limit_on_a_latency_that_nobody_measured_says_how_to_measure_it() -> None:
    with pytest.raises(ConstraintError, match=r"latency <= 5 ms: .* `detnas latency`"):
        FeasibleSet(cost_table("tiny"), Limits(max_latency_ms=5))


def test_tight_limits_of_all_three_kinds_on_forty_blocks_are_searched_in_no_time() -> None:
    """A table as noise makes it, in which the fastest candidate of a block is often not the smallest."""
    rng, plain = np.random.default_rng(0), cost_table("large")
    rows = tuple(
        tuple((np.array([900, 905, 915, 1400]) * rng.normal(1, 0.05, 4)).astype(int).tolist())
        for _ in range(40)
    )
    conditions = by_hand(space="large").conditions
    table = plain.with_latency(LatencyTable(conditions, 5000, rows))
    free = FeasibleSet(table, Limits())
    least, some = free.least(), table.costs(rng.integers(4, size=(20_000, 40)))
    near = [
        int(low + 0.45 * (np.median(column) - low))
        for low, column in zip((least.macs, least.params, least.latency_us), some.T, strict=True)
    ]
    found = FeasibleSet(table, Limits(near[0], near[1], near[2] / 1000))
    assert not found.mask(rng.integers(4, size=(20_000, 40))).any()
    seen: set[tuple[int, ...]] = set()
    for _ in range(50):
        ops = found.random_unseen(rng, seen)
        assert found.contains(ops)
        seen.add(ops)
    assert len(seen) == 50


def is_below(other: tuple[int, ...], one: tuple[int, ...]) -> bool:
    return other != one and all(a <= b for a, b in zip(other, one, strict=True))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_front_is_what_nothing_else_is_below(axes: int) -> None:
    rng = np.random.default_rng(axes)
    for _ in range(50):
        vectors = set(map(tuple, rng.integers(0, 12, size=(30, axes)).tolist()))
        expected = [one for one in sorted(vectors) if not any(is_below(o, one) for o in vectors)]
        assert pareto_minimal(vectors) == expected


def test_a_loose_limit_keeps_no_front() -> None:
    blocks = [[(1, 9), (9, 1), (5, 5)]] * 10
    assert len(SuffixFronts((0, 0), blocks, (1000, 1000))) == 11
    assert len(SuffixFronts((0, 0), blocks, (50, 60))) > 50
