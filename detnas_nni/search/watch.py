"""What became of each trial: NNI's word on where it stands, and the trial's own on what it did.

NNI tells a tuner of a trial's end by the parameters that it believes the trial had, and of the ends of trials
that it started again after `nnictl resume` it tells nothing. So its calls only say that it is time to look:
which trials there are, and which have ended, is asked from its REST API, and what they evaluated is read from
the search's folder.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from detnas_nni.errors import CheckpointError, DetNASError, EvaluationError
from detnas_nni.search.failures import describe
from detnas_nni.search.outcome import Outcome
from detnas_nni.search.rest import ERRORS, RestApi, Trial
from detnas_nni.search.trial_files import Taken, TrialFiles
from detnas_nni.search.trials import TrialEngine

_log = logging.getLogger(__name__)

Ops = tuple[int, ...]
Metrics = dict[str, float]

_EVERY = 2.0  # seconds between two looks, if NNI does not call before
_BETWEEN = 0.2  # seconds at least: several calls in a row are one reason to look

# Seconds that the metric of a trial which left no outcome may come after the trial's good end.
_GRACE = 5.0

_SETTLED = 10.0  # seconds that NNI waits at most for a look that was asked for


@dataclass(frozen=True)
class _Reported:
    """A final metric, with the id of the parameters that the trial was handed."""

    parameter_id: int
    metrics: Metrics


class TrialWatch:
    """Looks at the trials, in a thread of its own, and tells the engine.

    Args:
        engine: what the trials evaluate for.
        files: what trials say of themselves.
        manager: NNI's.
        give_up: gets an error after which no trial of this search can be right.
    """

    def __init__(
        self,
        engine: TrialEngine,
        files: TrialFiles,
        manager: RestApi,
        give_up: Callable[[DetNASError], None],
    ) -> None:
        self._engine = engine
        self._files = files
        self._manager = manager
        self._give_up = give_up
        self._reported: dict[str, _Reported] = {}
        self._done: set[str] = set()
        self._proposals: set[str] = set()
        self._ended_at: dict[str, float] = {}
        self._call = threading.Event()
        self._looked = threading.Condition()
        self._looks_begun = self._looks_ended = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """To be called before NNI gets its first parameters: what has ended by now is another search's.

        Raises one of `rest.ERRORS` if the manager does not answer.
        """
        self._done = {trial.id for trial in self._manager.trials() if trial.ended}
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._call.set()
        with self._looked:
            self._looked.notify_all()

    def look(self) -> None:
        """Something may have changed."""
        self._call.set()

    def settle(self) -> None:
        """Return when the trials that have ended by now, and have said so, are dealt with."""
        with self._looked:
            # A look that goes on now may have begun before the last end.
            next_look = self._looks_begun + 1
            self._call.set()
            self._looked.wait_for(lambda: self._stopped or self._looks_ended >= next_look, timeout=_SETTLED)

    def reported(self, trial: str, parameter_id: int, metrics: Metrics) -> None:
        """NNI has brought a trial's final metric."""
        self._reported[trial] = _Reported(parameter_id, metrics)
        self._call.set()

    def _run(self) -> None:
        while not self._stopped:
            self._call.clear()
            with self._looked:
                self._looks_begun += 1
            try:
                for trial in self._trials():
                    self._see(trial)
            except DetNASError as error:
                self._give_up(error)
                return
            except Exception as error:  # or the search would wait for ever
                _log.exception("the trials cannot be watched any more")
                self._give_up(EvaluationError(f"the trials cannot be watched any more: {describe(error)}"))
                return
            with self._looked:
                self._looks_ended = self._looks_begun
                self._looked.notify_all()
            time.sleep(_BETWEEN)
            self._call.wait(_EVERY)

    def _trials(self) -> list[Trial]:
        try:
            return self._manager.trials()
        except ERRORS as error:
            _log.warning("NNI's manager does not say which trials there are (%s); asking again", error)
            return []

    def _see(self, trial: Trial) -> None:
        parameter_id = trial.record["parameter_id"]
        # Trials that a user adds in the web UI have no id, and were proposed by nobody.
        if trial.id in self._done or parameter_id is None or self._engine.proposed(parameter_id) is None:
            return
        taken = self._files.taken(trial.id)
        if taken is not None and taken.ops is not None:
            self._expect_the_same_search(taken)
            self._engine.take(parameter_id, taken.ops)
        ops, metrics = self._result(trial, taken)
        if ops is not None and metrics is not None:
            self._engine.finish(ops, Outcome(metrics=metrics))
        if not trial.ended:
            self._propose(trial)
        elif metrics is not None or not (self._may_report_yet(trial, taken) or self._manager_stops()):
            self._done.add(trial.id)
            self._engine.end(parameter_id, None if taken is None else taken.error)

    def _result(self, trial: Trial, taken: Taken | None) -> tuple[Ops | None, Metrics | None]:
        """What a trial has evaluated, and the result; None where it has not said."""
        reported = self._reported.get(trial.id)
        if taken is not None and taken.ops is not None:
            metrics = self._files.outcome(taken.ops)
            return taken.ops, metrics or (None if reported is None else reported.metrics)
        # Without a folder in common, the metric is all that there is. The parameter id beside it is that of
        # the parameters which the trial was handed, and so the right one even where these were swapped.
        if reported is not None:
            return self._engine.proposed(reported.parameter_id), reported.metrics
        return None, None

    def _may_report_yet(self, trial: Trial, taken: Taken | None) -> bool:
        """Whether a metric may still come through NNI, of a trial that has ended and left no outcome."""
        if trial.status != "SUCCEEDED" or (taken is not None and taken.error is not None):
            return False
        ended_at = self._ended_at.setdefault(trial.id, time.monotonic())
        return time.monotonic() - ended_at < _GRACE

    def _manager_stops(self) -> bool:
        """Whether a trial has ended because the whole experiment is ended: that is no failure."""
        try:
            return self._manager.is_stopping()
        except ERRORS:
            return True

    def _propose(self, trial: Trial) -> None:
        """Tell a trial what was proposed for it: on another machine it cannot ask NNI's manager."""
        if trial.id not in self._proposals:
            self._files.propose(trial.id, trial.record)
            self._proposals.add(trial.id)

    def _expect_the_same_search(self, taken: Taken) -> None:
        for key, expected in self._files.identity.items():
            if taken.identity.get(key) != expected:
                raise CheckpointError(
                    f"trial {taken.trial} computed with another {key} ({taken.identity.get(key)}) than this "
                    f"search's ({expected}): {_REMEDY.get(key, 'start a new search')}"
                )


_REMEDY = {
    "config": "the trialCommand's `-c` and `--set` and the tuner's classArgs have to name the same values",
    "supernet": "the supernet was trained anew while the search ran; give the new search a name of its own",
}
