"""What became of each trial: NNI's report of its status, and the trial's own of what it did.

NNI reports a trial's end with the parameters that it believes the trial had, and does not report at all the
ends of trials that it restarted after `nnictl resume`. So its calls only mean that it is time to look: which
trials there are and which have ended is read from its REST API, and what they evaluated from the search's
folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from detnas_nni.architecture import Ops
from detnas_nni.errors import CheckpointError, DetNASError, EvaluationError
from detnas_nni.search.nnictl.engine import TrialEngine
from detnas_nni.search.nnictl.files import BEATEN_BY, IDENTITY, Taken, TrialFiles, read_why
from detnas_nni.search.nnictl.heartbeat import Listener
from detnas_nni.search.nnictl.rest import ERRORS, RestApi, Trial
from detnas_nni.search.outcomes import Failure, Identity, Outcome, describe

_log = logging.getLogger(__name__)

Metrics = dict[str, float]

_EVERY = 2.0  # seconds between two looks, if NNI does not call earlier
_BETWEEN = 0.2  # seconds at least: several calls in a row cause one look

# Seconds within which the metric of a trial that left no outcome may arrive after the trial has succeeded,
# and its heartbeat's final mark after it has failed.
_GRACE = 5.0

# Seconds without a heartbeat after which a trial's machine counts as dead. If it is not, one candidate is
# evaluated twice.
_SILENT = 60.0

# Seconds after the loss of a machine in which NNI may start no trial, though it has been asked to.
_STUCK = 120.0

_SETTLED = 10.0  # seconds that NNI waits at most for a look that it asked for


@dataclass(frozen=True)
class _Reported:
    """A final metric, with the id of the parameters that the trial was handed."""

    parameter_id: int
    metrics: Metrics
    identity: Identity | None
    """what the result belongs to, if the trial does not share the search's folder"""


class _State(Enum):
    """A trial's state, as seen in one look."""

    RUNS = auto()
    SILENT = auto()
    """no heartbeat for too long: its machine is lost, whatever NNI reports"""
    MAY_SPEAK = auto()
    """it has ended without an outcome, but a final mark or a metric may still come"""
    DONE = auto()
    """it has ended, and its outcome is known"""
    LOST = auto()
    """it has ended with its machine"""
    FAILED = auto()


class TrialWatch:
    """Looks at the trials, in a thread of its own, and tells the engine.

    Args:
        engine: the one that the trials evaluate for.
        files: what trials report about themselves.
        manager: NNI's.
        give_up: called with an error after which no trial of this search can be right.
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
        self._undecided: set[str] = set()
        """trials that have ended, but may still bring a final mark or a metric"""
        self._awaited: set[str] = set()
        """those of them that failed: their final mark does not come through NNI"""
        self._settling_since: float | None = None
        self._settled_for = 0.0
        self._listener = Listener()
        self._lost: dict[str, Trial] = {}
        self._moved_at = 0.0
        self._call = threading.Event()
        self._looked = threading.Condition()
        self._looks_begun = self._looks_ended = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """To be called before NNI gets its first parameters: trials that have ended by now are another
        search's.

        Raises one of `rest.ERRORS` if the manager does not answer.
        """
        self._done = {trial.id for trial in self._manager.trials() if trial.ended}
        self._files.forget_beats()
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
        """Return when the trials that have ended by now, and have reported it, are dealt with.

        That includes those whose final mark is awaited: their candidates may have to come before any other.
        It excludes those whose metric is awaited: NNI's dispatcher brings it after this request's answer.
        """
        with self._looked:
            # A look in progress may have begun before the last end.
            next_look = self._looks_begun + 1
            self._settling_since = time.monotonic()
            self._call.set()
            self._looked.wait_for(
                lambda: self._stopped or (self._looks_ended >= next_look and not self._awaited),
                timeout=_SETTLED,
            )
            self._settled_for += time.monotonic() - self._settling_since
            self._settling_since = None

    def reported(self, trial: str, parameter_id: int, value: dict[str, Any]) -> None:
        """NNI has brought a trial's final metric."""
        metrics = {key: number for key, number in value.items() if key not in (IDENTITY, BEATEN_BY)}
        identity = json.loads(value[IDENTITY]) if IDENTITY in value else None
        self._reported[trial] = _Reported(parameter_id, metrics, identity)
        self._call.set()

    def _run(self) -> None:
        while not self._stopped:
            self._call.clear()
            with self._looked:
                self._looks_begun += 1
            try:
                self._listener.look()
                trials = self._trials()
                for trial in trials:
                    self._see(trial)
                self._expect_progress(trials)
            except DetNASError as error:
                self._give_up(error)
                return
            except Exception as error:  # or the search would wait forever
                _log.exception("the trials can no longer be watched")
                self._give_up(EvaluationError(f"the trials can no longer be watched: {describe(error)}"))
                return
            with self._looked:
                self._looks_ended = self._looks_begun
                self._looked.notify_all()
            time.sleep(_BETWEEN)
            if not self._undecided:
                self._call.wait(_EVERY)

    def _trials(self) -> list[Trial]:
        try:
            return self._manager.trials()
        except ERRORS as error:
            _log.warning("NNI's manager does not list its trials (%s); asking again", error)
            return []

    def _see(self, trial: Trial) -> None:
        """Tell the engine what is new about a trial, and what that means for its candidate."""
        parameter_id = trial.record["parameter_id"]
        # Trials that a user adds in the web UI have no id, and no strategy proposed them.
        if trial.id in self._done or parameter_id is None or self._engine.proposed(parameter_id) is None:
            return
        taken = self._files.taken(trial.id)
        self._expect_the_same_search(trial, taken)
        if taken is not None and taken.ops is not None:
            self._engine.take(parameter_id, taken.ops)
        ops, outcome = self._result(trial, taken)
        if ops is not None and outcome is not None:
            self._engine.finish(ops, outcome)
        self._undecided.discard(trial.id)
        self._awaited.discard(trial.id)
        match self._state(trial, taken, outcome):
            case _State.RUNS:
                self._propose(trial)
            case _State.SILENT:
                self._propose(trial)
                self._lose(trial)
            case _State.MAY_SPEAK:
                self._undecided.add(trial.id)
                if trial.status != "SUCCEEDED":
                    self._awaited.add(trial.id)
            case _State.LOST:
                self._lose(trial)
                self._end(trial, self._reason(trial, taken))
            case _State.FAILED:
                self._end(trial, self._reason(trial, taken))
            case _State.DONE:
                self._end(trial, None)

    def _state(self, trial: Trial, taken: Taken | None, outcome: Outcome | None) -> _State:
        if not trial.ended:
            return _State.SILENT if self._is_silent(trial) else _State.RUNS
        if outcome is not None:
            return _State.DONE
        if self._may_report_yet(trial, taken) or self._manager_stops():
            return _State.MAY_SPEAK
        return _State.LOST if self._died_with_its_machine(trial, taken) else _State.FAILED

    def _end(self, trial: Trial, reason: Failure | None) -> None:
        self._done.add(trial.id)
        self._engine.end(trial.record["parameter_id"], reason)

    def _result(self, trial: Trial, taken: Taken | None) -> tuple[Ops | None, Outcome | None]:
        """What a trial has evaluated, and the outcome; None for what it has not reported."""
        reported = self._reported.get(trial.id)
        outcome = None if reported is None else Outcome(reported.metrics)
        if outcome is None and self._is_given_up(trial, taken):
            outcome = Outcome(parts=self._parts(trial), stopped=True)
        if taken is not None and taken.ops is not None:
            return taken.ops, self._files.outcome(taken.ops) or outcome
        # Without a shared folder, the metric is all that there is. The parameter id that comes with it is
        # that of the parameters handed to the trial, and so the right one even if these were swapped.
        if reported is not None:
            return self._engine.proposed(reported.parameter_id), outcome
        return None, None

    def _is_given_up(self, trial: Trial, taken: Taken | None) -> bool:
        """Whether an assessor or a user has stopped this one trial.

        NNI is supposed to report EARLY_STOPPED for the former, but records the reason only once the trial has
        ended.
        """
        interrupted = trial.ended and taken is not None and taken.interrupted
        return interrupted and not self._manager_stops()

    def _parts(self, trial: Trial) -> tuple[float, ...]:
        """The fitness on the parts of the split that a trial had reported to NNI before it was stopped."""
        try:
            return self._manager.intermediate_results(trial.id)
        except ERRORS as error:
            _log.warning("NNI's manager does not say what %s had reported (%s)", trial, error)
            return ()

    def _may_report_yet(self, trial: Trial, taken: Taken | None) -> bool:
        """Whether a metric, through NNI, or a final mark may still come from a trial that left no outcome."""
        if taken is not None and taken.error is not None:
            return False
        if trial.status != "SUCCEEDED" and not self._died_with_its_machine(trial, taken):
            return False
        clock = self._time_for_metrics() if trial.status == "SUCCEEDED" else time.monotonic()
        return clock - self._ended_at.setdefault(trial.id, clock) < _GRACE

    def _time_for_metrics(self) -> float:
        """A clock, in seconds, that stops while a request is settled: no metric can come meanwhile."""
        with self._looked:
            now = time.monotonic() if self._settling_since is None else self._settling_since
            return now - self._settled_for

    def _died_with_its_machine(self, trial: Trial, taken: Taken | None) -> bool:
        """Whether nobody saw a trial end. NNI reports a dead machine's trials as canceled by a user."""
        if trial.status != "USER_CANCELED" or (taken is not None and taken.error is not None):
            return False
        beat = self._files.beat(trial.id)
        return beat is None or not beat.ended

    def _is_silent(self, trial: Trial) -> bool:
        beat = self._files.beat(trial.id)
        if beat is None or beat.ended:
            return False
        return self._listener.silent_for(trial.id, beat) > _SILENT

    def _lose(self, trial: Trial) -> None:
        """Give a lost trial's candidate to another; should the lost one report after all, that counts."""
        if trial.id in self._lost:
            return
        self._lost[trial.id] = trial
        _log.warning("%s was lost with its machine; another takes its place", trial)
        if not trial.ended:
            # In a thread: if the machine does not answer, neither does the manager.
            threading.Thread(target=self._cancel, args=(trial.id,), daemon=True).start()
        self._engine.end(trial.record["parameter_id"], lost=True)

    def _cancel(self, trial: str) -> None:
        try:
            self._manager.cancel(trial)
        except ERRORS as error:
            _log.warning("NNI's manager cannot cancel trial %s (%s)", trial, error)

    def _expect_progress(self, trials: list[Trial]) -> None:
        """NNI waits forever for a machine that does not answer, and starts nothing meanwhile."""
        if not self._lost or not self._engine.has_open or any(self._runs(trial) for trial in trials):
            self._moved_at = self._listener.clock
        elif self._listener.clock - self._moved_at > _STUCK:
            last = list(self._lost.values())[-1]
            raise EvaluationError(
                f"NNI has started no trials since {last} was lost with its machine: repair it, or remove "
                "it from machineList, then run `nnictl stop` and `nnictl create`; the search resumes "
                "from its journal"
            )

    def _runs(self, trial: Trial) -> bool:
        if trial.ended or trial.id in self._lost:
            return False
        beat = self._files.beat(trial.id)
        return beat is None or not beat.ended

    def _reason(self, trial: Trial, taken: Taken | None) -> Failure | None:
        """A failed trial's own reason; without a shared folder, from what it printed."""
        error = None if taken is None else taken.error
        if error is None and trial.status == "FAILED":
            with contextlib.suppress(*ERRORS):
                error = read_why(self._manager.stderr(trial.id))
        return Failure(f"{error}, in {trial}", fatal=True) if error is not None and error.fatal else error

    def _manager_stops(self) -> bool:
        """Whether a trial has ended because the whole experiment is ending: that is no failure."""
        try:
            return self._manager.is_stopping()
        except ERRORS:
            return True

    def _propose(self, trial: Trial) -> None:
        """Tell a trial what was proposed for it: on another machine it cannot ask NNI's manager."""
        if trial.id not in self._proposals:
            self._files.propose(trial.id, trial.record)
            self._proposals.add(trial.id)

    def _expect_the_same_search(self, trial: Trial, taken: Taken | None) -> None:
        """Raise CheckpointError if a trial computed with a config or supernet that is not this search's."""
        if taken is not None and taken.ops is not None:
            # After an error it may not have got far enough to report this.
            identity = taken.identity if taken.error is None else None
        else:
            reported = self._reported.get(trial.id)
            identity = None if reported is None else reported.identity
        for key, expected in self._files.identity.items() if identity is not None else ():
            if identity.get(key) != expected:
                raise CheckpointError(
                    f"{trial} computed with another {key} ({identity.get(key)}) than this "
                    f"search's ({expected}): {_REMEDY.get(key, 'start a new search')}"
                )


_REMEDY = {
    "config": "the trialCommand's `-c` and `--set` and the tuner's classArgs have to name the same values",
    "supernet": (
        "it was retrained while the search ran, and a new search needs another name; or the trial's "
        "machine has a different file in place of the shared one"
    ),
}
