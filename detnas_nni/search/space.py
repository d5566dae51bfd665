"""The space as NNI's strategies see it: the choices without a net, and one candidate as their model."""

from __future__ import annotations

from nni.nas.evaluator import Evaluator
from nni.nas.execution import ExecutionEngine, FinalMetricEvent, IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace

from detnas_nni.search.outcomes import Outcome
from search_spaces.trunk import throwaway


class CandidateModel(SimplifiedModelSpace):
    """NNI's model of one candidate, which also knows where it comes from and what went wrong with it."""

    ops: tuple[int, ...] = ()
    generation: int = 0
    origin: str = ""
    error: str | None = None
    stopped: bool = False
    """whether it was given up on a part of the search split"""

    def proposed(self, ops: tuple[int, ...], generation: int, origin: str) -> CandidateModel:
        """This model, marked with its proposal."""
        self.ops = ops
        self.generation = generation
        self.origin = origin
        return self

    def end(self, outcome: Outcome, engine: ExecutionEngine) -> None:
        """Tell an engine's listeners this model's outcome, as NNI's own engine does in process."""
        self.stopped = outcome.stopped
        for fitness in outcome.parts:
            engine.dispatch_model_event(IntermediateMetricEvent(self, {"default": fitness}))
        if outcome.metrics is not None:
            engine.dispatch_model_event(FinalMetricEvent(self, outcome.metrics))
        self.error = self.error or outcome.error  # a listener may have refused the metrics
        ended_well = self.metric is not None or self.stopped
        status = ModelStatus.Trained if ended_well else ModelStatus.Failed
        engine.dispatch_model_event(TrainingEndEvent(self, status))


def candidate_space(space: str, evaluator: Evaluator | None) -> CandidateModel:
    """The executable model space of a search; freezing it builds no net and shares no tensor."""
    with throwaway(space) as trunk:
        return CandidateModel.from_model(trunk, evaluator)
