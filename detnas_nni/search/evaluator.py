"""NNI's Evaluator around a candidate's evaluation, with racing: what both front doors execute."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import nni
import numpy as np
from nni.nas.evaluator import Evaluator

from detnas_nni.architecture import Architecture
from detnas_nni.config import Search
from detnas_nni.errors import EvaluationError, UsageError, too_long
from detnas_nni.evaluation.candidate import Bar, CandidateEvaluation, Result
from detnas_nni.search.journal import Evaluation
from detnas_nni.search.outcomes import describe
from detnas_nni.search.space import CandidateModel


class Race:
    """Racing: a candidate that can no longer become a parent is not measured on the rest of the split.

    Like NNI's Medianstop, it compares fitness on a growing part of the search split with that of others on
    the same part. It asks for less, for a reason: the paper's evolution breeds from the best `search.parents`
    of all generations, so a candidate matters only if it gets among them.

    The bar of each generation is set by the complete generations before it, and by nothing else.
    Results of the same generation do not count: they arrive in a different order when trials run in parallel,
    and the search would depend on it. So the bar depends only on the number of evaluations, whoever asks.

    The fitness on the whole split is predicted from that on a part by the mean and the spread of what earlier
    candidates gained between the two (Student's t: they may be few). At the bar, the probability of reaching
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
        """The bar for a candidate that is evaluated now; None while too little is known to set one."""
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
        # Imported here: half a second that a search without racing, or its first generation, does not need.
        from scipy.special import stdtrit

        fitness = np.array([e.fitness for e in finished])
        gained = fitness[:, None] - np.array([e.parts[:-1] for e in finished])
        quantile = stdtrit(number - 1, 1 - self._search.racing)
        most = gained.mean(0) + quantile * math.sqrt(1 + 1 / number) * gained.std(0, ddof=1)
        return Bar(tuple((np.sort(fitness)[-parents] - most).tolist()))


_log = logging.getLogger(__name__)

_AGAIN = 1.0  # seconds between two alarms for an evaluation past its time limit


class DetNASEvaluator(Evaluator):
    """Measures one candidate and reports through NNI's trial API: parts as it goes, the whole at the end.

    In process NNI's engine hands a frozen model to `_execute`, which does not call NNI's `evaluate`; an
    nnictl trial takes the same two steps with the architecture that its parameters name.

    Args:
        evaluation: measures a candidate.
        race: decides which candidates are given up early; none if None.
        max_seconds: an evaluation in process that takes longer fails; None for no limit.
    """

    def __init__(
        self, evaluation: CandidateEvaluation, race: Race | None = None, max_seconds: float | None = None
    ) -> None:
        self.evaluation = evaluation
        self.race = race
        self.max_seconds = max_seconds

    def extra_repr(self) -> str:
        return f"task={self.evaluation.task.kind}"

    def measure(self, architecture: Architecture) -> Result:
        """Evaluate an architecture; NNI gets the results on the parts, but not yet the final one."""
        bar = None if self.race is None else self.race.bar()
        result = self.evaluation.evaluate(architecture, report=nni.report_intermediate_result, bar=bar)
        latency = result.cost.latency_us
        _log.info(
            "%s  fitness %.4f%s  %.1fM MACs  %.2fM params%s  %.1f s",
            *(architecture, result.metrics["default"], _part(result)),
            *(result.cost.macs / 1e6, result.cost.params / 1e6),
            *("" if latency is None else f"  {latency / 1000:.2f} ms", result.seconds),
        )
        return result

    def report(self, result: Result) -> None:
        """Report the final result to NNI; a candidate that was given up has none."""
        if not result.stopped:
            nni.report_final_result(result.reported())

    def _execute(self, model: CandidateModel) -> Result:
        # NNI would freeze the model space here, which shares tensors with it; the sample is all we need.
        architecture = Architecture(self.evaluation.config.space.name, model.ops)
        try:
            with time_limit(self.max_seconds):
                result = self.measure(architecture)
        except Exception as error:
            model.error = describe(error)
            raise
        model.stopped = result.stopped
        # Outside the time limit: an alarm must not interrupt writing the journal.
        self.report(result)
        return result


def _part(result: Result) -> str:
    return f" on part {len(result.parts)} of the split, given up" if result.stopped else ""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise EvaluationError in this block after this many seconds; no limit if None.

    Works in the main thread, where Python handles signals. It interrupts waits and Python code, but not a
    single call into compiled code that never returns; an nnictl trial is then ended by its watchdog.

    Raises UsageError in another thread.
    """
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "search.max_trial_seconds needs a search in the process's main thread; leave it out, or search "
            "with nnictl"
        )

    def too_late(*_: object) -> None:
        raise _TooLate

    before = signal.signal(signal.SIGALRM, too_late)
    # Repeatedly: a library may swallow the first one.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TooLate:
        raise EvaluationError(too_long(seconds)) from None
    finally:  # once more, since the alarm may come at the very moment of leaving
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _TooLate(BaseException):
    """Not an Exception: code that reads images takes any of those for a bad image and reads on."""
