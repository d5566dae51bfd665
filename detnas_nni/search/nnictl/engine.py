"""NNI's trials as an engine: candidates go out to them, results come back to the strategy.

Which trial evaluates what cannot be taken for granted. NNI 3.0 hands out parameters in the order in which
trials ask, so a trial may evaluate what was proposed for another. A candidate is therefore in flight until a
trial that has *taken* it ends, whichever trial that is; and it is lost only when no running trial has taken
it and none is left that could.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.space import ModelStatus

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.search.outcomes import NO_RESULT, Failure, Outcome
from detnas_nni.search.space import CandidateModel

Send = Callable[[int, dict[str, Any]], None]
"""Hands parameters to NNI under an id that it asked for earlier."""

# Seconds that a request waits for a strategy that may be about to propose. An unanswered request tells NNI
# "no more trials"; it takes that back at the next proposal, but logs a warning each time.
_PATIENCE = 1.0

# How often a candidate may lose its machine before that counts as its own failure: some use up all memory and
# take the machine down with them.
_LOSSES = 3


@dataclass
class _Trial:
    """A trial that NNI was asked to start and that has not ended."""

    proposed: Ops
    taken: Ops | None = None
    """what it has reported to evaluate; None until then"""


class TrialEngine(ExecutionEngine):
    """Called by the strategy's thread, by NNI's, and by the one that watches the trials.

    A candidate waits in a queue until NNI asks for parameters; a request that finds the queue empty waits for
    the next candidate. A trial is known here by its parameter id.
    """

    def __init__(self, space: str) -> None:
        super().__init__()
        self._space = space
        self._changed = threading.Condition()
        self._queue: deque[CandidateModel] = deque()
        self._requests: deque[int] = deque()
        self._flying: dict[Ops, CandidateModel] = {}
        self._trials: dict[int, _Trial] = {}
        self._proposed: dict[int, Ops] = {}
        self._models: dict[Ops, CandidateModel] = {}
        self._losses: Counter[Ops] = Counter()
        self._deliver: Send | None = None
        self._closed = False

    # The strategy's side.

    def submit_models(self, *models: CandidateModel) -> None:
        with self._changed:
            for model in models:
                model.status = ModelStatus.Training
                if model.ops in self._models:  # retried, before the strategy's next ones
                    self._queue.appendleft(model)
                else:
                    self._models[model.ops] = model
                    self._queue.append(model)
            self._match()

    def wait_models(self, *models: CandidateModel) -> None:
        waited_for = models or tuple(self._models.values())
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or all(model.status.completed() for model in waited_for)
            )

    def list_models(self, status: ModelStatus | None = None) -> Iterable[CandidateModel]:
        return [model for model in self._models.values() if status is None or model.status == status]

    def idle_worker_available(self) -> bool:
        return bool(self._requests)

    def budget_available(self) -> bool:
        return not self._closed

    def shutdown(self) -> None:
        """No more trials run, or no more candidates come: end all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # NNI's side.

    def request(self, parameter_ids: list[int], send: Send) -> list[dict[str, Any]]:
        """Parameters for the first of these ids; for the rest `send` is called later, as candidates come."""
        answers: dict[int, dict[str, Any]] = {}

        def deliver(parameter_id: int, parameters: dict[str, Any]) -> None:
            if parameter_id in parameter_ids:
                answers[parameter_id] = parameters
            else:
                send(parameter_id, parameters)

        with self._changed:
            self._deliver = deliver
            self._requests.extend(parameter_ids)
            self._match()
            while len(answers) < len(parameter_ids) and not self._closed:
                # While nothing is in flight, the strategy is certain to propose or to end. Otherwise it may
                # be waiting for results.
                if not self._changed.wait(_PATIENCE) and self._flying:
                    break
            self._deliver = send
        return list(answers.values())

    def recover(self, proposed: Mapping[int, Ops]) -> None:
        """Trials that NNI restarts after `nnictl resume`: their candidates need no new ones."""
        with self._changed:
            for parameter_id, ops in proposed.items():
                # NNI hands these the parameters that they had.
                self._trials[parameter_id] = _Trial(ops, taken=ops)
                self._proposed[parameter_id] = ops
            self._match()

    @property
    def has_open(self) -> bool:
        """Whether any candidate waits for a trial or for a trial's result."""
        with self._changed:
            return bool(self._queue or self._flying)

    def proposed(self, parameter_id: int) -> Ops | None:
        """What was proposed under an id; None if nothing was."""
        with self._changed:
            return self._proposed.get(parameter_id)

    # The watch's side.

    def take(self, parameter_id: int, ops: Ops) -> None:
        """A trial reports which architecture it evaluates."""
        with self._changed:
            if parameter_id in self._trials:
                self._trials[parameter_id].taken = ops

    def finish(self, ops: Ops, outcome: Outcome) -> None:
        """An architecture was evaluated, or failed. Nothing happens if it is not in flight (any more)."""
        with self._changed:
            model = self._flying.pop(ops, None)
            if model is None and outcome.error is None:
                # It counted as lost and waits to be proposed again, but its result has come after all.
                model = next((model for model in self._queue if model.ops == ops), None)
                if model is not None:
                    self._queue.remove(model)
        if model is None:
            return
        model.end(outcome, self)
        with self._changed:
            self._changed.notify_all()

    def end(self, parameter_id: int, error: Failure | None = None, *, lost: bool = False) -> None:
        """A trial has ended; what it had taken, and has not finished, has failed with the error.

        Args:
            parameter_id: the trial's.
            error: the reason that it gave itself.
            lost: whether its machine died with it; its candidate is then proposed again, and has not failed.
        """
        with self._changed:
            trial = self._trials.pop(parameter_id, None)
            if trial is None:
                return
            failed = self._lost(trial)
            if trial.taken in self._flying and not self._is_taken(trial.taken):
                failed.append(trial.taken)
        for ops in failed:
            if lost and self._put_back(ops):
                continue
            own = trial.taken in (ops, None)
            self.finish(ops, Outcome(error=(error if own else None) or NO_RESULT))

    def _put_back(self, ops: Ops) -> bool:
        with self._changed:
            if self._losses[ops] == _LOSSES:
                return False
            self._losses[ops] += 1
            model = self._flying.pop(ops, None)
            if model is not None:
                self._queue.appendleft(model)
                self._match()
            return True

    def _is_taken(self, ops: Ops) -> bool:
        return any(trial.taken == ops for trial in self._trials.values())

    def _lost(self, ended: _Trial) -> list[Ops]:
        """Candidates in flight that no trial has taken, beyond those that the undecided trials can take.

        If there are several, which are lost is not certain: the one proposed for the trial that has ended
        comes first. If another trial has it after all, its result counts, and the next end corrects this.
        """
        undecided = sum(trial.taken is None for trial in self._trials.values())
        open_ops = [ops for ops in self._flying if ops != ended.taken and not self._is_taken(ops)]
        waited_for = {trial.proposed for trial in self._trials.values()}
        open_ops.sort(key=lambda ops: ops in waited_for)
        return open_ops[: max(0, len(open_ops) - undecided)]

    def _match(self) -> None:
        """Match waiting candidates with waiting requests, both in the order in which they came."""
        for model in [model for model in self._queue if self._is_taken(model.ops)]:
            self._queue.remove(model)
            self._flying[model.ops] = model
        while self._queue and self._requests:
            parameter_id, model = self._requests.popleft(), self._queue.popleft()
            self._flying[model.ops] = model
            self._trials[parameter_id] = _Trial(model.ops)
            self._proposed[parameter_id] = model.ops
            self._deliver(parameter_id, Architecture(self._space, model.ops).choices)
        self._changed.notify_all()
