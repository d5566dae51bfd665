"""What an audit measures: the search's order, the costs' and the seeds', each against AP after training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detnas_nni.audit.journal import Training
from detnas_nni.audit.selection import Candidate
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
"""Of how many first choices of the search the regret is told."""


@dataclass(frozen=True)
class Regret:
    """What one loses who trains the search's first choices alone, against training all nets of the audit.

    Attributes:
        k: how many first choices.
        search: the highest AP of all nets less the highest of those; None where the search's first has no AP.
        chance: the same of k nets drawn at random, on average.
    """

    k: int
    search: float | None
    chance: float


@dataclass(frozen=True)
class Figures:
    """The numbers of an audit; an estimate is None where it is not defined, as for fewer than three nets.

    Every net counts with its AP after one training, with the first seed, so that all are measured alike; the
    other seeds tell how much the seed alone makes.

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
        over_macs: tau less that of MACs.
        over_params: tau less that of parameters.
        no_relation: how far from 0 tau is within 95 % of unrelated orders; None for fewer than two nets.
        regret: at each of `CHOICES`, as far as there are so many nets.
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
    ap: Callable[[Training], float | None],
    *,
    failed: int,
    chance: int,
) -> Figures:
    """The figures of what is trained so far.

    Args:
        nets: the sample, in the search's order.
        first: the search's first choice, which regret is about; among the nets or not.
        seeds: those that nets were trained with, the first of them all.
        ap: of a training, on the test split; None where there is none.
        failed: how many trainings ended with an error.
        chance: the seed of the bootstrap.
    """
    by_net = {net: ap(Training(net.ops, seeds[0])) for net in nets}
    known = [net for net in nets if by_net[net] is not None]
    aps = [by_net[net] for net in known]
    fitness = [net.fitness for net in known]
    macs, params = [net.macs for net in known], [net.params for net in known]
    table = [[_or_nan(ap(Training(net.ops, seed))) for seed in seeds] for net in nets]
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
        regret=_regrets(known, aps, first, ap(Training(first.ops, seeds[0]))),
    )


def _regrets(
    known: Sequence[Candidate], aps: Sequence[float], first: Candidate, ap_of_first: float | None
) -> tuple[Regret, ...]:
    """Of the known nets, and of the search's first choice where it is not among them."""
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
