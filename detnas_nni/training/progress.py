"""What a training does besides its steps: log, TensorBoard, average of weights, checkpoints, SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn

from detnas_nni.config.run_folder import UNNAMED_CHECKPOINT
from detnas_nni.training.runs import CheckpointFolder
from detnas_nni.training.tensors import write_tensors
from detnas_nni.util.progress import Forecast, ProgressBar, duration

_log = logging.getLogger(__name__)


class Progress(Callback):
    """A line every `every` steps (and TensorBoard's scalars), or a bar on a terminal.

    Losses are means over the steps since the last line: paths differ, and a single step says little.
    """

    def __init__(self, steps: int, every: int, what: str = "training") -> None:
        self._steps = steps
        self._what = what
        self._every = every
        self._bar: ProgressBar | None = None
        self._since = (0, 0.0)
        self._forecast = Forecast(steps, what, "step")
        self._losses: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = (trainer.global_step, time.perf_counter())
        if trainer.is_global_zero:
            done = trainer.global_step
            self._bar = ProgressBar(self._steps, self._what, "step", done=done, lines=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            self._bar.to(trainer.global_step)
            self._forecast.at(trainer.global_step)
        self._losses.append(outputs["losses"])
        step = trainer.global_step
        if step % self._every and step != self._steps:
            return
        losses = self._mean_losses()
        if not trainer.is_global_zero:
            return
        total = sum(losses.values())
        rate = self._rate(step)
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        trainer.logger.log_metrics(
            {
                "loss": total,
                "lr": lr,
                "steps_per_second": rate,
                **{f"loss/{k}": v for k, v in losses.items()},
            },
            step,
        )
        if self._bar is not None and self._bar.is_live:
            self._bar.to(step, loss=f"{total:.3f}", lr=f"{lr:.2g}")
            return
        terms = "  ".join(f"{name} {value:.3f}" for name, value in losses.items()) if len(losses) > 1 else ""
        _log.info(
            "step %d/%d  loss %.3f  lr %.2g  %.1f steps/s  %s left  %s",
            *(step, self._steps, total, lr, rate, duration((self._steps - step) / rate), terms),
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _mean_losses(self) -> dict[str, float]:
        """The mean of each loss since the last line; only here does a GPU have to transfer numbers."""
        names = self._losses[0]
        means = {name: torch.stack([step[name] for step in self._losses]).mean().item() for name in names}
        self._losses.clear()
        return means

    def _rate(self, step: int) -> float:
        """Steps per second since the last line."""
        (last_step, last_time), now = self._since, time.perf_counter()
        self._since = (step, now)
        return max(step - last_step, 1) / max(now - last_time, 1e-9)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class WeightAverage(Callback):
    """Averages the parameters over the last steps; part of every checkpoint.

    A parameter that does not change meanwhile, because its candidate is not drawn, keeps its value to the
    bit. BN's running statistics are not parameters and stay those of the last step. Has to come before the
    callback that saves checkpoints.

    Args:
        steps: of the whole training.
        last: how many of them count; all, if there are no more.
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
        """Put the averages into the trained net."""
        for parameter, mean in zip(net.parameters(), self._means, strict=True):
            parameter.copy_(mean)

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"means": self._means}

    def load_state_dict(self, state_dict: Mapping[str, list[Tensor]]) -> None:
        self._means = list(state_dict["means"])


class Checkpoints(Callback):
    """Saves the training's whole state every `every` steps, and at once when SIGTERM asks it to end.

    Where several steps make one update of the weights, the state is saved with the next update, so that no
    gradients have to be saved.

    SIGTERM is how a cluster takes a machine back. The current update is completed, its state is saved, and
    the process exits with the signal's status, 143. A second SIGTERM ends it at once. With several processes
    it is enough that one gets the signal: all end at the same step.

    Args:
        folder: where to.
        every: steps between two.
        keep: how many of the newest are kept.
        passes: steps per update.
    """

    def __init__(self, folder: CheckpointFolder, every: int, keep: int, passes: int) -> None:
        self._folder = folder
        self._every = every
        self._keep = keep
        self._passes = passes
        self._before = signal.getsignal(signal.SIGTERM)
        self._asked_to_end = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning has set its own handler, and restores the previous one at the end. Handlers can only be
        # set in the main thread.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step % self._passes:
            return
        ends = trainer.strategy.reduce_boolean_decision(self._asked_to_end, all=False)
        due = step % self._every < self._passes
        if not due and not ends:
            return
        if trainer.is_global_zero:
            self._folder.save(step, lambda path: _write(trainer, path), self._keep)
        else:  # writes nothing, but waits for the main process's file
            _write(trainer, self._folder.path / UNNAMED_CHECKPOINT)
        if ends:
            trainer.strategy.barrier()  # torchrun ends the others as soon as one exits
            if trainer.is_global_zero:
                _log.warning("SIGTERM: saved at step %d; run the same command again to resume", step)
            raise SystemExit(128 + signal.SIGTERM)

    def _on_sigterm(self, *_: object) -> None:
        self._asked_to_end = True
        signal.signal(signal.SIGTERM, self._before)


class CheckpointFile(TorchCheckpointIO):
    """Lightning's checkpoints, written in place: Lightning writes to /tmp first, and copies."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, *_: Any, **__: Any) -> None:
        write_tensors(Path(path), checkpoint)


def _write(trainer: Trainer, path: Path) -> None:
    trainer.save_checkpoint(path, weights_only=False)
