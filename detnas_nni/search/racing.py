"""Racing: a candidate that cannot become a parent any more is not measured on the rest of the split.

As NNI's Medianstop, it compares fitness on a growing part of the search split with that of others on the same
part. It asks less, and for a reason: the paper's evolution breeds from the best `search.parents` of all
generations, so a candidate matters only if it comes among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detnas_nni.config import Search
from detnas_nni.evaluation.candidate import Bar
from detnas_nni.search.journal import Evaluation


class Race:
    """The bar of each generation, set by the whole generations before it, and by nothing else.

    Results of the same generation do not count: they come in another order when trials run side by side, and
    a search would depend on it. So the bar follows from the number of evaluations alone, whoever asks.

    The fitness on the whole split is predicted from that on a part by the mean and the spread of what earlier
    candidates gained between the two (Student's t: they may be few). The bar is where the chance to come to
    the fitness of the last of the `parents` best is `racing`.

    Args:
        search: the config's section.
        evaluations: of the search so far, in the journal's order; it may grow.
    """

    def __init__(self, search: Search, evaluations: Sequence[Evaluation]) -> None:
        self._search = search
        self._evaluations = evaluations
        self._counted = 0
        self._bar: Bar | None = None

    def bar(self) -> Bar | None:
        """The bar of a candidate that is evaluated now; None as long as too little is known to set one."""
        if self._search.racing is None:
            return None
        population = self._search.population
        counted = len(self._evaluations) // population * population
        if counted != self._counted:
            self._counted, self._bar = counted, self._set(self._evaluations[:counted])
        return self._bar

    def _set(self, evaluations: Sequence[Evaluation]) -> Bar | None:
        finished = [e for e in evaluations if e.fitness is not None and e.parts]
        parts = max((len(e.parts) for e in finished), default=0)
        finished = [e for e in finished if len(e.parts) == parts]
        number, parents = len(finished), self._search.parents
        if parts < 2 or number < max(parents, 2):
            return None
        # Half a second that a search without racing, and its first generation, does not need.
        from scipy.special import stdtrit

        fitness = np.array([e.fitness for e in finished])
        gained = fitness[:, None] - np.array([e.parts[:-1] for e in finished])
        quantile = stdtrit(number - 1, 1 - self._search.racing)
        most = gained.mean(0) + quantile * math.sqrt(1 + 1 / number) * gained.std(0, ddof=1)
        return Bar(tuple((np.sort(fitness)[-parents] - most).tolist()))
