"""What an audit measures, and its verdict in one sentence.

The rankings by the search, by cost and by other seeds are each compared with AP after training. The rules
for the verdict are also in docs/audit.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from detnas_nni.audit.journal import NetTraining
from detnas_nni.audit.plan import Candidate
from detnas_nni.audit.statistics import (
    LEAST,
    Estimate,
    null_half_width,
    regret,
    regret_of_chance,
    rho_interval,
    seed_deviation,
    tau_between_seeds_interval,
    tau_difference_interval,
    tau_interval,
    tau_p_value,
)

CHOICES = (1, 3)
"""The numbers of first choices for which regret is given."""

SIGNIFICANT = 0.05
"""p-value from which on an order may be due to chance."""

LITTLE, MUCH = 0.3, 0.5
"""Tau below which a ranking is of little use, and from which on it is good."""

FEW = 10
"""Nets below which no ranking is called good: bootstrap intervals from fewer are too narrow."""

_NORMAL_95 = 1.96

Ranking = Literal["well", "better than chance", "hardly", "wrong", "cannot tell"]
AgainstCost = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Regret:
    """What is lost by training only the search's first choices instead of all nets of the audit.

    Attributes:
        k: how many first choices.
        search: highest AP of all nets minus the highest of those; None if the search's first has no AP.
        chance: the same for k nets drawn at random, on average.
    """

    k: int
    search: float | None
    chance: float


@dataclass(frozen=True)
class Figures:
    """The numbers of an audit; an estimate is None where it is not defined, as for fewer than three nets.

    Every net counts with its AP after one training, with the first seed, so that all are measured alike; the
    other seeds show the effect of the seed alone.

    Attributes:
        n: nets with an AP.
        failed: trainings that ended with an error.
        tau: Kendall's tau-b of fitness in the search against AP.
        tau_p: how often unrelated orders give a tau as far from 0.
        rho: Spearman's rho of the same.
        between_seeds: tau-b of AP with one seed against AP with another.
        seed_deviation: standard deviation of AP between seeds; None without nets of several seeds.
        macs: tau-b of MACs alone against AP.
        params: tau-b of parameters alone against AP.
        over_macs: tau minus that of MACs.
        over_params: tau minus that of parameters.
        no_relation: how far from 0 tau is within 95 % of unrelated orders; None for fewer than two nets.
        regret: at each of `CHOICES` for which there are enough nets.
    """

    n: int
    failed: int
    tau: Estimate | None
    tau_p: float | None
    rho: Estimate | None
    between_seeds: Estimate | None
    seed_deviation: float | None
    macs: Estimate | None
    params: Estimate | None
    over_macs: Estimate | None
    over_params: Estimate | None
    no_relation: float | None
    regret: tuple[Regret, ...]


def figures(
    nets: Sequence[Candidate],
    first: Candidate,
    seeds: Sequence[int],
    ap: Callable[[NetTraining], float | None],
    *,
    failed: int,
    chance: int,
) -> Figures:
    """The figures from what has been trained so far.

    Args:
        nets: the sample, in the search's order.
        first: the search's first choice, which regret is about; among the nets or not.
        seeds: those that nets were trained with, the first of them all.
        ap: gives a training's AP on the test split; None if it has none.
        failed: how many trainings ended with an error.
        chance: the seed of the bootstrap.
    """
    by_net = {net: ap(NetTraining(net.ops, seeds[0])) for net in nets}
    known = [net for net in nets if by_net[net] is not None]
    aps = [by_net[net] for net in known]
    fitness = [net.fitness for net in known]
    macs, params = [net.macs for net in known], [net.params for net in known]
    table = [[_or_nan(ap(NetTraining(net.ops, seed))) for seed in seeds] for net in nets]
    return Figures(
        n=len(known),
        failed=failed,
        tau=tau_interval(fitness, aps, seed=chance),
        tau_p=tau_p_value(fitness, aps, seed=chance),
        rho=rho_interval(fitness, aps, seed=chance),
        between_seeds=tau_between_seeds_interval(table, seed=chance),
        seed_deviation=seed_deviation(table),
        macs=tau_interval(macs, aps, seed=chance),
        params=tau_interval(params, aps, seed=chance),
        over_macs=tau_difference_interval(fitness, macs, aps, seed=chance),
        over_params=tau_difference_interval(fitness, params, aps, seed=chance),
        no_relation=null_half_width(len(known)) if len(known) >= LEAST else None,
        regret=_regrets(known, aps, first, ap(NetTraining(first.ops, seeds[0]))),
    )


def _regrets(
    known: Sequence[Candidate], aps: Sequence[float], first: Candidate, ap_of_first: float | None
) -> tuple[Regret, ...]:
    """Regret over the known nets, and the search's first choice if it is not among them."""
    if first not in known and ap_of_first is not None:
        known, aps = [first, *known], [ap_of_first, *aps]
    ranks = [-net.rank for net in known]
    return tuple(
        Regret(k, None if ap_of_first is None else regret(ranks, aps, k), regret_of_chance(aps, k))
        for k in CHOICES
        if k < len(known)
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    ranking: how the search's ranking agrees with that after training.
    against_cost: whether it is better than ranking by cost alone, by MACs or parameters, whichever is
        better; `cannot tell` also if one of the two gives no order.
    sentence: both, and what the search's first choice loses.
    """

    ranking: Ranking
    against_cost: AgainstCost
    sentence: str


def verdict(figures: Figures, measure: str = "AP") -> Verdict:
    """What the figures mean; `measure` names the nets' metric, AP or VOC mAP.

    A pure function of the figures.
    """
    ranking, against_cost = _ranking(figures), _against_cost(figures)
    parts = [_ranking_clause(figures, ranking, measure)]
    if figures.tau is not None:
        parts.append(_cost_clause(figures, against_cost))
    parts.append(_regret_clause(figures, measure))
    sentence = "; ".join(part for part in parts if part) + "."
    return Verdict(ranking, against_cost, sentence[0].upper() + sentence[1:])


def _ranking(figures: Figures) -> Ranking:
    tau = figures.tau
    if tau is None:
        return "cannot tell"
    if figures.tau_p >= SIGNIFICANT or tau.low <= 0 <= tau.high:
        # Nothing was detected. Only an audit large enough to detect more can say that there is little.
        return "hardly" if tau.high < LITTLE and figures.no_relation < LITTLE else "cannot tell"
    if tau.high < 0:
        return "wrong"
    if tau.low >= MUCH and figures.n >= FEW:
        return "well"
    return "hardly" if tau.high < LITTLE else "better than chance"


def _against_cost(figures: Figures) -> AgainstCost:
    _, _, difference = _better_cost(figures)
    if difference is None or difference.low <= 0 <= difference.high:
        return "cannot tell"
    return "better" if difference.low > 0 else "worse"


def _better_cost(figures: Figures) -> tuple[str, Estimate | None, Estimate | None]:
    """The cost that ranks the nets better: its name, its tau, and how far the search's is above it."""
    costs = [("MACs", figures.macs, figures.over_macs), ("parameters", figures.params, figures.over_params)]
    return max(costs, key=lambda cost: -math.inf if cost[1] is None else cost[1].value)


def _ranking_clause(figures: Figures, ranking: Ranking, measure: str) -> str:
    nets = f"{figures.n} net{'' if figures.n == 1 else 's'}"
    if figures.n < LEAST:
        return f"cannot tell how well the search ranks: {nets} with a result, and at least {LEAST} are needed"
    tau = figures.tau
    if tau is None:
        return f"cannot tell how well the search ranks: all {nets} have the same {measure} or fitness"
    numbers = f"τ {tau.value:.2f}, 95 % interval {tau.low:.2f} to {tau.high:.2f}, {nets}"
    if ranking == "cannot tell":
        chance = f"is within ±{figures.no_relation:.2f}" if figures.no_relation < 1 else "may be anything"
        return (
            f"cannot tell whether the search ranks better than chance ({numbers}; without any relation τ "
            f"{chance})"
        )
    seeds = figures.between_seeds
    ceiling = "" if seeds is None else f"; another seed of the same nets agrees at τ {seeds.value:.2f}"
    words = {
        "well": "the search ranks well",
        "better than chance": "the search ranks better than chance",
        "hardly": "the search hardly ranks better than chance",
        "wrong": "the search ranks the wrong way round",
    }
    return f"{words[ranking]} ({numbers}{ceiling})"


def _cost_clause(figures: Figures, against_cost: AgainstCost) -> str:
    name, alone, _ = _better_cost(figures)
    if alone is None:
        return ""
    words = {
        "better": f"it ranks better than {name} alone",
        "worse": f"it ranks worse than {name} alone",
        "cannot tell": f"cannot tell whether it ranks better than {name} alone",
    }
    return f"{words[against_cost]} (τ {alone.value:.2f})"


def _regret_clause(figures: Figures, measure: str) -> str:
    first = next((regret for regret in figures.regret if regret.k == 1), None)
    if first is None or first.chance == 0:  # all nets are equally good
        return ""
    if first.search is None:
        return "what its first choice loses is unknown, since its training failed"
    lost = f"its first choice is {first.search:.4f} {measure} below the best net that was trained"
    if first.search == 0:
        lost = "no net that was trained is better than its first choice"
    against = f"a random one {first.chance:.4f} on average"
    deviation = figures.seed_deviation
    if first.search == 0 or deviation is None:
        return f"{lost} ({against})"
    noise = _NORMAL_95 * math.sqrt(2) * deviation
    relation = "no more than" if first.search <= noise else "more than"
    return f"{lost} ({against}), {relation} what another seed can make of two equal nets ({noise:.4f})"
