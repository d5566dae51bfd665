"""Estimates over several supernets at once: the same nets are drawn in all, so that luck is shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from benchmarks.evidence.plan import Ops
from detnas_nni.audit import bootstrap
from detnas_nni.audit.statistics import LEAST, Estimate
from detnas_nni.util.seeding import generator

_ALL_WAYS = 20_000
_EXACT = 12  # digits in which all machines solve least squares alike

Measures = Sequence[Sequence[float]]
"""One measure of the same nets by each supernet."""

Effects = list[np.ndarray]
"""Per block a number for each of its candidates."""


def mean_tau(measures: Measures, ap: Sequence[float]) -> Estimate | None:
    """Kendall's tau-b with AP, on average over supernets, with its bootstrap interval over nets."""
    return _estimate(_mean_tau(measures, ap), len(ap))


def mean_tau_difference(measures: Measures, others: Measures, ap: Sequence[float]) -> Estimate | None:
    """The mean tau of some measures minus that of others, paired by net."""
    first, second = _mean_tau(measures, ap), _mean_tau(others, ap)
    return _estimate(lambda weights: first(weights) - second(weights), len(ap))


def taus_between(measures: Measures) -> list[float]:
    """Kendall's tau-b between the orders of two supernets, for each pair of them that has one.

    Supernets are the sample here, and few: an interval over nets would say nothing of other supernets.
    """
    pairs = combinations([np.asarray(measure, dtype=float) for measure in measures], 2)
    taus = (bootstrap.of_all(bootstrap.tau(one, other), len(one)) for one, other in pairs)
    return [tau for tau in taus if tau is not None]


def block_effects(nets: Sequence[Ops], values: Sequence[float], sizes: Sequence[int]) -> Effects | None:
    """What each candidate of each block adds to the mean of its block: an additive model, by least squares.

    Args:
        nets: one candidate per block each.
        values: a number of each net.
        sizes: candidates of each block.

    Returns:
        Per block the effects of its candidates, whose sum is 0; None if the nets do not determine them.
    """
    # A candidate's column less the last one's, so that a block's effects sum to 0.
    columns = [np.ones(len(nets))]
    for block, size in enumerate(sizes):
        chosen = np.array([ops[block] for ops in nets])
        columns += [(chosen == op).astype(float) - (chosen == size - 1) for op in range(size - 1)]
    design = np.stack(columns, axis=1)
    found, _, rank, _ = np.linalg.lstsq(design, np.asarray(values, dtype=float), rcond=None)
    if rank < design.shape[1]:
        return None
    ends = np.cumsum([size - 1 for size in sizes])[:-1]
    blocks = [np.append(block, -block.sum()) for block in np.split(found[1:], ends)]
    return [np.round(block, _EXACT) for block in blocks]


def spread(effects: Sequence[np.ndarray]) -> float:
    """Of a block's candidates: the deviation of their effects from 0, over several supernets."""
    return math.sqrt(np.mean(np.square(effects)))


def shared(effects: Sequence[np.ndarray]) -> tuple[float, float]:
    """How much of a block's effects two supernets have in common, and the probability of as much by chance.

    The first is the mean product of the effects in two supernets over their mean square: 1 if they are the
    same, 0 if unrelated. The second is the share of 10,000 ways to shuffle each supernet's candidates that
    give as much; the given one counts as one more.

    Args:
        effects: (S, K) of K candidates in each of S supernets.
    """
    given = np.asarray(effects, dtype=float)
    count = len(given)
    squares = float(np.square(given).sum())
    rng = generator(0, "shuffled effects")
    shuffled = rng.permuted(np.broadcast_to(given, (bootstrap.RESAMPLES, *given.shape)), axis=2)
    # The square of a sum has every product of two twice, and the squares.
    products = np.square(shuffled.sum(axis=1)).sum(axis=1) - squares
    own = float(np.square(given.sum(axis=0)).sum()) - squares
    p = (1 + np.sum(products >= own - 1e-9 * squares)) / (1 + bootstrap.RESAMPLES)
    return (own / (count - 1) / squares if squares else 0.0), float(p)


def tau_of_true_order(by_seed: np.ndarray, ap: Sequence[float]) -> Estimate | None:
    """Kendall's tau that the order of the nets' expected AP would reach with AP of one training each.

    AP of a net is its expectation plus what the seed adds. If both are normal, expectation and AP correlate
    at r = √(1 - (deviation by seed / deviation between nets)²), and tau is 2/π · asin r (Kendall and Gibbons,
    Rank Correlation Methods, 1990, chapter 10). 0 if nets differ by no more than seeds. The interval is a
    bootstrap over nets.

    Args:
        by_seed: AP (N, S) of each net's trainings, NaN where there is none.
        ap: of the nets trained once each.

    Returns:
        None if no net has two seeds.
    """
    known = np.isfinite(by_seed)
    freedom = np.maximum(known.sum(axis=1) - 1, 0)
    if not freedom.any():
        return None
    means = np.nansum(by_seed, axis=1) / np.maximum(known.sum(axis=1), 1)
    within = np.nansum((by_seed - means[:, None]) ** 2, axis=1)
    values = np.asarray(ap, dtype=float)

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        centres = weights @ values / total
        between = (weights * (values - centres[:, None]) ** 2).sum(axis=1) / (total - 1)
        seeds = (weights @ within) / np.maximum(weights @ freedom, 1)
        share = np.divide(seeds, between, out=np.ones_like(between), where=between > 0)
        return 2 / np.pi * np.arcsin(np.sqrt(np.clip(1 - share, 0, 1)))

    return _estimate(statistic, len(values))


def best_of_random(choose: Sequence[float], ap: Sequence[float], k: int) -> Estimate:
    """Expected AP of the best of k random nets, chosen by one measure; interval over the sample.

    Exact over all ways to draw k of N: the net of rank i by the measure, from 0, is the highest of k in
    C(i, k - 1) of C(N, k). Each bootstrap draw is a sample.
    """
    low, high = bootstrap.middle(_expected(choose, ap, k))
    return Estimate(_expected_once(np.asarray(choose), np.asarray(ap), k), low, high, len(ap))


def over_best_of_random(
    values: Sequence[float], choose: Sequence[float], ap: Sequence[float], k: int
) -> Estimate:
    """The mean of values minus `best_of_random`; both samples are resampled, each on its own."""
    given = np.asarray(values, dtype=float)
    means = bootstrap.resampled(bootstrap.mean(given), len(given), 0, "values")
    low, high = bootstrap.middle(means - _expected(choose, ap, k))
    expected = _expected_once(np.asarray(choose), np.asarray(ap), k)
    return Estimate(float(given.mean()) - expected, low, high, len(given))


def group_test(first: Sequence[float], second: Sequence[float]) -> float:
    """The share of ways to deal all values into two such groups whose means are as far apart: two-sided.

    Every way is tried if there are at most 20,000; otherwise 10,000 random ones, and the given one counts as
    one more (Fisher, The Design of Experiments, 1935).
    """
    values, size = np.array([*first, *second]), len(first)
    places = np.arange(len(values))
    if math.comb(len(values), size) <= _ALL_WAYS:
        chosen = np.array(list(combinations(places, size)))
    else:
        rng = generator(0, "groups")
        dealt = [rng.permutation(places)[:size] for _ in range(bootstrap.RESAMPLES)]
        chosen = np.array([places[:size], *dealt])
    sums = values[chosen].sum(axis=1)
    gaps = np.abs(sums / size - (values.sum() - sums) / (len(values) - size))
    given = abs(np.mean(first) - np.mean(second))
    # Means of the same numbers differ in their last digits with the order of addition.
    return float(np.mean(gaps >= given - 1e-9))


def _expected(choose: Sequence[float], ap: Sequence[float], k: int) -> np.ndarray:
    rng, n = generator(0, "best of random", len(ap)), len(ap)
    first, second = np.asarray(choose), np.asarray(ap)
    draws = rng.integers(n, size=(bootstrap.RESAMPLES, n))
    order = np.take_along_axis(draws, np.argsort(first[draws], axis=1, kind="stable"), axis=1)
    return second[order] @ _shares(n, k)


def _expected_once(choose: np.ndarray, ap: np.ndarray, k: int) -> float:
    return float(ap[np.argsort(choose, kind="stable")] @ _shares(len(ap), k))


def _shares(n: int, k: int) -> np.ndarray:
    k = min(k, n)
    return np.array([math.comb(place, k - 1) / math.comb(n, k) for place in range(n)])


def _mean_tau(measures: Measures, ap: Sequence[float]) -> bootstrap.Statistic:
    target = np.asarray(ap, dtype=float)
    taus = [bootstrap.tau(np.asarray(measure, dtype=float), target) for measure in measures]
    return lambda weights: np.mean([tau(weights) for tau in taus], axis=0)


def _estimate(statistic: bootstrap.Statistic, n: int) -> Estimate | None:
    value = None if n < LEAST else bootstrap.of_all(statistic, n)
    return None if value is None else Estimate(value, *bootstrap.interval(statistic, n, 0), n)
