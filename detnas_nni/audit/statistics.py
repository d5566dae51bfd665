"""How well one measure ranks another, and how sure that is: plain arrays in, plain numbers out.

Intervals are percentile bootstraps (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13): the nets are resampled with replacement 10,000 times, and the middle 95 % of the results is the interval.
The same seed gives the same interval. For few nets it is too narrow, and for a perfect order it has no width
at all: read it together with `tau_p_value`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike

from detnas_nni.audit import bootstrap
from detnas_nni.util.seeding import generator

LEAST = 3
"""Nets below which a rank correlation means nothing: for two it is always 1 or -1."""

_NORMAL_95 = 1.96  # half of the middle 95 % of a normal distribution, in standard deviations
_ALL_ORDERS = 7  # nets up to which every order is tried: 7! = 5040
_ALL_SIGNS = 16  # differences up to which all signs are tried: 2^16 = 65536
_RANDOM_SIGNS = 100_000


@dataclass(frozen=True)
class Estimate:
    """A number with its interval at 95 % confidence.

    Attributes:
        value: for all nets.
        low: lower end of the interval.
        high: upper end.
        n: how many nets, or differences, it is based on.
    """

    value: float
    low: float
    high: float
    n: int


# Rank correlations.


def tau_b(x: ArrayLike, y: ArrayLike) -> float | None:
    """Kendall's tau-b: concordant minus discordant pairs, over the root of (pairs untied in x · untied in y).

    As `scipy.stats.kendalltau` computes it (Kendall, The treatment of ties in ranking problems, 1945).

    Args:
        x: (N,), one measure of each net.
        y: (N,), another.

    Returns:
        -1 to 1; None for fewer than three nets, and where a measure is the same for all.

    Raises:
        ValueError: the shapes differ, or a value is not finite.
    """
    first, second = _measures(x, y)
    return None if len(first) < LEAST else bootstrap.of_all(bootstrap.tau(first, second), len(first))


def spearman_rho(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman's rho: Pearson's correlation of the ranks, where ties share their mean rank.

    As `scipy.stats.spearmanr` computes it. Arguments, result and errors are those of `tau_b`.
    """
    first, second = _measures(x, y)
    return None if len(first) < LEAST else bootstrap.of_all(bootstrap.rho(first, second), len(first))


def tau_interval(x: ArrayLike, y: ArrayLike, *, seed: int = 0) -> Estimate | None:
    """Tau-b with its bootstrap interval over nets; None where tau-b is.

    A draw in which a measure is the same for all nets has no tau, and is left out. Raises like `tau_b`.
    """
    first, second = _measures(x, y)
    return _estimate(bootstrap.tau(first, second), len(first), seed)


def rho_interval(x: ArrayLike, y: ArrayLike, *, seed: int = 0) -> Estimate | None:
    """Spearman's rho with its bootstrap interval over nets, like `tau_interval`."""
    first, second = _measures(x, y)
    return _estimate(bootstrap.rho(first, second), len(first), seed)


def tau_difference_interval(
    x: ArrayLike, other: ArrayLike, y: ArrayLike, *, seed: int = 0
) -> Estimate | None:
    """Tau-b of x and y minus tau-b of `other` and y, with its bootstrap interval over nets.

    Both use the same draws of nets, so that what they have in common cancels out: this is how to ask whether
    a search ranks better than MACs alone. None where one of the two is. Raises like `tau_b`.
    """
    first, target = _measures(x, y)
    second, _ = _measures(other, y)
    ours, others = bootstrap.tau(first, target), bootstrap.tau(second, target)
    return _estimate(lambda weights: ours(weights) - others(weights), len(target), seed)


def tau_p_value(x: ArrayLike, y: ArrayLike, *, seed: int = 0) -> float | None:
    """The share of the orders of y whose tau-b is as far from 0: the two-sided permutation test.

    For up to seven nets all orders are tried. For more, 10,000 random ones are, and the given order counts as
    one more, so that the share is never 0 (Phipson and Smyth, arXiv 1603.05766). None where tau-b is; raises
    like it.
    """
    first, second = _measures(x, y)
    if tau_b(first, second) is None:
        return None
    nets = np.arange(len(first))
    if len(nets) <= _ALL_ORDERS:
        orders = list(permutations(nets))
    else:
        rng = generator(seed, "orders")
        orders = [nets, *(rng.permutation(nets) for _ in range(bootstrap.RESAMPLES))]
    # The denominator of tau-b is the same for all orders.
    one, other = bootstrap.signs(first), bootstrap.signs(second)
    given = abs((one * other).sum())
    return float(np.mean([abs((one * other[np.ix_(order, order)]).sum()) >= given for order in orders]))


def null_half_width(n: int) -> float:
    """How far from 0 tau stays in 95 % of cases for n nets that two measures rank without any relation.

    1.96 standard deviations of sqrt(2 (2n + 5) / (9 n (n - 1))) (Kendall, A new measure of rank correlation,
    1938): 0.25 for 30 nets, 0.49 for ten; more than 1 for three, where no tau stands out. Raises ValueError
    for fewer than two nets.
    """
    if n < 2:
        raise ValueError(f"{n} nets have no order")
    return _NORMAL_95 * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))


# The same nets, trained with several seeds.


def tau_between_seeds(aps: ArrayLike) -> float | None:
    """How well one training of the nets ranks another that differs only in the seed.

    The mean, over all pairs of seeds, of tau-b over the nets that were trained with both. It is a yardstick
    for a search, not a strict bound: knowing each net's mean over all seeds would rank one training a little
    better than another training does, as two trainings bring in the seed's noise twice.

    Args:
        aps: (N, S), AP by net and seed; NaN where a net was not trained with a seed.

    Returns:
        -1 to 1; None if no two seeds have three nets in common that differ.

    Raises:
        ValueError: it is not a table, or a value is infinite.
    """
    table = _table(aps)
    return bootstrap.of_all(bootstrap.mean_tau_of_columns(table, LEAST), len(table))


def tau_between_seeds_interval(aps: ArrayLike, *, seed: int = 0) -> Estimate | None:
    """`tau_between_seeds` with its bootstrap interval over nets.

    Nets with a single seed do not contribute, and are not counted in its `n`.
    """
    table = _table(aps)
    table = table[np.isfinite(table).sum(axis=1) >= 2]
    return _estimate(bootstrap.mean_tau_of_columns(table, LEAST), len(table), seed)


def seed_deviation(aps: ArrayLike) -> float | None:
    """The standard deviation of AP due to the seed alone, pooled over the nets with several seeds.

    The root of all squared deviations from each net's own mean over their degrees of freedom, as within the
    groups of an analysis of variance (Fisher, 1925). None if no net has two seeds; arguments as of
    `tau_between_seeds`.
    """
    rows = [row[np.isfinite(row)] for row in _table(aps)]
    freedom = sum(len(row) - 1 for row in rows if len(row))
    if not freedom:
        return None
    return math.sqrt(sum(float(((row - row.mean()) ** 2).sum()) for row in rows if len(row)) / freedom)


# What a choice by rank loses.


def regret(scores: ArrayLike, aps: ArrayLike, k: int = 1) -> float:
    """The highest AP of all nets minus the highest among the k nets of highest score; 0 is optimal.

    Of equal scores the earlier net comes first; if there are fewer than k nets all are chosen.

    Raises:
        ValueError: k is below 1, there is no net, the shapes differ, or a value is not finite.
    """
    first, second = _measures(scores, aps)
    _check_choice(k, len(first))
    chosen = np.argsort(-first, kind="stable")[:k]
    return float(second.max() - second[chosen].max())


def regret_of_chance(aps: ArrayLike, k: int = 1) -> float:
    """The regret of k nets drawn at random, averaged over all ways to draw them.

    Exact: of N values in ascending order the i-th, from 0, is the highest in C(i, k - 1) of the C(N, k) ways.
    Raises like `regret`.
    """
    values = np.sort(_measures(aps, aps)[0])
    _check_choice(k, len(values))
    k = min(k, len(values))
    ways = [math.comb(position, k - 1) / math.comb(len(values), k) for position in range(len(values))]
    return float(values[-1] - np.dot(ways, values))


# Differences of means.


def mean_interval(values: ArrayLike, *, seed: int = 0) -> Estimate:
    """The mean with its bootstrap interval; given the differences of pairs, that of the paired difference.

    Raises ValueError if there is no value, or one is not finite.
    """
    given = _values(values)
    low, high = bootstrap.interval(bootstrap.mean(given), len(given), seed)
    return Estimate(float(given.mean()), low, high, len(given))


def mean_difference_interval(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> Estimate:
    """The mean of the first minus that of the second with its bootstrap interval, for unpaired samples.

    Each sample is resampled on its own; `n` is the total of both. Raises like `mean_interval`.
    """
    one, other = _values(first), _values(second)
    means = (bootstrap.mean(sample) for sample in (one, other))
    drawn = (
        bootstrap.resampled(mean, len(sample), seed, name)
        for mean, sample, name in zip(means, (one, other), ("first", "second"), strict=True)
    )
    low, high = bootstrap.middle(next(drawn) - next(drawn))
    return Estimate(float(one.mean() - other.mean()), low, high, len(one) + len(other))


def sign_flip_test(differences: ArrayLike, *, seed: int = 0) -> float:
    """The share of signs that give a mean as far from 0: a two-sided test of paired differences.

    Fisher's randomisation test (The Design of Experiments, 1935), exact for up to 16 differences; for more,
    100,000 random signs are tried, and the given ones count as one more. The smallest value that n
    differences can give is 2 / 2^n. Raises ValueError if there is no difference, or one is not finite.
    """
    given = _values(differences)
    n = len(given)
    if n <= _ALL_SIGNS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = generator(seed, "signs").choice((-1, 1), size=(_RANDOM_SIGNS, n))
        signs = np.vstack([np.ones((1, n), dtype=int), drawn])
    sums = np.abs(signs @ given)
    # Sums of the same numbers differ in their last digits by the order in which they were added.
    return float(np.mean(sums >= abs(given.sum()) - 1e-9 * np.abs(given).sum()))


def _estimate(statistic: bootstrap.Statistic, n: int, seed: int) -> Estimate | None:
    value = None if n < LEAST else bootstrap.of_all(statistic, n)
    return None if value is None else Estimate(value, *bootstrap.interval(statistic, n, seed), n)


def _measures(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"two measures of the same nets are needed, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a measure is not finite")
    return first, second


def _table(aps: ArrayLike) -> np.ndarray:
    table = np.asarray(aps, dtype=float)
    if table.ndim != 2 or np.isinf(table).any():
        raise ValueError(f"a table of nets and seeds is needed, finite or NaN, got {table.shape}")
    return table


def _values(values: ArrayLike) -> np.ndarray:
    given = np.asarray(values, dtype=float)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
        raise ValueError(f"finite values are needed, at least one, got {given!r}")
    return given


def _check_choice(k: int, nets: int) -> None:
    if k < 1 or not nets:
        raise ValueError(f"k is {k} of {nets} nets; one at least is chosen, of one at least")
