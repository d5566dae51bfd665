"""The space as NNI's strategies see it: the choices without a net, and one candidate as their model."""

from __future__ import annotations

from nni.nas.evaluator import Evaluator
from nni.nas.space import SimplifiedModelSpace

from search_spaces.trunk import throwaway


class CandidateModel(SimplifiedModelSpace):
    """NNI's model of one candidate, which also knows where it comes from and what went wrong with it."""

    ops: tuple[int, ...] = ()
    generation: int = 0
    origin: str = ""
    error: str | None = None

    def proposed(self, ops: tuple[int, ...], generation: int, origin: str) -> CandidateModel:
        """This model, marked with its proposal."""
        self.ops = ops
        self.generation = generation
        self.origin = origin
        return self


def candidate_space(space: str, evaluator: Evaluator | None) -> CandidateModel:
    """The executable model space of a search; freezing it builds no net and shares no tensor."""
    with throwaway(space) as trunk:
        return CandidateModel.from_model(trunk, evaluator)
