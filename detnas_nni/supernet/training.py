"""Train a supernet: one Lightning run under NNI's one-shot strategy, with checkpoints and resume."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from detnas_nni.config import Hardware, Training
from detnas_nni.errors import EvaluationError
from detnas_nni.hardware import prepare
from detnas_nni.supernet.checkpoint import load_tensors
from detnas_nni.supernet.paths import PathSampler, SeededPathOneShot
from detnas_nni.supernet.progress import Checkpoints, Progress
from detnas_nni.supernet.runs import SupernetRun

_log = logging.getLogger(__name__)

# Tips, devices and the like; Lightning sets its own level when it is imported, so this comes after.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Recipe:
    """How a supernet is optimised: everything that differs between the two trainings."""

    losses: Callable[[ModelSpace, Any], dict[str, Tensor]]
    """model and batch to losses by name; their sum is minimised"""
    parameter_groups: Callable[[ModelSpace], list[dict[str, Any]]]
    """SGD's parameter groups: learning rate and weight decay by kind of parameter"""
    lr_factor: Callable[[int], float]
    """the share of the base learning rate at a step"""


class SupernetTask(LightningModule):
    """One training step on the path that the strategy has activated."""

    def __init__(self, recipe: Recipe, settings: Training) -> None:
        super().__init__()
        self._recipe = recipe
        self._settings = settings

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        losses = self._recipe.losses(self.model, batch)
        total = sum(losses.values())
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
            raise EvaluationError(
                f"the loss is not finite at step {self.trainer.global_step} ({values}), on the path "
                f"{self.trainer.lightning_module.path}; lower lr, or set max_grad_norm"
            )
        return {"loss": total, "losses": {name: value.detach() for name, value in losses.items()}}

    def configure_optimizers(self) -> dict[str, Any]:
        settings = self._settings
        optimizer = SGD(self._recipe.parameter_groups(self.model), lr=settings.lr, momentum=settings.momentum)
        scheduler = LambdaLR(optimizer, self._recipe.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def train_supernet(
    model: ModelSpace,
    loader: Callable[[int], DataLoader],
    sampler: PathSampler,
    recipe: Recipe,
    settings: Training,
    run: SupernetRun,
    hardware: Hardware,
) -> dict[str, Tensor]:
    """Train `model` in place and give its state dict (on the CPU, with the names of the unmutated space).

    A training that was interrupted goes on from its last checkpoint.

    Args:
        model: an unfixed model space; NNI turns it into the supernet in place.
        loader: the training batches from a given step on.
        sampler: the path of every step.
        recipe: losses and optimiser.
        settings: the config's section of this training.
        run: the folder for checkpoints, logs and TensorBoard's events.
        hardware: device and threads.
    """
    device = prepare(hardware)
    start = 0
    if run.state.exists():
        start = int(load_tensors(run.state)["global_step"])
        _log.info("resuming at step %d of %d from %s", start, settings.steps, run.state)
    with warnings.catch_warnings(), _keyboard_interrupt():
        _ignore_known_warnings()
        trainer = Trainer(
            max_steps=settings.steps,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            gradient_clip_val=settings.max_grad_norm,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            log_every_n_steps=1,  # `Progress` says when
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=TensorBoardLogger(run.folder, name=None, version="tensorboard"),
            callbacks=[
                Progress(settings.steps, settings.log_every),
                Checkpoints(run.state, settings.checkpoint_every),
            ],
        )
        evaluator = Lightning(
            SupernetTask(recipe, settings),
            trainer,
            train_dataloaders=loader(start),
            val_dataloaders=[],  # NNI asks for some; a supernet is measured path by path, by `evaluate`
            fit_kwargs={"ckpt_path": str(run.state), "weights_only": True} if start else {},
        )
        strategy = SeededPathOneShot(sampler)
        strategy(RawFormatModelSpace(model, evaluator), SequentialExecutionEngine())
    return {name: tensor.detach().cpu() for name, tensor in strategy.supernet.state_dict().items()}


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


@contextmanager
def _keyboard_interrupt() -> Iterator[None]:
    """Ctrl-C as Python has it: Lightning turns it into `sys.exit(1)`."""
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from None


def _ignore_known_warnings() -> None:
    """Exactly these: NNI's and Lightning's remarks on what this file does on purpose."""
    for message in (
        ".*is found to be not a nn.Module.*",
        ".*please try to wrap PyTorch DataLoader with nni.trace.*",
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*Trying to infer the `batch_size`.*",
        # The dataloader ends where the training ends: there is no epoch to restart in its middle.
        ".*You're resuming from a checkpoint that ended before the epoch ended.*",
        ".*The `srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", message=message)
