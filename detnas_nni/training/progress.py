"""What a training shows, saves and obeys while it runs: log lines, TensorBoard, checkpoints, signals."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from tqdm import tqdm

from detnas_nni.files import replace_file

_log = logging.getLogger(__name__)


class Progress(Callback):
    """A line every `every` steps (and TensorBoard's scalars), a bar instead where stderr is a terminal.

    Losses are means over the steps since the last line: paths differ, and one step says little.
    """

    def __init__(self, steps: int, every: int) -> None:
        self._steps = steps
        self._every = every
        self._bar: tqdm | None = None
        self._since = (0, 0.0)
        self._losses: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = (trainer.global_step, time.perf_counter())
        if sys.stderr.isatty() and trainer.is_global_zero:
            self._bar = tqdm(total=self._steps, initial=trainer.global_step, unit="step")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)
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
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{total:.3f}", lr=f"{lr:.2g}")
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
        """The mean of each loss since the last line; only here does a GPU have to hand numbers over."""
        names = self._losses[0]
        means = {name: torch.stack([step[name] for step in self._losses]).mean().item() for name in names}
        self._losses.clear()
        return means

    def _rate(self, step: int) -> float:
        """Steps a second since the last line."""
        (last_step, last_time), now = self._since, time.perf_counter()
        self._since = (step, now)
        return max(step - last_step, 1) / max(now - last_time, 1e-9)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Checkpoints(Callback):
    """The whole training state in one file, replaced every `every` steps."""

    def __init__(self, path: Path, every: int) -> None:
        self._path = path
        self._every = every

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % self._every:
            return
        if trainer.is_global_zero:
            replace_file(self._path, lambda path: trainer.save_checkpoint(path, weights_only=False))
        else:  # writes nothing, and waits for the main process's file
            trainer.save_checkpoint(self._path, weights_only=False)


class Termination(Callback):
    """SIGTERM means to a training what it meant before it, by default to end at once.

    Lightning ends the step first, then with status 0, as if all were done; and of several processes one asks
    the others, who may be gone.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Lightning, too, sets nothing
            signal.signal(signal.SIGTERM, self._before)


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
