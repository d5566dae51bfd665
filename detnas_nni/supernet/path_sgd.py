"""SGD for a supernet, whose step costs as much as the drawn path and not as much as all candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD


class PathSGD(SGD):
    """torch's SGD, to the bit, that visits those parameters alone which a gradient has reached.

    torch's own looks at every parameter for whether it has a gradient, and of a supernet most have none. Here
    each says so itself in the backward pass, once a step.

    Args:
        params: as torch's; its groups, and with them the state dict, hold all parameters.
        settings: as torch's.
    """

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)
        # A dictionary's keys are an ordered set, and what `setdefault` gives is what a hook has to: None.
        self._reached: list[dict[Tensor, None]] = [{} for _ in self.param_groups]
        for group, reached in zip(self.param_groups, self._reached, strict=True):
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(reached.setdefault)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on what the closure's backward pass, or the last one, has reached; gives its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._reached_alone():
            super().step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients since the last call."""
        with self._reached_alone():
            super().zero_grad(set_to_none)
        if set_to_none:  # a gradient of zeros is still one to step on
            for reached in self._reached:
                reached.clear()

    @contextmanager
    def _reached_alone(self) -> Iterator[None]:
        """The groups hold what a gradient has reached while the context lasts."""
        whole = [group["params"] for group in self.param_groups]
        try:
            for group, reached in zip(self.param_groups, self._reached, strict=True):
                group["params"] = list(reached)
            yield
        finally:
            for group, params in zip(self.param_groups, whole, strict=True):
                group["params"] = params
