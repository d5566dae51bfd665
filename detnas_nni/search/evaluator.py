"""NNI's Evaluator around a candidate's evaluation: what both front doors of the search execute."""

from __future__ import annotations

import logging

import nni
from nni.nas.evaluator import Evaluator

from detnas_nni.architecture import Architecture
from detnas_nni.evaluation.candidate import CandidateEvaluation, Result
from detnas_nni.search.nnictl.time_limit import time_limit
from detnas_nni.search.outcomes import describe
from detnas_nni.search.racing import Race
from detnas_nni.search.space import CandidateModel

_log = logging.getLogger(__name__)


class DetNASEvaluator(Evaluator):
    """Measures one candidate and reports through NNI's trial API: parts on the way, the whole at the end.

    In process NNI's engine hands a frozen model to `_execute`; an nnictl trial takes the same two steps with
    the architecture that its parameters name.

    Args:
        evaluation: what measures.
        race: says which candidates are given up early; none if None.
        max_seconds: an evaluation in process that takes longer has failed; None for no limit.
    """

    def __init__(
        self, evaluation: CandidateEvaluation, race: Race | None = None, max_seconds: float | None = None
    ) -> None:
        self.evaluation = evaluation
        self.race = race
        self.max_seconds = max_seconds

    def extra_repr(self) -> str:
        return f"task={self.evaluation.task.kind}"

    def evaluate(self, model: Architecture) -> Result:
        """Evaluate an architecture; NNI hears of it, the caller gets the result."""
        result = self.measure(model)
        self.report(result)
        return result

    def measure(self, architecture: Architecture) -> Result:
        """Evaluate an architecture; NNI hears of the parts, not yet of the whole."""
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
        """Tell NNI the final result; a candidate that was given up has none."""
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
        # Outside of the limit: an alarm in the middle of writing the journal would be in the wrong place.
        self.report(result)
        return result


def _part(result: Result) -> str:
    return f" on part {len(result.parts)} of the split, given up" if result.stopped else ""
