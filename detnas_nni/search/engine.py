"""The journal as a layer between a strategy and its engine: nothing is evaluated twice, nothing is lost."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from nni.nas.execution import (
    ExecutionEngine,
    Middleware,
    ModelEvent,
    ModelEventType,
)
from nni.nas.space import ModelStatus

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.cost.limits import FeasibleSet
from detnas_nni.cost.table import CostTable
from detnas_nni.errors import ConstraintError, DetNASError, EvaluationError
from detnas_nni.search.journal import Evaluation, Journal, JournalError
from detnas_nni.search.outcomes import Failure, FailurePolicy, Outcome
from detnas_nni.search.space import CandidateModel

_log = logging.getLogger(__name__)

Metrics = dict[str, float]

_NOTHING = "it ended without a result"


class JournaledEngine(Middleware):
    """Answers from the journal at once what it knows, and records every other candidate as it ends.

    A strategy depends on its seed and on results alone. Started again on the journal of a search that was
    killed, it therefore proposes the same candidates, gets the same answers and is back where it was: there
    is no other state to save. RegularizedEvolution also depends on the order in which results arrive: with
    several trials at a time it may propose others after a restart.

    A candidate that fails is evaluated again, as often as the policy says, before the failure reaches the
    strategy and the journal. An error that is no candidate's fault, such as a full disk, stops the search:
    `error` is then set, the strategy finds its budget spent, and the journal is left as it is.

    Args:
        engine: evaluates the candidates.
        journal: what has been evaluated.
        table: the candidates' cost.
        space: their space.
        policy: how failures are handled.
        outcome: gives the outcome of an architecture that was evaluated but did not get into the journal,
            because the search was killed in between; None if there is none.
        written: called when the journal has grown.
        feasible: what any strategy may propose; everything if None.
    """

    def __init__(
        self,
        engine: ExecutionEngine,
        journal: Journal,
        table: CostTable,
        space: str,
        *,
        policy: FailurePolicy,
        outcome: Callable[[Ops], Outcome | None] = lambda ops: None,
        written: Callable[[], None] = lambda: None,
        feasible: FeasibleSet | None = None,
    ) -> None:
        self.journal = journal
        self.error: DetNASError | None = None
        self._table = table
        self._space = space
        self._policy = policy
        self._outcome = outcome
        self._written = written
        self._feasible = feasible
        self._models: list[CandidateModel] = []
        self._metrics: dict[Ops, Metrics] = {}
        self._started: dict[Ops, float] = {}
        self._tries: Counter[Ops] = Counter()
        self._lock = threading.Lock()
        super().__init__(engine)

    def set_engine(self, engine: ExecutionEngine) -> None:
        super().set_engine(engine)
        # These run before the strategy's own callbacks: a result is on disk before anyone acts on it.
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)

    def register_model_event_callback(
        self, event_type: ModelEventType, callback: Callable[..., None]
    ) -> None:
        self.engine.register_model_event_callback(event_type, callback)

    def unregister_model_event_callback(
        self, event_type: ModelEventType, callback: Callable[..., None]
    ) -> None:
        self.engine.unregister_model_event_callback(event_type, callback)

    def submit_models(self, *models: CandidateModel) -> None:
        for model in models:
            if self.error is not None:
                return
            # A strategy that knows only NNI freezes models and does not say which ops they have.
            model.ops = model.ops or Architecture.from_choices(self._space, model.sample).ops
            self._expect_feasible(model.ops)
            self._models.append(model)
            self._started[model.ops] = time.perf_counter()
            known = self._known(model.ops)
            if known is None:
                self.engine.submit_models(model)
            else:
                model.end(known, self.engine)

    def list_models(self, status: ModelStatus | None = None) -> Iterable[CandidateModel]:
        return [model for model in self._models if status is None or model.status == status]

    def wait_models(self, *models: CandidateModel) -> None:
        if self.error is None:
            self.engine.wait_models(*(models or self._models))

    def idle_worker_available(self) -> bool:
        return self.engine.idle_worker_available()

    def budget_available(self) -> bool:
        return self.error is None and self.engine.budget_available()

    def shutdown(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        self.engine.shutdown()

    def _expect_feasible(self, ops: Ops) -> None:
        if self._feasible is not None and not self._feasible.contains(ops):
            raise ConstraintError(
                f"the strategy proposed {Architecture(self._space, ops)}, which breaks "
                f"{self._feasible.constraint}; propose through its Proposer, which keeps the constraint"
            )

    def _known(self, ops: Ops) -> Outcome | None:
        known = self.journal.find(ops)
        if known is None:
            return self._outcome(ops)
        error = None if known.error is None else Failure(known.error)
        return Outcome(known.metrics, error, known.parts, known.stopped)

    def _on_metric(self, event: ModelEvent) -> None:
        metrics = dict(event.metric)
        for key, value in metrics.items():
            if not math.isfinite(value):
                name = "the fitness" if key == "default" else f"the metric {key}"
                event.model.error = Failure(f"{name} is {value}, not a finite number")
                event.stop_propagation()  # it never becomes the model's metric: the candidate has failed
                return
        self._metrics[event.model.ops] = metrics

    def _on_end(self, event: ModelEvent) -> None:
        """Settle an end before it reaches the strategy, or keep it from the strategy."""
        model: CandidateModel = event.model
        if self.journal.find(model.ops) is not None or event.status is ModelStatus.Interrupted:
            return
        if self.error is not None or not self._settles(model):
            event.stop_propagation()

    def _settles(self, model: CandidateModel) -> bool:
        """Whether an end is final and in the journal; else the candidate is retried, or the search stops."""
        metrics = self._metrics.pop(model.ops, None)
        self._tries[model.ops] += 1
        failed = metrics is None and not model.stopped
        if failed and self._is_tried_again(model):
            return False
        if failed and getattr(model.error, "fatal", False):
            self._stop(
                EvaluationError(
                    f"{model.error} (any candidate would meet it). Fix that, then start the search again: "
                    f"it resumes after the {len(self.journal)} evaluations in its journal"
                )
            )
            return False
        try:
            self._write(model, metrics)
        except JournalError as error:
            self._stop(error)
            return False
        objection = self._policy.objection(self.journal.errors, len(self.journal))
        if objection is not None:
            self._stop(EvaluationError(f"{self.journal.path}: {objection}"))
        return True

    def _is_tried_again(self, model: CandidateModel) -> bool:
        tries, allowed = self._tries[model.ops], 1 + self._policy.retries
        error = model.error or _NOTHING
        name = Architecture(self._space, model.ops)
        _log.warning("%s failed, attempt %d of %d: %s", name, tries, allowed, error)
        if tries >= allowed:
            return False
        model.error = None
        model.metrics.clear()
        # NNI's sequential engine runs it at once, inside the callback of the previous attempt.
        self.engine.submit_models(model)
        return True

    def _stop(self, error: DetNASError) -> None:
        self.error = error
        self.engine.shutdown()

    def _write(self, model: CandidateModel, metrics: Metrics | None) -> None:
        seconds = time.perf_counter() - self._started.pop(model.ops)
        with self._lock:
            self.journal.append(
                Evaluation(
                    id=len(self.journal),
                    ops=model.ops,
                    choices=Architecture(self._space, model.ops).choices,
                    cost=self._table.cost(model.ops).to_dict(),
                    metrics=metrics,
                    error=None if metrics is not None or model.stopped else model.error or _NOTHING,
                    generation=model.generation,
                    origin=model.origin,
                    seconds=round((metrics or {}).get("seconds", seconds), 3),
                    finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    tries=self._tries[model.ops],
                    parts=tuple(model.metrics.intermediates),  # NNI keeps only `default` of a dict
                    stopped=model.stopped,
                )
            )
            self._written()
