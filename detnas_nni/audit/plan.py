"""How many nets an audit trains, with how many seeds; what that can show, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from detnas_nni.audit.journal import NetJournal, Training
from detnas_nni.audit.selection import Candidate, Pick, Sample, by_chance, draw
from detnas_nni.audit.statistics import LEAST, null_half_width
from detnas_nni.errors import AuditError, UsageError

_ENOUGH = 10  # nets that several seeds are not bought with
_SHOWS_SOMETHING = 5  # nets of which a perfect order has a p-value below 0.05: 2 / 5! = 0.017


@dataclass(frozen=True)
class Plan:
    """The trainings of an audit.

    Attributes:
        sample: the nets.
        seeds: how many the repeated nets are trained with; with 1 none is repeated.
        seed: the config's: the first of them, and what the nets are drawn by.
    """

    sample: Sample
    seeds: int
    seed: int

    @property
    def trainings(self) -> list[Training]:
        """In order: every net once, the search's first before the others, then the other seeds."""
        first, repeated = self.sample.first, self.sample.repeated() if self.seeds > 1 else ()
        others = [net for net in by_chance(self.sample.trained, self.seed) if net != first]
        once = [Training(net.ops, self.seed) for net in (first, *others)]
        again = [Training(net.ops, self.seed + more) for more in range(1, self.seeds) for net in repeated]
        return once + again

    def missing(self, journal: NetJournal) -> list[Training]:
        """Those that have no result yet."""
        return [training for training in self.trainings if not journal.is_finished(training)]

    def what(self) -> str:
        """What is trained, in a line."""
        repeated = len(self.sample.repeated())
        several = f", {repeated} of them with {self.seeds} seeds" if self.seeds > 1 else ""
        drawn = set(self.sample.nets)
        apart = "" if self.sample.first in drawn else ", and the search's first choice"
        return f"{self.sample.how()}{several}{apart}: {len(self.trainings)} trainings"


def make_plan(candidates: Sequence[Candidate], nets: int, seeds: int, pick: Pick, seed: int) -> Plan:
    """The plan for so many nets and seeds.

    Raises:
        UsageError: fewer than three nets.
        AuditError: the search has fewer candidates with a result than `nets`.
    """
    if nets < LEAST:
        raise UsageError(f"--nets {nets}: a rank correlation needs {LEAST} nets at least, better 30")
    if len(candidates) < nets:
        least = f"; pass --nets {len(candidates)}, or" if len(candidates) >= LEAST else ";"
        raise AuditError(
            f"--nets {nets}: the search has {len(candidates)} candidates with a result{least} let the search "
            "evaluate more (search.generations)"
        )
    return Plan(draw(candidates, nets, pick, seed), seeds, seed)


def fit(
    candidates: Sequence[Candidate],
    wanted: Plan,
    journal: NetJournal,
    *,
    each: float,
    side_by_side: int,
    limit: float,
) -> Plan:
    """The largest plan up to the wanted one whose missing trainings take no longer than `limit` seconds.

    Nets come before seeds until there are ten: a smaller number of seeds is taken if that gives more nets.

    Args:
        candidates: that the nets are drawn from.
        wanted: what is asked for.
        journal: of what is trained already, which costs nothing.
        each: seconds of a training.
        side_by_side: how many make progress at a time.
        limit: seconds in all.

    Raises:
        UsageError: not even three nets can be trained in that time; it says how long they take.
    """
    pick, most = wanted.sample.pick, len(wanted.sample.nets)
    for seeds in range(wanted.seeds, 0, -1):
        for nets in range(most, LEAST - 1, -1):
            plan = make_plan(candidates, nets, seeds, pick, wanted.seed)
            if seconds(plan, journal, each, side_by_side) <= limit:
                if nets >= min(most, _ENOUGH) or seeds == 1:
                    return plan
                break
    least = seconds(make_plan(candidates, LEAST, 1, pick, wanted.seed), journal, each, side_by_side)
    raise UsageError(
        f"--hours {limit / 3600:g}: {LEAST} nets, the least, take about {math.ceil(least / 36) / 100:.2f} "
        "hours here; give so many, train side by side with --jobs, or shorten retrain.finetune.steps"
    )


def seconds(plan: Plan, journal: NetJournal, each: float, side_by_side: int) -> float:
    """How long the missing trainings of a plan take."""
    return math.ceil(len(plan.missing(journal)) / side_by_side) * each


def what_it_can_show(nets: int) -> str:
    """What an audit of so many nets can tell, before it begins."""
    if nets < _SHOWS_SOMETHING:
        return (
            f"what {nets} nets can show: nothing about the order, as by chance alone it is often perfect; "
            f"{_SHOWS_SOMETHING} nets are the least, {_ENOUGH} are few, 30 are good"
        )
    return (
        f"what {nets} nets can show: without any relation Kendall's τ is within ±{null_half_width(nets):.2f} "
        "in 95 of 100 audits; a search that ranks no better than that cannot be told from chance"
    )
