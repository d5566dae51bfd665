"""How one evaluation of a candidate has ended."""

from __future__ import annotations

from dataclasses import dataclass

from detnas_nni.search.outcomes import Failure


@dataclass(frozen=True)
class Outcome:
    """The metrics of one evaluation, or the error that it ended with, or that it was stopped early."""

    metrics: dict[str, float] | None = None
    """on the whole split; None if it has none"""
    error: Failure | None = None
    parts: tuple[float, ...] = ()
    """fitness on the growing parts of the split that it was measured on"""
    stopped: bool = False
    """whether it was given up on a part of the split: no failure, and no result"""


NO_RESULT = Failure("the trial ended without a result: it was killed, or never started")
"""Of a trial that said nothing: a kill, the kernel's for want of memory too, or a wrong `trialCommand`."""
