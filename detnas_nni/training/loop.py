"""Train a net: one Lightning run under NNI, with checkpoints and resume, on one device or several.

A supernet is trained by an NNI one-shot strategy, which it brings along, a single net by NNI's Lightning
evaluator as it is; everything else is the same.

One step of a supernet, in the order of the calls. Nobody here calls `backward`: Lightning does.

 1. Lightning takes a batch from the loader and calls `_SeededPathModule.optimizer_step`, overridden here,
 2. which calls `PathSGD.step`. It first runs Lightning's closure, which is all of 3 to 7:
 3. `_SeededPathModule.training_step` asks `PathSampler.path` for the step's path
 4. and through `activate` makes NNI's layers run only its candidates; then
 5. `TrainingTask.training_step` seeds torch by the step and returns the sum of the job's losses.
 6. Only now are the gradients of the last update cleared, by `PathSGD.zero_grad`.
 7. `LightningModule.backward` computes the path's; hooks tell the optimiser which parameters it reached.
 8. The closure has ended: `LightningModule.clip_gradients` (`max_grad_norm`), then torch's `SGD.step`.
 9. `global_step` counts one more; `LRScheduler.step` sets the next step's learning rate.
10. `Progress.on_train_batch_end`, `WeightAverage.on_train_batch_end`, `Checkpoints.on_train_batch_end`.

Where several steps make one update (fair sampling), all but the last leave out 2 and 8, and all but the first
leave out 6. For a single net, 1 is Lightning's own method, the optimiser is torch's, and there are no 3 and
4.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import RawFormatModelSpace, model_context
from nni.nas.strategy.base import Strategy
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from detnas_nni.architecture import Architecture
from detnas_nni.config import Hardware
from detnas_nni.config.run_folder import TENSORBOARD
from detnas_nni.errors import ConfigError, EvaluationError
from detnas_nni.models.hardware import prepare, uses_gpu
from detnas_nni.training.distributed import World, barrier
from detnas_nni.training.jobs import Job
from detnas_nni.training.progress import CheckpointFile, Checkpoints, Progress, WeightAverage
from detnas_nni.training.runs import TrainingRun
from detnas_nni.training.tensors import load_tensors
from detnas_nni.training.weights import CLASSIFIER, WeightsInfo, save_weights
from detnas_nni.util.seeding import derive_seed

_log = logging.getLogger(__name__)

# Tips, devices and the like; Lightning sets its own level when it is imported, so this comes after.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Paths(Protocol):
    """What the training of a supernet needs besides a job: the path of each step, and the strategy that takes
    it.

    Attributes:
        optimizer: updates the weights.
        passes: steps whose gradients are summed into one update of the weights.
    """

    optimizer: type[SGD]
    passes: int

    def path(self, step: int) -> Architecture:
        """The path of a global step."""

    def one_shot(self) -> Strategy:
        """NNI's strategy, which has the trained net as `supernet` at the end."""


def train(
    job: Job,
    run: TrainingRun,
    world: World,
    *,
    net: Paths | Architecture,
    start_from: Callable[[ModelSpace], None] | None = None,
    fresh: bool = False,
) -> None:
    """Train a supernet or a single net, and save its weights as `run.result`.

    An interrupted training resumes from its last checkpoint, on any number of processes.

    Args:
        job: data, losses and optimiser.
        run: the folder for weights, checkpoints, logs and TensorBoard's events.
        world: the processes, which have joined.
        net: the paths of a supernet, such as a `PathSampler`, or the architecture of a single net.
        start_from: sets the weights that the net starts with; without it they are drawn from the seed.
        fresh: discard what the folder holds.
    """
    config = job.config
    paths, architecture = (None, net) if isinstance(net, Architecture) else (net, None)
    devices = _devices(config.hardware, world, supernet=architecture is None)
    world.share(job.settings.batch_size, "batch_size")  # refused here, before a file is touched
    torch.manual_seed(derive_seed(config.seed, "initial weights"))
    with nullcontext() if architecture is None else model_context(architecture.choices):
        model = job.build()
    if uses_gpu(config.hardware):  # where this saves convolutions a tenth of the time (docs/performance.md)
        model.to(memory_format=torch.channels_last)
    if start_from is not None:
        start_from(model)
    with run.claimed(fresh, world):
        if run.is_finished():  # by the process that held the folder until now
            return
        if world.is_main:
            _log.info(
                "%s: %d images of %d classes, %d steps of %d on %d %s",
                *(run.folder.name, job.images, len(job.classes), job.settings.steps, job.settings.batch_size),
                *(world.size, "process" if world.size == 1 else "processes"),
            )
        state = _fit(model, job, run, world, paths, devices)
        if world.is_main:
            save_weights(run.result, _info(job, run, architecture), state)
            run.checkpoints.clear()  # not needed once the result is on disk
            _log.info("%s: the weights are in %s", run.folder.name, run.result)
        barrier()


class TrainingTask(LightningModule):
    """One training step: of a supernet, on the path that the strategy has activated."""

    def __init__(self, job: Job, paths: Paths | None, world: World) -> None:
        super().__init__()
        self._job = job
        self._paths = paths
        # Rank 0 draws the same as a training on one device.
        self._stream = ("step",) if world.is_main else ("step", f"rank {world.rank}")

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        step = self.trainer.global_step
        # Dropout and torchvision's sampling of proposals draw from torch's global generator: seeded by the
        # step, they need no saved state to resume.
        _seed_torch(derive_seed(self._job.config.seed, *self._stream, step))
        losses = self._job.losses(self.model, batch)
        total = sum(losses.values())
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
            path = f", on the path {self._paths.path(step)}" if self._paths else ""
            raise EvaluationError(
                f"the loss is not finite at step {step} ({values}){path}; lower lr, or set max_grad_norm"
            )
        return {"loss": total, "losses": {name: value.detach() for name, value in losses.items()}}

    def configure_optimizers(self) -> dict[str, Any]:
        settings = self._job.settings
        sgd = SGD if self._paths is None else self._paths.optimizer
        optimizer = sgd(self._job.parameter_groups(self.model), lr=settings.lr, momentum=settings.momentum)
        scheduler = LambdaLR(optimizer, self._job.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _fit(
    model: ModelSpace,
    job: Job,
    run: TrainingRun,
    world: World,
    paths: Paths | None,
    devices: dict[str, Any],
) -> dict[str, Tensor]:
    """Train the model in place; returns its state dict, on the CPU, with the names of the unmutated space."""
    start, settings = 0, job.settings
    passes = 1 if paths is None else paths.passes
    averaged = paths is not None and settings.average_last is not None
    average = [WeightAverage(settings.steps, settings.average_last)] if averaged else []
    checkpoint = run.checkpoints.newest(logging.WARNING if world.is_main else logging.DEBUG)
    if checkpoint is not None:
        start = int(load_tensors(checkpoint)["global_step"])
        _log.info("resuming at step %d of %d from %s", start, settings.steps, checkpoint)
    with warnings.catch_warnings(), _keyboard_interrupt():
        _ignore_known_warnings()
        trainer = Trainer(
            max_steps=settings.steps,
            **devices,
            gradient_clip_val=settings.max_grad_norm,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the loader knows this process's share
            log_every_n_steps=1,  # `Progress` decides when
            enable_checkpointing=False,
            plugins=[CheckpointFile()],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=TensorBoardLogger(run.folder, name=None, version=TENSORBOARD),
            callbacks=[
                Progress(settings.steps, settings.log_every, run.folder.name),
                *average,
                Checkpoints(run.checkpoints, settings.checkpoint_every, settings.keep_checkpoints, passes),
            ],
        )
        evaluator = Lightning(
            TrainingTask(job, paths, world),
            trainer,
            train_dataloaders=job.loader(start, world),
            val_dataloaders=[],  # NNI requires some; a supernet is measured path by path, by `evaluate`
            fit_kwargs={"ckpt_path": str(checkpoint), "weights_only": True} if checkpoint else {},
        )
        if paths is None:
            evaluator.evaluate(model)
            trained = model
        else:
            strategy = paths.one_shot()
            strategy(RawFormatModelSpace(model, evaluator), SequentialExecutionEngine())
            trained = strategy.supernet
    for mean in average:
        mean.put_into(trained)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in trained.state_dict().items()}


def _seed_torch(seed: int) -> None:
    """`torch.manual_seed`, without the traceback that it spends a millisecond recording for an unused GPU."""
    if torch.cuda.is_initialized():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _devices(hardware: Hardware, world: World, supernet: bool) -> dict[str, Any]:
    """Lightning's arguments for where and how a training computes; ConfigError if that is impossible."""
    on_gpu = prepare(hardware).type == "cuda"
    if hardware.precision == "fp16" and not on_gpu:  # Lightning would take bf16 in its place
        raise ConfigError("hardware.precision is fp16, which needs a GPU; use bf16 or fp32")
    where = {
        "accelerator": "gpu" if on_gpu else "cpu",
        "precision": _LIGHTNING_PRECISION[hardware.precision],
    }
    if world.size == 1:
        return {**where, "devices": 1}
    synchronised = on_gpu and hardware.sync_batchnorm
    return {
        **where,
        "devices": world.local_size,
        "num_nodes": world.size // world.local_size,
        "sync_batchnorm": synchronised,
        "strategy": DDPStrategy(
            # A candidate that is not on the path gives no gradient, so DDP must not wait for one.
            find_unused_parameters=supernet,
            # Synchronised statistics agree anyway; others are those of rank 0.
            broadcast_buffers=not synchronised,
        ),
    }


def _info(job: Job, run: TrainingRun, architecture: Architecture | None) -> WeightsInfo:
    return WeightsInfo(
        kind=job.kind,
        space=job.config.space.name,
        options=job.config.space.options,
        classes=job.classes,
        steps=job.settings.steps,
        seed=job.config.seed,
        fingerprint=run.fingerprint,
        trunk_prefix=job.trunk_prefix,
        ops=None if architecture is None else architecture.ops,
        detector=None if job.kind == CLASSIFIER else job.config.detector.model_dump(mode="json"),
        start=run.start,
        set_apart=job.set_apart,
    )


@contextmanager
def _keyboard_interrupt() -> Iterator[None]:
    """Ctrl-C as in plain Python: Lightning turns it into `sys.exit(1)`."""
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from None


def _ignore_known_warnings() -> None:
    """Ignore exactly these: NNI's and Lightning's remarks on what this file does on purpose."""
    for message in (
        ".*is found to be not a nn.Module.*",
        ".*please try to wrap PyTorch DataLoader with nni.trace.*",
        ".*does not have many workers.*",
        ".*You passed in a `val_dataloader` but have no `validation_step`.*",
        ".*GPU available but not used.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*Trying to infer the `batch_size`.*",
        # The dataloader ends where the training ends: there is no epoch to restart in the middle.
        ".*You're resuming from a checkpoint that ended before the epoch ended.*",
        ".*The `srun` command is available.*",
        # Only the last pass of an update has an optimiser step; the schedule counts all passes.
        ".*Detected call of `lr_scheduler.step.*",
        # Its replacement does not exist in torch 2.11.
        ".*`broadcast_buffers` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)
