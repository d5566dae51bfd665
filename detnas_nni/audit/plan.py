"""Which of a search's candidates an audit trains, with how many seeds; what that can show; its time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detnas_nni.audit.journal import NetJournal, NetTraining
from detnas_nni.audit.statistics import LEAST, null_half_width
from detnas_nni.errors import AuditError, UsageError
from detnas_nni.search.journal import Journal
from detnas_nni.util.seeding import derive_seed

Pick = Literal["spread", "uniform"]
"""How a sample is drawn: over the range of fitness, or every candidate with the same chance."""

_LEAST_REPEATED = 4
_REPEATED_SHARE = 4  # one net in this many is trained with several seeds


@dataclass(frozen=True)
class Candidate:
    """An architecture with a result in the search.

    Attributes:
        ops: what it is.
        rank: in the search, from 1.
        fitness: in the search.
        macs: multiply-adds, backbone convention.
        params: parameters, likewise.
    """

    ops: tuple[int, ...]
    rank: int
    fitness: float
    macs: float
    params: float


@dataclass(frozen=True)
class Sample:
    """The candidates of an audit.

    Attributes:
        pick: how they were drawn.
        nets: in the search's order, best first.
        first: the search's first choice; only a uniform draw may have left it out.
        drawn_from: how many candidates with a result the search had.
    """

    pick: Pick
    nets: tuple[Candidate, ...]
    first: Candidate
    drawn_from: int

    @property
    def trained(self) -> tuple[Candidate, ...]:
        """All that are trained; always the search's first choice, since regret is about it."""
        return self.nets if self.first in self.nets else (self.first, *self.nets)

    def repeated(self) -> tuple[Candidate, ...]:
        """The nets that are trained with several seeds: a quarter, at least four, spread over the ranking."""
        n = len(self.nets)
        count = min(n, max(_LEAST_REPEATED, math.ceil(n / _REPEATED_SHARE)))
        places = [round(i * (n - 1) / max(count - 1, 1)) for i in range(count)]
        return tuple(self.nets[place] for place in places)

    def how(self) -> str:
        """How the sample was drawn, for readers of the result."""
        n = len(self.nets)
        if self.pick == "uniform":
            return f"{n} of {self.drawn_from} candidates, each with the same chance"
        return (
            f"{n} of {self.drawn_from} candidates: the search's first and the others spread over the range "
            "of fitness, which makes a ranking easier to see than in a uniform sample"
        )


def ranked_candidates(journal: Journal) -> list[Candidate]:
    """The candidates of a search that have a result, best first; of two equal ones the earlier.

    Raises AuditError if an evaluation has no cost, which a search always writes.
    """
    found: dict[tuple[int, ...], Candidate] = {}
    for evaluation in journal.best(len(journal)):
        missing = {"macs", "params"} - evaluation.cost.keys()
        if missing:
            raise AuditError(
                f"{journal.path}: evaluation {evaluation.id}: cost lacks {' and '.join(sorted(missing))}"
            )
        macs, params = evaluation.cost["macs"], evaluation.cost["params"]
        rank = len(found) + 1
        found.setdefault(evaluation.ops, Candidate(evaluation.ops, rank, evaluation.fitness, macs, params))
    return list(found.values())


def draw(candidates: Sequence[Candidate], count: int, pick: Pick, seed: int) -> Sample:
    """Draw a sample; a larger one with the same seed has mostly the same nets.

    Args:
        candidates: best first, at least `count`.
        count: nets in the sample.
        pick: `spread` takes the first, then one from each of equally wide strata of fitness, then
            more from the fullest until there are enough; `uniform` gives all the same chance.
        seed: for the draw.
    """
    line, first = by_chance(candidates, seed), candidates[0]
    if pick == "uniform":
        drawn = line[:count]
    else:
        drawn = [first, *_spread([c for c in line if c != first], first.fitness, count - 1)]
    return Sample(pick, tuple(sorted(drawn, key=lambda c: c.rank)), first, len(candidates))


def _spread(line: Sequence[Candidate], best: float, count: int) -> list[Candidate]:
    """A random one from each stratum, then more from those strata that have most left."""
    least = min(candidate.fitness for candidate in line)
    width = (best - least) / count
    strata: dict[int, list[Candidate]] = defaultdict(list)
    for candidate in line:
        place = int((candidate.fitness - least) / width) if width > 0 else 0
        strata[min(place, count - 1)].append(candidate)
    drawn = [strata[place].pop(0) for place in sorted(strata, reverse=True)]
    while len(drawn) < count:
        fullest = max(strata, key=lambda place: (len(strata[place]), place))
        drawn.append(strata[fullest].pop(0))
    return drawn


def by_chance(candidates: Sequence[Candidate], seed: int) -> list[Candidate]:
    """The order in which they are trained: an audit that is cut short has a random part of the sample."""
    return sorted(candidates, key=lambda candidate: _priority(candidate, seed))


def _priority(candidate: Candidate, seed: int) -> int:
    """A candidate's place in line, whatever the number drawn and the other candidates."""
    return derive_seed(seed, "audit", *candidate.ops)


_ENOUGH = 10  # nets that take precedence over several seeds
_SHOWS_SOMETHING = 5  # nets for which a perfect order has a p-value below 0.05: 2 / 5! = 0.017


@dataclass(frozen=True)
class AuditPlan:
    """The trainings of an audit.

    Attributes:
        sample: the nets.
        seeds: how many the repeated nets are trained with; with 1 none is repeated.
        seed: the config's: the first of them, and the one that the nets are drawn with.
    """

    sample: Sample
    seeds: int
    seed: int

    @property
    def trainings(self) -> list[NetTraining]:
        """In order: every net once, the search's first choice before the others, then the other seeds."""
        first, repeated = self.sample.first, self.sample.repeated() if self.seeds > 1 else ()
        others = [net for net in by_chance(self.sample.trained, self.seed) if net != first]
        once = [NetTraining(net.ops, self.seed) for net in (first, *others)]
        again = [NetTraining(net.ops, self.seed + more) for more in range(1, self.seeds) for net in repeated]
        return once + again

    def missing(self, journal: NetJournal) -> list[NetTraining]:
        """Those that have no result yet."""
        return [training for training in self.trainings if not journal.is_finished(training)]

    def what(self) -> str:
        """What is trained, in one line."""
        repeated = len(self.sample.repeated())
        several = f", {repeated} of them with {self.seeds} seeds" if self.seeds > 1 else ""
        drawn = set(self.sample.nets)
        apart = "" if self.sample.first in drawn else ", and the search's first choice"
        return f"{self.sample.how()}{several}{apart}: {len(self.trainings)} trainings"


def make_plan(candidates: Sequence[Candidate], nets: int, seeds: int, pick: Pick, seed: int) -> AuditPlan:
    """The plan for this many nets and seeds.

    Raises:
        UsageError: fewer than three nets.
        AuditError: the search has fewer candidates with a result than `nets`.
    """
    if nets < LEAST:
        raise UsageError(f"--nets {nets}: a rank correlation needs at least {LEAST} nets, preferably 30")
    if len(candidates) < nets:
        least = f"; pass --nets {len(candidates)}, or" if len(candidates) >= LEAST else ";"
        raise AuditError(
            f"--nets {nets}: the search has {len(candidates)} candidates with a result{least} let the search "
            "evaluate more (search.generations)"
        )
    return AuditPlan(draw(candidates, nets, pick, seed), seeds, seed)


def fit(
    candidates: Sequence[Candidate],
    wanted: AuditPlan,
    journal: NetJournal,
    *,
    each: float,
    side_by_side: int,
    limit: float,
) -> AuditPlan:
    """The largest plan up to the wanted one whose missing trainings take no longer than `limit` seconds.

    Nets come before seeds until there are ten: a smaller number of seeds is taken if that gives more nets.

    Args:
        candidates: those that the nets are drawn from.
        wanted: the plan asked for.
        journal: what is trained already, which costs nothing.
        each: seconds per training.
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
        f"--hours {limit / 3600:g}: {LEAST} nets, the minimum, take about {math.ceil(least / 36) / 100:.2f} "
        "hours here; allow that many, train in parallel with --jobs, or shorten retrain.finetune.steps"
    )


def seconds(plan: AuditPlan, journal: NetJournal, each: float, side_by_side: int) -> float:
    """How long the missing trainings of a plan take."""
    return math.ceil(len(plan.missing(journal)) / side_by_side) * each


def what_it_can_show(nets: int) -> str:
    """What an audit of this many nets can tell, stated before it begins."""
    if nets < _SHOWS_SOMETHING:
        return (
            f"what {nets} nets can show: nothing about the ranking, as it is often perfect by chance alone; "
            f"{_SHOWS_SOMETHING} nets are the minimum, {_ENOUGH} are few, 30 are good"
        )
    return (
        f"what {nets} nets can show: without any relation Kendall's τ is within ±{null_half_width(nets):.2f} "
        "in 95 of 100 audits; a search that ranks no better than that cannot be told apart from chance"
    )
