"""How one evaluation of a candidate has ended."""

from __future__ import annotations

from dataclasses import dataclass

from detnas_nni.search.failures import Failure


@dataclass(frozen=True)
class Outcome:
    """The metrics of one evaluation, or the error that it ended with."""

    metrics: dict[str, float] | None = None
    error: Failure | None = None


NO_RESULT = Failure("the trial ended without a result: it was killed, or never started")
"""Of a trial that said nothing: a kill, the kernel's for want of memory too, or a wrong `trialCommand`."""
