"""How well a latency table predicts whole nets that it was not made from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from detnas_nni.architecture import Ops
from detnas_nni.cost.latency_table import Check, LatencyTable
from detnas_nni.errors import UsageError

_SET_ASIDE_OF = 100  # at most one of this many architectures of a space is set aside
_QUANTILE = 0.2
_FEWEST_ROUNDS = 4  # so that a net that is set aside is measured twice, even in every second round only


def expect_rounds(rounds: int) -> None:
    """Raise UsageError if a measurement of so few rounds cannot be checked."""
    if rounds < _FEWEST_ROUNDS:
        raise UsageError(f"{rounds} rounds: at least {_FEWEST_ROUNDS} are needed")


def draw_apart(sizes: Sequence[int], check: int, rng: np.random.Generator) -> list[Ops]:
    """Distinct architectures for the check; none if the space has too few to spare."""
    count = min(check, math.prod(sizes) // _SET_ASIDE_OF)
    chosen: dict[Ops, None] = {}
    while len(chosen) < count:
        chosen[tuple(rng.integers(sizes).tolist())] = None
    return list(chosen) if count >= 2 and len(sizes) >= 2 else []


def typical(microseconds: Sequence[float]) -> float:
    """What a repeated measurement says: a low quantile, since other load can only make passes longer."""
    return float(np.quantile(microseconds, _QUANTILE))


def checked(table: LatencyTable, set_aside: Mapping[Ops, Sequence[float]]) -> Check | None:
    """The table's error on whole nets; None for fewer than two."""
    from scipy.stats import kendalltau  # half a second, for nothing where no table is checked

    whole = {ops: typical(passes) for ops, passes in set_aside.items() if passes}
    if len(whole) < 2:
        return None
    errors = [abs(table.predict(ops) - measured) / measured for ops, measured in whole.items()]
    order = kendalltau([table.predict(ops) for ops in whole], list(whole.values()))
    noise = [
        abs(typical(set_aside[ops][::2]) - typical(set_aside[ops][1::2])) / measured
        for ops, measured in whole.items()
    ]
    return Check(
        len(whole),
        median_error=round(statistics.median(errors), 4),
        worst_error=round(max(errors), 4),
        # Undefined if all predictions are equal.
        kendall_tau=0.0 if math.isnan(order.statistic) else round(float(order.statistic), 3),
        noise=round(statistics.median(noise), 4),
        fastest_ms=round(min(whole.values()) / 1e3, 3),
        slowest_ms=round(max(whole.values()) / 1e3, 3),
    )
