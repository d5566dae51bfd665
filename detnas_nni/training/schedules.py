"""Learning rates as shares of the base one, by step."""

from __future__ import annotations

from collections.abc import Sequence


def step_factor(
    step: int, milestones: Sequence[int], gamma: float, warmup_steps: int, warmup_factor: float
) -> float:
    """Linear warm-up from `warmup_factor`, then times `gamma` at each milestone passed."""
    factor = gamma ** sum(step >= milestone for milestone in milestones)
    if step < warmup_steps:
        factor *= warmup_factor + (1 - warmup_factor) * step / warmup_steps
    return factor


def linear_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Linear warm-up from 0, then a straight line to 0 at the last step."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * max(0.0, 1 - step / steps)
