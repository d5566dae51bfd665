"""The uniform average of a net's weights over the last steps of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn


class WeightAverage(Callback):
    """Averages the parameters as they are after each of the last steps; part of every checkpoint.

    A parameter that does not change meanwhile, of a candidate that is not drawn, keeps its value to the bit.
    BN's running statistics are none, and stay those of the last step. To stand before what saves checkpoints.

    Args:
        steps: of the whole training.
        last: how many of them count; all, if it has no more.
    """

    def __init__(self, steps: int, last: int) -> None:
        self._before = max(steps - last, 0)
        self._means: list[Tensor] = []
        self._add = get_swa_multi_avg_fn()

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        number = trainer.global_step - self._before
        if number < 1:
            return
        parameters = list(pl_module.parameters())
        if number == 1:
            self._means = [parameter.clone() for parameter in parameters]
        else:
            self._add(self._means, parameters, number - 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._means = [mean.to(pl_module.device) for mean in self._means]  # a checkpoint's are on the CPU

    @torch.no_grad()
    def put_into(self, net: nn.Module) -> None:
        """Let the net that was trained have its average."""
        for parameter, mean in zip(net.parameters(), self._means, strict=True):
            parameter.copy_(mean)

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"means": self._means}

    def load_state_dict(self, state_dict: Mapping[str, list[Tensor]]) -> None:
        self._means = list(state_dict["means"])
