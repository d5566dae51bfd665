"""The search inside `nnictl create --config`: an NNI tuner that hosts an NNI NAS strategy.

nnictl drives hyper-parameter tuning alone: the manager asks a tuner for parameters, one set a trial. The
strategy runs in a thread of the tuner's process, on an engine whose workers are NNI's trials.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nni.nas.execution import ExecutionEngine, FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus
from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.tuner import Tuner

from detnas_nni.architecture import Architecture
from detnas_nni.config_file import load_config
from detnas_nni.errors import ConfigError
from detnas_nni.search.outcome import Outcome, load_outcome
from detnas_nni.search.session import SearchSession
from detnas_nni.search.space import CandidateModel
from search_spaces import search_space_json

_log = logging.getLogger(__name__)

Send = Callable[[int, dict[str, Any]], None]
"""Hands parameters to NNI under an id that it asked for before."""

# Seconds that a request waits for a strategy that may be about to propose. NNI is told "no more trials" when
# a request goes unanswered; it takes that back at the next proposal, but writes a warning each time.
_PATIENCE = 1.0

# Seconds that a successful trial's metric may come after its end, through another of NNI's threads.
_GRACE = 10.0


class TrialEngine(ExecutionEngine):
    """Candidates out to NNI's trials, results back: called by the strategy's thread and by NNI's.

    A candidate waits in a queue until NNI asks for parameters; a request that finds the queue empty waits for
    the next candidate.
    """

    def __init__(self, space: str) -> None:
        super().__init__()
        self._space = space
        self._changed = threading.Condition()
        self._queue: deque[CandidateModel] = deque()
        self._requests: deque[int] = deque()
        self._running: dict[int, CandidateModel] = {}
        self._models: list[CandidateModel] = []
        self._deliver: Send | None = None
        self._closed = False

    # The strategy's side.

    def submit_models(self, *models: CandidateModel) -> None:
        with self._changed:
            for model in models:
                model.status = ModelStatus.Training
                self._models.append(model)
                self._queue.append(model)
            self._match()

    def wait_models(self, *models: CandidateModel) -> None:
        waited_for = models or tuple(self._models)
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or all(model.status.completed() for model in waited_for)
            )

    def list_models(self, status: ModelStatus | None = None) -> Iterable[CandidateModel]:
        return [model for model in self._models if status is None or model.status == status]

    def idle_worker_available(self) -> bool:
        return bool(self._requests)

    def budget_available(self) -> bool:
        return not self._closed

    def shutdown(self) -> None:
        """No more trials run, or no more candidates come: nobody waits any longer."""
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
                # While nothing runs, the strategy is sure to propose or to end. Otherwise it may wait for
                # results, which NNI brings through this very thread: do not hold it.
                if not self._changed.wait(_PATIENCE) and self._running:
                    break
            self._deliver = send
        return list(answers.values())

    def architecture(self, parameter_id: int) -> Architecture | None:
        """What a running trial evaluates; None if it does not run (any more)."""
        with self._changed:
            model = self._running.get(parameter_id)
        return None if model is None else Architecture(self._space, model.ops)

    def finish(self, parameter_id: int, outcome: Outcome) -> None:
        """A trial has ended. NNI speaks of an end twice, by metric and by status: the first word counts."""
        with self._changed:
            model = self._running.pop(parameter_id, None)
        if model is None:
            return
        if outcome.metrics is not None:
            self.dispatch_model_event(FinalMetricEvent(model, outcome.metrics))
        model.error = model.error or outcome.error
        status = ModelStatus.Failed if model.metric is None else ModelStatus.Trained
        self.dispatch_model_event(TrainingEndEvent(model, status))
        with self._changed:
            self._changed.notify_all()

    def _match(self) -> None:
        """Bring waiting candidates and waiting requests together, both in the order in which they came."""
        while self._queue and self._requests:
            parameter_id, model = self._requests.popleft(), self._queue.popleft()
            self._running[parameter_id] = model
            self._deliver(parameter_id, Architecture(self._space, model.ops).choices)
        self._changed.notify_all()


class DetNASTuner(Tuner):
    """The tuner of an experiment's `search.yaml`.

    Args:
        config: the experiment's config, relative to `codeDirectory`.
        overrides: changes of it, as `section.key=value`; give the trial command the same ones by `--set`.
    """

    def __init__(self, config: str, overrides: list[str] | None = None) -> None:
        self.config = load_config(_find(config), overrides or [])
        self._session = SearchSession(self.config)
        self._engine = TrialEngine(self.config.space.name)
        self._thread = threading.Thread(target=self._search, name="strategy", daemon=True)
        self._error: Exception | None = None
        self._dispatcher: MsgDispatcher | None = None

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """NNI's word that the experiment starts, with the content of `searchSpaceFile`."""
        expected = search_space_json(self.config.space.name)
        if search_space != expected:
            self._error = ConfigError(
                f"searchSpaceFile does not hold the space {self.config.space.name!r} of the config; "
                f"write it by `python -m search_spaces --space {self.config.space.name}`"
            )
            self._engine.shutdown()
        elif self._thread.ident is None:
            self._thread.start()

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], st_callback: Send, **_: Any
    ) -> list[dict[str, Any]]:
        self._dispatcher = st_callback.__self__  # the way to it that NNI offers
        answers = self._engine.request(parameter_id_list, st_callback)
        self._tell_nni()
        return answers

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **_: Any) -> None:
        self._finish(parameter_id, Outcome(metrics=value))

    def trial_end(self, parameter_id: int, success: bool, **_: Any) -> None:
        nothing = Outcome(error="the trial ended without a result")
        if success:
            # A trial that reports nothing (a wrong trialCommand) must not be waited for without end.
            late = threading.Timer(_GRACE, self._finish, (parameter_id, nothing))
            late.daemon = True
            late.start()
        else:
            self._finish(parameter_id, nothing)

    def _on_exit(self) -> None:
        self._engine.shutdown()

    def _on_error(self) -> None:
        self._engine.shutdown()

    def _finish(self, parameter_id: int, reported: Outcome) -> None:
        architecture = self._engine.architecture(parameter_id)
        if architecture is not None:
            # The trial's own word on what it evaluated, where the folder is shared with it.
            written = load_outcome(self._session.folder, architecture)
            self._engine.finish(parameter_id, written or reported)

    def _search(self) -> None:
        try:
            path = self._session.run(self._engine, evaluator=None)
            _log.info("the search has ended: %s", path)
        except Exception as error:
            _log.exception("the search has failed")
            self._error = error
            self._tell_nni()
        finally:
            self._engine.shutdown()

    def _tell_nni(self) -> None:
        """Bring the experiment into NNI's state ERROR, if there is an error; log/dispatcher.log has its text.

        An exception would only end one of the dispatcher's threads, and the experiment would run on, idle.
        """
        if self._error is not None and self._dispatcher is not None:
            self._dispatcher.report_error(str(self._error))


def _find(config: str) -> Path:
    """The config's path. NNI starts a tuner in its log folder; it puts codeDirectory last on sys.path, and
    nothing else says where that is."""
    for folder in reversed(sys.path):
        if (Path(folder) / config).is_file():
            return Path(folder) / config
    raise ConfigError(f"{config}: not found in codeDirectory; classArgs.config is relative to it")
