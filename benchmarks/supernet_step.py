"""What a step of supernet training costs: ours next to a hand-written loop over the same paths and batches.

    python benchmarks/supernet_step.py

takes ten minutes on a busy machine and prints one JSON object:
- `pretrain` and `finetune`: seconds per step of our training (Lightning under NNI's one-shot strategy; paths
  drawn in bins of MACs for pre-training, logging on) and of the hand-written loop, and where the time goes;
- `candidates`: how a step grows with 2, 4 and 8 candidates per block, if all paths cost the same;
- `path_microseconds`: of drawing a path, with and without the bins.

Trainings are separate processes that take turns of two steps; a ratio is of turns in the same round: lower
quartile, median, upper quartile. Seconds are CPU time. Batches are in memory, and delivering them counts for
neither. The hand-written loop is plain torch: SGD over the same parameter groups, a schedule by step, the
loss of every 50th step. It is seeded like ours, off the clock, so that both must reach identical weights:
`same_weights`.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loops.optimization.automatic import Closure
from taking_turns import Pace, Turns, race
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from detnas_nni.config import Config, Data, Detector, Finetune, Hardware, Pretrain, Space
from detnas_nni.cost.table import cost_table
from detnas_nni.supernet import paths
from detnas_nni.supernet.paths import PathSampler, PathSGD
from detnas_nni.training import loop
from detnas_nni.training.distributed import World
from detnas_nni.training.jobs import ClassificationJob, DetectionJob, Job
from detnas_nni.training.progress import Checkpoints, Progress
from detnas_nni.training.runs import TrainingRun
from detnas_nni.util.seeding import derive_seed
from search_spaces.trunk import layer_choices

_CLASSES = 100
_BATCHES = 8
_LOG_EVERY = 50
# The experiments' bins in the small space, classifier convention at 224 pixels and 1000 classes.
_BINS = tuple((low * 10**6, (low + 10) * 10**6) for low in range(290, 360, 10))
# The quickstart's narrow detector: it gives the overhead of a step more weight.
_DETECTOR = {
    "fpn_channels": 48,
    "anchor_sizes": (12, 20, 32, 48, 72),
    "rpn_proposals_train": 200,
    "box_samples": 32,
    "box_head_convs": 1,
    "box_head_channels": 48,
    "box_head_width": 96,
}
_PARTS = (
    ("path", PathSampler, "path"),
    ("activation", paths, "activate"),
    ("seeding", loop, "derive_seed"),
    ("seeding", torch, "manual_seed"),
    ("forward", ClassificationJob, "losses"),
    ("forward", DetectionJob, "losses"),
    ("finite", torch, "isfinite"),
    ("backward", Tensor, "backward"),
    ("zero_grad", SGD, "zero_grad"),
    ("zero_grad", PathSGD, "zero_grad"),
    ("optimiser", SGD, "step"),
    ("optimiser", PathSGD, "step"),
    ("hooks", Closure, "__call__"),
    ("schedule", LambdaLR, "step"),
    ("logging", Progress, "on_train_batch_end"),
    ("checkpoints", Checkpoints, "on_train_batch_end"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--image-size", type=int, default=64, metavar="PIXELS", help="of the classifier")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="of the classifier")
    parser.add_argument("--detector-size", type=int, default=128, metavar="PIXELS")
    parser.add_argument("--detector-batch-size", type=int, default=2, metavar="N")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=60, metavar="N")
    parser.add_argument("--steps", type=int, default=2, metavar="N", help="of each training in a round")
    parser.add_argument("--warm-up", type=int, default=20, metavar="ROUNDS", help="that do not count")
    parser.add_argument("--only", nargs="+", choices=("pretrain", "finetune", "candidates", "paths"))
    options = parser.parse_args()
    figures = {
        "pretrain": partial(beside_by_hand, "pretrain", options),
        "finetune": partial(beside_by_hand, "finetune", options),
        "candidates": partial(growth, options),
        "paths": path_microseconds,
    }
    chosen = {name: figure() for name, figure in figures.items() if name in (options.only or figures)}
    print(json.dumps({"options": vars(options), **chosen}, indent=2))


def beside_by_hand(step: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both trainings, and once more with a clock at each of their parts."""
    trainings = {training.__name__: partial(training, step, options) for training in (ours, by_hand)}
    batches, pace = _batches(step, options), _pace(options)
    courses, clocked = race(trainings, batches, pace), race(trainings, batches, pace, _PARTS)
    own, other = courses["ours"], courses["by_hand"]
    return {
        "seconds": {name: course.seconds for name, course in courses.items()},
        "ratio": own.ratio(other),
        "ratio_by_the_wall_clock": own.ratio(other, "wall"),
        "same_weights": own.weights == other.weights,
        "microseconds_by_part": {name: course.microseconds for name, course in clocked.items()},
    }


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """A step of pre-training with more and more candidates per block, all alike."""
    figures = {}
    for training in (ours, by_hand):
        trainings = {
            number: partial(training, "pretrain", options, space=f"alike:of_{number}") for number in (2, 4, 8)
        }
        courses = race(trainings, _batches("pretrain", options), _pace(options), _PARTS)
        figures[training.__name__] = {
            f"of_{number}": {
                "seconds": course.seconds,
                "ratio_to_2": course.ratio(courses[2]),
                "microseconds_by_part": course.microseconds,
            }
            for number, course in courses.items()
        }
    return figures


def path_microseconds() -> dict[str, float]:
    """Microseconds to draw a path of the small space, averaged over many."""
    samplers = {"uniform": PathSampler("small", 0), "in_bins": _sampler("pretrain", "small")}
    repeats: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(9):
        for name, sampler in samplers.items():
            started = time.process_time()
            for step in range(500):
                sampler.path(step)
            repeats[name].append((time.process_time() - started) / 500 * 1e6)
    return {name: round(statistics.median(seconds), 1) for name, seconds in repeats.items()}


def ours(step: str, options: argparse.Namespace, turns: Turns, space: str = "small") -> dict[str, Tensor]:
    """Our training; returns the weights."""
    logging.basicConfig(level=logging.INFO, filename="/dev/null")
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(Path(folder), "benchmark")
        loop.train(_job(step, options, turns, space), run, World(), net=_sampler(step, space))
        return torch.load(run.result, weights_only=True)["state"]


def by_hand(step: str, options: argparse.Namespace, turns: Turns, space: str = "small") -> dict[str, Tensor]:
    """What an engineer would write; returns the weights."""
    job, sampler = _job(step, options, turns, space), _sampler(step, space)
    seed, settings = job.config.seed, job.settings
    drawn = [sampler.path(number).choices for number in range(len(turns))]
    torch.set_num_threads(1)
    torch.manual_seed(derive_seed(seed, "initial weights"))
    model = job.build()
    blocks = {}
    for name, choice in layer_choices(model, space).items():
        blocks[choice.label] = OneOf((str(candidate), choice[candidate]) for candidate in choice.names)
        model.set_submodule(name, blocks[choice.label])
    optimizer = SGD(job.parameter_groups(model), lr=settings.lr, momentum=settings.momentum)
    scheduler = LambdaLR(optimizer, job.lr_factor)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16")
    log = logging.getLogger("by hand")
    model.train()
    turns.off_the_clock = lambda number: torch.manual_seed(derive_seed(seed, "step", number))

    for number, batch in enumerate(turns):
        for label, candidate in drawn[number].items():
            blocks[label].drawn = str(candidate)
        with autocast:
            loss = sum(job.losses(model, batch).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if (number + 1) % _LOG_EVERY == 0:
            log.info("step %d  loss %.3f", number + 1, loss.item())
    return model.state_dict()


class OneOf(nn.ModuleDict):
    """A block's candidates, of which the drawn one runs."""

    drawn: str

    def forward(self, x: Tensor) -> Tensor:
        """The candidate's."""
        return self[self.drawn](x)


class InMemory(Job):
    """A job whose data is batches in memory, such as the turns'."""

    number_of_classes = _CLASSES

    def __init__(self, config: Config, settings: Any, turns: Iterable[Any]) -> None:
        Job.__init__(self, config, settings, [])
        self.kind = config.detector.name if isinstance(self, DetectionJob) else ClassificationJob.kind
        self.classes = tuple(map(str, range(self.number_of_classes)))
        self._turns = turns

    def loader(self, start: int, world: World) -> Any:
        return self._turns


class _Classification(InMemory, ClassificationJob): ...


class _Detection(InMemory, DetectionJob): ...


def _job(step: str, options: argparse.Namespace, turns: Turns, space: str) -> Job:
    often = {"steps": len(turns), "log_every": _LOG_EVERY, "checkpoint_every": 10**9}
    size = options.detector_size
    config = Config(
        run_dir=Path(),  # `TrainingRun` has it
        space=Space(name=space),
        data=Data(),
        detector=Detector(min_size=size, max_size=size, **_DETECTOR),
        pretrain=Pretrain(batch_size=options.batch_size, lr=0.05, **often),
        finetune=Finetune(batch_size=options.detector_batch_size, lr=0.002, init="scratch", **often),
        hardware=Hardware(device="cpu", threads=1, precision=options.precision),
    )
    if step == "pretrain":
        return _Classification(config, config.pretrain, turns)
    return _Detection(config, config.finetune, turns)


def _sampler(step: str, space: str) -> PathSampler:
    if step == "finetune" or space != "small":
        return PathSampler(space, seed=0)
    table = cost_table(space)
    zeros = [0] * len(table.blocks)
    head = table.classifier_cost(zeros).macs - table.cost(zeros).macs
    return PathSampler(space, seed=0, bins=_BINS, macs=lambda ops: table.costs(ops)[:, 0] + head)


def _pace(options: argparse.Namespace) -> Pace:
    return Pace(options.rounds, options.steps, options.warm_up)


def _batches(step: str, options: argparse.Namespace) -> list[Any]:
    random = torch.Generator().manual_seed(0)
    return [
        _images_with_labels(options.batch_size, options.image_size, random)
        if step == "pretrain"
        else _images_with_boxes(options.detector_batch_size, options.detector_size, random)
        for _ in range(_BATCHES)
    ]


def _images_with_labels(count: int, size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 3, size, size, generator=random)
    return images, torch.randint(_CLASSES, (count,), generator=random)


def _images_with_boxes(
    count: int, size: int, random: torch.Generator
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images, targets = [], []
    for _ in range(count):
        corners = torch.rand(5, 2, generator=random) * size / 2
        sides = size / 10 + torch.rand(5, 2, generator=random) * size / 3
        labels = torch.randint(1, _CLASSES + 1, (5,), generator=random)
        images.append(255 * torch.rand(3, size, size, generator=random))
        targets.append({"boxes": torch.cat((corners, corners + sides), dim=1), "labels": labels})
    return images, targets


if __name__ == "__main__":
    main()
