"""Which of a search's candidates are trained on their own, and which of them with several seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detnas_nni.errors import AuditError
from detnas_nni.search.journal import Journal
from detnas_nni.seeding import derive_seed

Pick = Literal["spread", "uniform"]
"""How a sample is drawn: over the range of fitness, or every candidate with the same chance."""

_LEAST_REPEATED = 4
_REPEATED_SHARE = 4  # one net in so many is trained with several seeds


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
        nets: in the search's order, the best first.
        first: the search's first choice; only a uniform draw may have left it out.
        drawn_from: how many candidates with a result the search had.
    """

    pick: Pick
    nets: tuple[Candidate, ...]
    first: Candidate
    drawn_from: int

    @property
    def trained(self) -> tuple[Candidate, ...]:
        """All that are trained: the search's first choice is, drawn or not, as regret is about it."""
        return self.nets if self.first in self.nets else (self.first, *self.nets)

    def repeated(self) -> tuple[Candidate, ...]:
        """The nets that are trained with several seeds: a quarter, four at least, spread over the ranking."""
        n = len(self.nets)
        count = min(n, max(_LEAST_REPEATED, math.ceil(n / _REPEATED_SHARE)))
        places = [round(i * (n - 1) / max(count - 1, 1)) for i in range(count)]
        return tuple(self.nets[place] for place in places)

    def how(self) -> str:
        """How the sample was drawn, for who reads the result."""
        n = len(self.nets)
        if self.pick == "uniform":
            return f"{n} of {self.drawn_from} candidates, each with the same chance"
        return (
            f"{n} of {self.drawn_from} candidates: the search's first and the others spread over the range "
            "of fitness, in which an order is easier to see than in a uniform sample"
        )


def ranked_candidates(journal: Journal) -> list[Candidate]:
    """The candidates of a search that have a result, best first; the earlier one where two are equal.

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
    """Draw a sample; of a greater one with the same seed, most nets are the same.

    Args:
        candidates: best first, at least `count`.
        count: nets in the sample.
        pick: `spread` takes the first, and of equally wide strata of the range of fitness one each, then
            another one of the fullest until there are enough; `uniform` gives all the same chance.
        seed: what chance is.
    """
    line, first = by_chance(candidates, seed), candidates[0]
    if pick == "uniform":
        drawn = line[:count]
    else:
        drawn = [first, *_spread([c for c in line if c != first], first.fitness, count - 1)]
    return Sample(pick, tuple(sorted(drawn, key=lambda c: c.rank)), first, len(candidates))


def _spread(line: Sequence[Candidate], best: float, count: int) -> list[Candidate]:
    """The first by chance of each stratum, then the next ones of those strata that have most left."""
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
    """In the order in which they are trained: an audit that is cut short has a random part of the sample."""
    return sorted(candidates, key=lambda candidate: _priority(candidate, seed))


def _priority(candidate: Candidate, seed: int) -> int:
    """A place in line that a candidate keeps, however many are drawn and whoever else is in line."""
    return derive_seed(seed, "audit", *candidate.ops)
