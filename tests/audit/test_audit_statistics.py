"""The audit's statistics against scipy, against counting, and where there is nothing to say."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from detnas_nni.audit.statistics import (
    mean_difference_interval,
    mean_interval,
    null_half_width,
    regret,
    regret_of_chance,
    rho_interval,
    seed_deviation,
    sign_flip_test,
    spearman_rho,
    tau_b,
    tau_between_seeds,
    tau_between_seeds_interval,
    tau_difference_interval,
    tau_interval,
    tau_p_value,
)

X = (0.10, 0.20, 0.30, 0.40, 0.50)
Y = (0.31, 0.30, 0.33, 0.32, 0.34)  # two neighbours the wrong way round, twice: 8 of 10 pairs agree
WITH_TIES = (1, 1, 2, 2, 2, 3, 4, 4), (2, 1, 1, 3, 3, 2, 5, 5)


def related(n: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    return x, x + noise * rng.normal(size=n)


def test_tau_and_rho_are_those_of_hand():
    assert tau_b(X, Y) == pytest.approx((8 - 2) / 10)
    assert spearman_rho(X, Y) == pytest.approx(1 - 6 * (1 + 1 + 1 + 1) / (5 * 24))


@pytest.mark.parametrize(("x", "y"), [(X, Y), WITH_TIES, related(30), ((1, 2, 3), (2, 2, 1))])
def test_tau_and_rho_are_those_of_scipy(x, y):
    assert tau_b(x, y) == pytest.approx(stats.kendalltau(x, y)[0])
    assert spearman_rho(x, y) == pytest.approx(stats.spearmanr(x, y)[0])


@pytest.mark.parametrize(
    ("x", "y"), [((1, 2), (1, 2)), ((3, 3, 3), (1, 2, 3)), ((1, 2, 3), (3, 3, 3)), ((), ())]
)
def test_fewer_than_three_nets_or_equal_ones_have_no_order(x, y):
    assert tau_b(x, y) is spearman_rho(x, y) is tau_interval(x, y) is rho_interval(x, y) is None
    assert tau_p_value(x, y) is None


@pytest.mark.parametrize("y", [(1, 2), (1, 2, math.nan)])
def test_a_measure_of_other_nets_or_without_a_number_is_refused(y):
    with pytest.raises(ValueError, match=r"same nets|not finite"):
        tau_b((1, 2, 3), y)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (tau_interval, lambda x, y: stats.kendalltau(x, y)[0]),
        (rho_interval, lambda x, y: stats.spearmanr(x, y)[0]),
    ],
)
@pytest.mark.filterwarnings("ignore:An input array is constant")  # in a draw
@pytest.mark.parametrize(("x", "y"), [related(12), WITH_TIES])
def test_an_interval_is_that_of_nets_drawn_one_by_one(ours, theirs, x, y):
    x, y = np.array(x), np.array(y)
    rng = np.random.default_rng(7)
    draws = [theirs(x[nets], y[nets]) for nets in rng.integers(0, len(x), size=(2000, len(x)))]
    expected = np.nanquantile(draws, [0.025, 0.975])
    found = ours(x, y, seed=1)
    assert found.n == len(x) and found.value == pytest.approx(theirs(x, y))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.06)


def test_of_three_nets_in_one_order_the_interval_has_no_width_and_the_test_says_that_it_is_little():
    found = tau_interval((1, 2, 3), (4, 5, 6))
    assert (found.value, found.low, found.high, found.n) == (1.0, 1.0, 1.0, 3)
    assert tau_p_value((1, 2, 3), (4, 5, 6)) == pytest.approx(2 / 6)  # the order and its reverse


def test_a_seed_gives_the_same_interval_again_and_another_seed_another():
    x, y = related(12)
    assert tau_interval(x, y, seed=3) == tau_interval(x, y, seed=3)
    assert tau_interval(x, y, seed=3) != tau_interval(x, y, seed=4)


@pytest.mark.parametrize("n", [5, 7])
def test_the_permutation_test_of_few_nets_is_scipys_exact_one(n):
    x, y = related(n, noise=0.5)
    assert tau_p_value(x, y) == pytest.approx(stats.kendalltau(x, y, method="exact")[1])


def test_the_permutation_test_of_many_nets_is_near_scipys_and_never_0():
    x, y = related(12)
    assert tau_p_value(x, y) == pytest.approx(stats.kendalltau(x, y, method="exact")[1], abs=0.03)
    assert 0 < tau_p_value(range(40), range(40)) < 0.001


def test_the_band_of_no_relation_is_as_known():
    assert null_half_width(30) == pytest.approx(0.25, abs=0.005)
    assert null_half_width(10) == pytest.approx(0.49, abs=0.005)
    assert null_half_width(3) > 1
    with pytest.raises(ValueError, match="1 nets"):
        null_half_width(1)


def test_the_difference_of_two_taus_is_0_for_one_measure_and_has_the_nets_in_common():
    x, y = related(12)
    same = tau_difference_interval(x, x, y)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    against = tau_difference_interval(x, -x, y)
    assert against.value == pytest.approx(2 * tau_b(x, y))
    assert tau_difference_interval(x, np.ones(12), y) is None


SEEDS = [
    # all in one order with the first two seeds; with the third the outer two change places
    [0.1, 0.2, 0.3],
    [0.2, 0.3, 0.2],
    [0.3, 0.4, 0.1],
    [0.9, math.nan, math.nan],
]


def test_tau_between_seeds_is_the_mean_over_pairs_of_seeds_and_over_the_nets_of_both():
    assert tau_between_seeds(SEEDS) == pytest.approx((1 - 1 - 1) / 3)
    assert tau_between_seeds([row[:2] for row in SEEDS]) == 1.0
    found = tau_between_seeds_interval(SEEDS)
    assert found.n == 3 and found.value == pytest.approx(-1 / 3)


@pytest.mark.parametrize(
    "aps",
    [
        [[0.1], [0.2], [0.3]],
        [[0.1, 0.2], [0.2, 0.3], [0.3, math.nan]],
        [[0.1, 0.2], [0.1, 0.3], [0.1, 0.4]],
    ],
)
def test_one_seed_or_two_nets_or_equal_ones_give_no_tau_between_seeds(aps):
    assert tau_between_seeds(aps) is tau_between_seeds_interval(aps) is None


def test_the_deviation_between_seeds_is_pooled_over_nets():
    assert seed_deviation([[1.0, 3.0], [5.0, 5.0]]) == pytest.approx(1.0)  # squares 2 + 0, freedom 1 + 1
    assert seed_deviation(SEEDS) == pytest.approx(
        math.sqrt(np.mean([np.var(row, ddof=1) for row in np.array(SEEDS)[:3]]))
    )
    assert seed_deviation([[0.1, math.nan], [0.2, math.nan]]) is None


def test_regret_is_what_the_choice_by_score_misses():
    scores, aps = (0.5, 0.4, 0.3, 0.2), (0.30, 0.32, 0.31, 0.35)
    assert [regret(scores, aps, k) for k in (1, 2, 3, 4, 9)] == pytest.approx([0.05, 0.03, 0.03, 0.0, 0.0])
    assert regret((0.5, 0.5), (0.3, 0.4), 1) == pytest.approx(0.1)  # of equal scores the first
    for k, nets in ((0, scores), (1, ())):
        with pytest.raises(ValueError, match="k is"):
            regret(nets, nets, k)


@pytest.mark.parametrize("k", [1, 2, 3, 6, 9])
def test_the_regret_of_chance_is_the_mean_over_all_choices(k):
    aps = (0.30, 0.35, 0.31, 0.31, 0.40, 0.22)
    best = [max(choice) for choice in combinations(aps, min(k, 6))]
    assert regret_of_chance(aps, k) == pytest.approx(0.40 - np.mean(best))


def test_the_mean_and_its_interval_are_scipys():
    values = related(15)[0]
    found = mean_interval(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_the_difference_of_two_means_and_its_interval_are_scipys():
    first, second = related(15)[0], related(10)[1]
    found = mean_difference_interval(first, second)
    theirs = stats.bootstrap(
        (first, second), lambda a, b, axis: a.mean(axis) - b.mean(axis), method="percentile", rng=1
    ).confidence_interval
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.06)


def test_the_sign_flip_test_is_scipys_exact_one():
    differences = related(9)[0] + 0.4
    theirs = stats.permutation_test(
        (differences, np.zeros(9)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert sign_flip_test(differences) == pytest.approx(theirs.pvalue)


def test_the_sign_flip_test_knows_its_limits():
    assert sign_flip_test([0.1, 0.2, 0.3]) == pytest.approx(2 / 8)
    assert sign_flip_test([0.0, 0.0]) == 1.0
    many = sign_flip_test(np.full(20, 0.1))
    assert 0 < many < 0.001 and many == sign_flip_test(np.full(20, 0.1))
    with pytest.raises(ValueError, match="finite values"):
        sign_flip_test([])
