"""Nets resampled with replacement, and statistics of all draws at once.

A draw is a row of weights, how often each net was drawn, so that a statistic of thousands of draws is a few
matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from detnas_nni.util.seeding import generator

RESAMPLES = 10_000
_LEVEL = 0.95

Statistic = Callable[[np.ndarray], np.ndarray]
"""Weights (B, N), of B draws of N nets, to the statistic of each draw (B,); NaN where it is undefined."""


def of_all(statistic: Statistic, n: int) -> float | None:
    """The statistic of the n nets themselves; None where it is undefined."""
    value = float(statistic(np.ones((1, n)))[0])
    return value if np.isfinite(value) else None


def interval(statistic: Statistic, n: int, seed: int) -> tuple[float, float]:
    """The percentile bootstrap of a statistic of n nets: the middle 95 % of its draws."""
    return middle(resampled(statistic, n, seed))


def resampled(statistic: Statistic, n: int, seed: int, *stream: str) -> np.ndarray:
    """The statistic of each of 10,000 draws of n nets; `stream` names draws that others do not share."""
    draws = generator(seed, "bootstrap", n, *stream).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return statistic(draws.astype(float))


def middle(values: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 % of the values that are not NaN."""
    low, high = np.quantile(values[np.isfinite(values)], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def mean(values: np.ndarray) -> Statistic:
    """The mean of the values."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def tau(x: np.ndarray, y: np.ndarray) -> Statistic:
    """Kendall's tau-b between two measures (N,); a net that is drawn twice is tied with itself."""
    first, second = signs(x), signs(y)

    def pairs(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return ((weights @ matrix) * weights).sum(axis=1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        untied = pairs(weights, first**2) * pairs(weights, second**2)
        return _ratio(pairs(weights, first * second), untied)

    return statistic


def rho(x: np.ndarray, y: np.ndarray) -> Statistic:
    """Spearman's rho between two measures (N,): Pearson's correlation of mean ranks."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        first, second = (_centred_ranks(values, weights) for values in (x, y))
        spread = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
        return _ratio((weights * first * second).sum(axis=1), spread)

    return statistic


def mean_tau_of_columns(table: np.ndarray, least: int) -> Statistic:
    """The mean tau-b over pairs of columns (N, S), each over the rows that both have, at least `least`."""
    taus: list[tuple[np.ndarray, Statistic]] = []
    for one, other in combinations(range(table.shape[1]), 2):
        both = np.isfinite(table[:, one]) & np.isfinite(table[:, other])
        if both.sum() >= least:
            taus.append((both, tau(table[both, one], table[both, other])))

    def statistic(weights: np.ndarray) -> np.ndarray:
        values = np.full((len(taus), len(weights)), np.nan)
        for row, (both, of_pair) in enumerate(taus):
            values[row] = of_pair(weights[:, both])
        known = np.isfinite(values)
        return _ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0) ** 2)

    return statistic


def signs(values: np.ndarray) -> np.ndarray:
    """(N, N): 1 where the row's value is the greater, -1 where it is the smaller, 0 where they are equal."""
    return np.sign(values[:, None] - values)


def _centred_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, N): the rank of each net in a draw, ties sharing their mean, minus the draw's mean rank."""
    below, equal = values[:, None] > values, values[:, None] == values
    ranks = weights @ below.T.astype(float) + (weights @ equal.T.astype(float) + 1) / 2
    return ranks - (weights * ranks).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)


def _ratio(shared: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Shared divided by the root of the spread; NaN where nothing differs."""
    differs = spread > 1e-9
    return np.where(differs, shared / np.sqrt(np.where(differs, spread, 1.0)), np.nan)
