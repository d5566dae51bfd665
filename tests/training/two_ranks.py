"""What one process of a training sees and comes to, step by step.

    torchrun --nproc-per-node 2 -m tests.training.two_ranks FOLDER pretrain=CONFIG finetune=CONFIG …

trains one after the other. Each process writes FOLDER/NAME-RANK.pt. The main one copies the run's folder, as
it is after `INTERRUPTED` steps, to RUN_DIR-interrupted: what a training would leave that is killed there.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.finished.retrain import retrain
from detnas_nni.supernet.steps import finetune, pretrain
from detnas_nni.training.distributed import world
from detnas_nni.training.jobs import Job
from detnas_nni.training.loop import TrainingTask

INTERRUPTED = 3


@dataclass
class Record:
    """One training in one process. What is listed is listed by step."""

    steps: list[int] = field(default_factory=list)
    images: list[list[Tensor]] = field(default_factory=list)
    ran: list[set[str]] = field(default_factory=list)
    """names of the modules in the forward pass"""
    gradients: list[set[str]] = field(default_factory=list)
    """names of the parameters that have one when the step is over"""
    parameters: list[dict[str, Tensor]] = field(default_factory=list)
    """before each step, and at the end"""
    momentum: list[dict[str, Tensor]] = field(default_factory=list)
    """as `parameters`"""
    state: dict[str, Tensor] = field(default_factory=dict)
    """what the net has come to"""


@contextmanager
def recording(before_step: Callable[[int], None] = lambda step: None) -> Iterator[Record]:
    """A record of the training that runs meanwhile."""
    record = Record()
    train_step = TrainingTask.training_step
    task: TrainingTask | None = None
    ran: set[nn.Module] = set()

    def take_stock() -> None:
        model = task.model
        names = {parameter: name for name, parameter in model.named_parameters()}
        record.parameters.append({name: parameter.detach().clone() for parameter, name in names.items()})
        record.momentum.append(
            {
                names[parameter]: values["momentum_buffer"].clone()
                for parameter, values in optimizer.state.items()
                if values
            }
        )
        if record.steps:
            record.gradients.append({name for parameter, name in names.items() if parameter.grad is not None})

    def recorded(self: TrainingTask, batch: Any, batch_idx: int) -> dict[str, Any]:
        nonlocal task, optimizer
        task, optimizer = self, self.trainer.optimizers[0]
        take_stock()
        before_step(self.trainer.global_step)
        ran.clear()
        output = train_step(self, batch, batch_idx)
        record.steps.append(self.trainer.global_step)
        record.images.append([image.clone() for image in batch[0]])
        record.ran.append({name for name, module in self.model.named_modules() if module in ran})
        return output

    optimizer: torch.optim.Optimizer | None = None
    hook = register_module_forward_pre_hook(lambda module, _: ran.add(module))
    TrainingTask.training_step = recorded
    try:
        yield record
    finally:
        TrainingTask.training_step = train_step
        hook.remove()
    take_stock()
    record.state = {name: tensor.detach().clone() for name, tensor in task.model.state_dict().items()}


@contextmanager
def fixed_statistics() -> Iterator[None]:
    """BN normalises by its running statistics, in training too: no image then depends on its batch."""
    train, build = _BatchNorm.train, Job.build

    def built(self: Job) -> nn.Module:
        return build(self).train()

    _BatchNorm.train = lambda self, mode=True: train(self, False)
    Job.build = built
    try:
        yield
    finally:
        _BatchNorm.train, Job.build = train, build


def pretrain_with_fixed_statistics(config: Config) -> Path:
    with fixed_statistics():
        return pretrain(config)


def retrain_random(config: Config) -> Path:
    """A single net: the architecture in the run's folder."""
    return retrain(config, [config.run_dir / "random.json"])[0]


TRAININGS: dict[str, Callable[[Config], Path]] = {
    "pretrain": pretrain,
    "pretrain_with_fixed_statistics": pretrain_with_fixed_statistics,
    "fair_with_fixed_statistics": pretrain_with_fixed_statistics,
    "finetune": finetune,
    "retrain_faster_rcnn": retrain_random,
    "retrain_retinanet": retrain_random,
}


def main(folder: Path, trainings: list[str]) -> None:
    for training in trainings:
        name, _, file = training.partition("=")
        config = load_config(Path(file))

        def copy_state(step: int, run_dir: Path = config.run_dir) -> None:
            if step == INTERRUPTED and world().is_main:
                shutil.copytree(run_dir, f"{run_dir}-interrupted")

        with recording(copy_state) as record:
            TRAININGS[name](config)
        torch.save(asdict(record), folder / f"{name}-{world().rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
