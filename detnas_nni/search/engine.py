"""The journal as a layer between a strategy and its engine: nothing is evaluated twice, nothing is lost."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from nni.nas.execution import (
    ExecutionEngine,
    FinalMetricEvent,
    Middleware,
    ModelEvent,
    ModelEventType,
    TrainingEndEvent,
)
from nni.nas.space import ModelStatus

from detnas_nni.architecture import Architecture
from detnas_nni.cost import CostTable
from detnas_nni.search.journal import Evaluation, Journal
from detnas_nni.search.space import CandidateModel

_log = logging.getLogger(__name__)


class JournaledEngine(Middleware):
    """Answers a candidate that the journal knows at once, and writes down every other one as it ends.

    A strategy draws from its seed and from the results alone. Started again over the journal of a search
    that was killed, it therefore proposes the same candidates, gets the same answers, and stands where it
    stood: there is no other state to save. RegularizedEvolution also depends on the order in which results
    come: with several trials at a time it may propose others after a restart.
    """

    def __init__(self, engine: ExecutionEngine, journal: Journal, table: CostTable, space: str) -> None:
        self.journal = journal
        self._table = table
        self._space = space
        self._models: list[CandidateModel] = []
        self._metrics: dict[tuple[int, ...], dict[str, float]] = {}
        self._started: dict[tuple[int, ...], float] = {}
        self._lock = threading.Lock()
        super().__init__(engine)

    def set_engine(self, engine: ExecutionEngine) -> None:
        super().set_engine(engine)
        # These come before the strategy's own callbacks: a result is on the disk before anyone acts on it.
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
            self._models.append(model)
            self._started[model.ops] = time.perf_counter()
            known = self.journal.find(model.ops)
            if known is None:
                self.engine.submit_models(model)
            else:
                self._replay(model, known)

    def list_models(self, status: ModelStatus | None = None) -> Iterable[CandidateModel]:
        return [model for model in self._models if status is None or model.status == status]

    def wait_models(self, *models: CandidateModel) -> None:
        self.engine.wait_models(*(models or self._models))

    def idle_worker_available(self) -> bool:
        return self.engine.idle_worker_available()

    def budget_available(self) -> bool:
        return self.engine.budget_available()

    def shutdown(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        self.engine.shutdown()

    def _replay(self, model: CandidateModel, known: Evaluation) -> None:
        if known.metrics is None:
            model.error = known.error
            self.engine.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Failed))
            return
        self.engine.dispatch_model_event(FinalMetricEvent(model, known.metrics))
        self.engine.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))

    def _on_metric(self, event: ModelEvent) -> None:
        metrics = dict(event.metric)
        if math.isfinite(metrics["default"]):
            self._metrics[event.model.ops] = metrics
            return
        event.model.error = f"the fitness is {metrics['default']}, not a finite number"
        event.stop_propagation()  # it is never the model's metric: the candidate has failed

    def _on_end(self, event: ModelEvent) -> None:
        model: CandidateModel = event.model
        if event.status is ModelStatus.Interrupted or self.journal.find(model.ops) is not None:
            return
        metrics = self._metrics.pop(model.ops, None)
        error = None if metrics is not None else model.error or "the trial ended without a result"
        seconds = time.perf_counter() - self._started.pop(model.ops)
        cost = self._table.cost(model.ops)
        with self._lock:
            self.journal.append(
                Evaluation(
                    id=len(self.journal),
                    ops=model.ops,
                    choices=Architecture(self._space, model.ops).choices,
                    cost={"macs": cost.macs, "params": cost.params},
                    metrics=metrics,
                    error=error,
                    generation=model.generation,
                    origin=model.origin,
                    seconds=round((metrics or {}).get("seconds", seconds), 3),
                    finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
                )
            )
        if error is not None:
            _log.warning("%s failed: %s", Architecture(self._space, model.ops), error)
