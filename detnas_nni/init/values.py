"""The config's values, each with what it was derived from.

Numbers marked [R] are the authors' (megvii-model/DetNAS), those marked [P] the paper's. The tiny space's are
those of `experiments/quickstart`, which was tuned for it; the others' are the authors', scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from detnas_nni.init.look import Look
from detnas_nni.init.machine import Machine
from detnas_nni.init.pretraining import Pretraining
from detnas_nni.init.schedule import Schedule
from detnas_nni.init.sizes import (
    InputSize,
    Limits,
    anchor_ratios,
    anchor_sizes,
    input_size,
    resize_scales,
)

_HOLDOUT_SHARE, _MOST_HELD_OUT = 0.2, 5000  # [P: 5k]
_MOST_CALIBRATION = {"tiny": 576}  # experiments/quickstart; else 4,000 [R]

# What an image of 800x1333 pixels takes in training, GB of a GPU's memory: two thirds of what is known of
# ResNet-50 FPN, whose trunk is wider. A guess on the safe side, which `--fast-dev-run` tries.
_GB_AN_IMAGE = 4.0
_MOST_IMAGES_A_GPU = 16

_CPU = Limits(least=96, most=320, box=16, as_they_are=False)
_GPU = Limits(least=256, most=800, box=24, as_they_are=True)


@dataclass(frozen=True)
class Value:
    """A value of the config, and where it comes from, in words; "" if it was not derived."""

    value: object
    why: str = ""


Tree = dict[str, "Value | Tree"]
"""A section of the config: its keys with their values or sections."""


@dataclass(frozen=True)
class Derived:
    """Everything that follows from data and machine, before the schedules.

    Attributes:
        found: the data.
        machine: what it runs on.
        pretraining: where the trunk starts.
        seed: of the experiment.
    """

    found: Look
    machine: Machine
    pretraining: Pretraining
    seed: int = 0

    @cached_property
    def space(self) -> str:
        if self.pretraining.space is not None:
            return self.pretraining.space
        if not self.machine.gpus:
            return "tiny"
        return "large" if len(self.found.train) >= 50_000 and self.machine.gpus >= 4 else "small"

    @property
    def is_small_net(self) -> bool:
        return self.space == "tiny"

    @cached_property
    def input(self) -> InputSize:
        found, limits = self.found, _GPU if self.machine.gpus else _CPU
        return input_size(found.image_sizes, found.box_sizes, found.sizes_of_boxes_images, limits)

    @cached_property
    def resized_sides(self) -> np.ndarray:
        """(B,) √area of the training boxes as the net sees them, pixels."""
        scales = resize_scales(self.found.sizes_of_boxes_images, self.input.min_size, self.input.max_size)
        return np.sqrt(self.found.box_sizes.prod(axis=1)) * scales

    @cached_property
    def holdout(self) -> int:
        """Training images that guide the search; 0 where a split of its own does."""
        if "search" in self.found.splits:
            return 0
        return max(1, min(_MOST_HELD_OUT, round(_HOLDOUT_SHARE * len(self.found.train))))

    @property
    def train_images(self) -> int:
        return len(self.found.train) - self.holdout

    @property
    def search_images(self) -> int:
        return self.holdout or len(self.found.splits["search"])

    @property
    def devices(self) -> int:
        return max(1, self.machine.gpus)

    @cached_property
    def finetune_batch(self) -> int:
        if not self.machine.gpus:
            return max(1, min(8, self.train_images // 4))
        size = self.input.min_size * self.input.max_size / (800 * 1333)
        fit = int(self.machine.gpu_memory / (_GB_AN_IMAGE * size))
        few = max(
            1, self.train_images // 20 // self.devices
        )  # a small set needs steps more than large batches
        return self.devices * max(1, min(fit, few, _MOST_IMAGES_A_GPU))

    @cached_property
    def pretrain_batch(self) -> int:
        wanted = 256 if self.machine.gpus else 32
        return self.devices * max(2, min(wanted, self.pretraining.images // 20 // self.devices))

    @property
    def classification_side(self) -> int:
        """Side of a pre-training's squares, pixels; from 64 on the last stage has more than one cell."""
        if self.pretraining.kind == "folder":
            return 224 if self.machine.gpus else 96
        most = 224 if self.machine.gpus else 64
        return int(np.clip(round(1.3 * self.pretraining.side / 32) * 32, 64, most))

    def schedule(self) -> Schedule:
        """What is wanted where time is no matter, with the least that is worth its name."""
        small = self.is_small_net
        scratch = self.pretraining.kind == "none"
        epochs = 24 if scratch else 12
        finetune = max(
            round(epochs * self.train_images / self.finetune_batch), (800 if small else 4000) * (1 + scratch)
        )
        pretrain = 0
        if self.pretraining.trains:
            epochs = 10 if self.pretraining.kind == "crops" else 30
            steps = round(epochs * self.pretraining.images / self.pretrain_batch)
            pretrain = min(max(steps, 700 if small else 4000), 300_000)
        calibration = min(_MOST_CALIBRATION.get(self.space, 4000), self.train_images)
        evaluations = 1000 if self.machine.gpus else 96
        least = Schedule(
            pretrain=min(pretrain, 100), finetune=100, evaluations=8, calibration=min(96, calibration)
        )
        return Schedule(pretrain, finetune, evaluations, calibration, least)


def settings(derived: Derived, schedule: Schedule, data: Tree, run_dir: str, weights: str | None) -> Tree:
    """The whole config.

    Args:
        derived: what follows from data and machine.
        schedule: how long.
        data: the section `data`, with paths as they are to be written.
        run_dir: likewise.
        weights: the given supernet's path, likewise; None without one.
    """
    tree: Tree = {
        "run_dir": Value(run_dir),
        "seed": Value(derived.seed),
        "space": _space(derived),
        "data": data,
        "detector": _detector(derived),
    }
    if derived.pretraining.trains:
        tree["pretrain"] = _pretrain(derived, schedule)
    tree["finetune"] = _finetune(derived, schedule, weights)
    tree["evaluation"] = _evaluation(derived, schedule)
    tree["search"] = _search(schedule)
    tree["retrain"] = {
        "init": Value(
            "supernet", "quick; the paper's `classification` trains a classifier from scratch before"
        )
    }
    tree["hardware"] = _hardware(derived)
    return tree


def _space(derived: Derived) -> Tree:
    images = f"{len(derived.found.train):,} training images"
    why = f"of {derived.machine}, {images}; tiny, small, large, 3.8g"
    if derived.pretraining.kind == "supernet":
        why = "the given supernet's"
    tree: Tree = {"name": Value(derived.space, why)}
    if derived.pretraining.options:
        tree["options"] = Value(dict(derived.pretraining.options), "the given supernet's")
    return tree


def _detector(derived: Derived) -> Tree:
    found, size, sides = derived.found, derived.input, derived.resized_sides
    low, high = np.quantile(sides, (0.05, 0.95))
    affordable = "a GPU" if derived.machine.gpus else "a CPU"
    short = np.median(found.image_sizes.min(axis=1))
    tree: Tree = {
        "name": Value("faster_rcnn"),
        "min_size": Value(
            size.min_size,
            f"median shorter side {short:.0f}; 95 % of boxes then have {size.small_box:.0f} pixels or more; "
            f"within what {affordable} affords",
        ),
        "max_size": Value(size.max_size, "min_size x the images' longer over shorter side, of 95 %"),
        "anchor_sizes": Value(
            anchor_sizes(sides), f"evenly from {low:.0f} to {high:.0f}: 90 % of the resized boxes (√area)"
        ),
        "anchor_ratios": Value(anchor_ratios(found.box_sizes), "[R], unless the boxes are very long"),
    }
    if derived.is_small_net:
        most = int(np.quantile(found.boxes_an_image, 0.99))
        proposals = int(np.clip(round(4 * most / 20) * 20, 60, 400))
        tree |= {
            "fpn_channels": Value(48, "for the tiny space, as in experiments/quickstart"),
            "box_head_convs": Value(1),
            "box_head_channels": Value(48),
            "box_head_width": Value(96),
            "rpn_proposals_train": Value(2 * proposals, "twice as many as in evaluation"),
            "rpn_proposals_test": Value(proposals, f"4 x the boxes of a full image, {most} in 99 % of them"),
            "box_samples": Value(
                int(np.clip(2 * most, 32, 128)), "2 x those boxes; a quarter may be objects"
            ),
        }
    most = int(found.boxes_an_image.max())
    if most > 100:
        tree["detections_per_image"] = Value(most, "boxes of the fullest image; COCO's AP counts 100 alone")
    return tree


def _pretrain(derived: Derived, schedule: Schedule) -> Tree:
    images, batch, steps = derived.pretraining.images, derived.pretrain_batch, schedule.pretrain
    base, of = (0.1, 32) if derived.is_small_net else (0.5, 1024)
    tree: Tree = {
        "steps": Value(steps, f"{steps * batch / images:.1f} epochs of about {images:,} images"),
        "batch_size": Value(batch, _per_device(derived, batch)),
        "lr": Value(
            _rounded(base * batch / of), f"{base} for a batch of {of}, in proportion; it falls to 0 in a line"
        ),
        "warmup_steps": Value(max(1, min(500, steps // 30))),
    }
    if derived.is_small_net:
        tree["dropout"] = Value(0.0, "for a small net and a short training, as in experiments/quickstart")
        tree["color_jitter"] = Value(0.2)
    if derived.pretraining.kind == "crops":
        tree["crop_min_scale"] = Value(0.5, "crops are tight already; 0.08 is for whole photos [R]")
    return tree | _writing(steps)


def _finetune(derived: Derived, schedule: Schedule, weights: str | None) -> Tree:
    images, batch, steps = derived.train_images, derived.finetune_batch, schedule.finetune
    of = 8 if derived.is_small_net else 16
    tree: Tree = {}
    if derived.pretraining.kind == "none":
        tree["init"] = Value("scratch", "no pre-training")
    elif weights is not None:
        tree["weights"] = Value(weights, "the given supernet: its trunk is the start")
    milestones = [max(1, round(steps * 2 / 3)), max(2, round(steps * 8 / 9))]
    return (
        tree
        | {
            "steps": Value(steps, f"{steps * batch / images:.1f} epochs of {images:,} images"),
            "batch_size": Value(batch, _per_device(derived, batch)),
            "lr": Value(_rounded(0.02 * batch / of), f"0.02 for a batch of {of}, in proportion"),
            "milestones": Value(milestones, "2/3 and 8/9 of the steps [R]"),
            "warmup_steps": Value(max(1, min(500, steps // 12)), "a twelfth of the steps, at most 500 [R]"),
        }
        | _writing(steps)
    )


def _evaluation(derived: Derived, schedule: Schedule) -> Tree:
    images = schedule.calibration
    batch = max(1, min(32 if derived.is_small_net else 8, images))
    return {
        "calibration_images": Value(
            images, f"of {derived.train_images:,} training images: few let AP move with which they are"
        ),
        "calibration_batch_size": Value(batch),
        "batch_size": Value(max(1, min(20 if derived.is_small_net else 8, derived.search_images))),
    }


def _search(schedule: Schedule) -> Tree:
    population, generations = schedule.population, schedule.generations
    children = max(1, round(0.4 * population))
    return {
        "population": Value(population, f"x generations = {population * generations} candidates"),
        "generations": Value(generations),
        "parents": Value(
            max(2, round(0.2 * population)), "of the population a fifth breeds, as in the paper;"
        ),
        "mutations": Value(children, "two fifths are mutations,"),
        "crossovers": Value(children, "two fifths crossovers, the rest random [P]"),
    }


def _hardware(derived: Derived) -> Tree:
    machine = derived.machine
    if machine.gpus:
        workers = max(1, min(8, machine.cores // machine.gpus - 1))
        return {
            "device": Value("cuda"),
            "devices": Value(machine.gpus, "GPUs of this machine"),
            "workers": Value(workers, f"loader processes a GPU; {machine.cores} cores"),
        }
    return {
        "device": Value("cpu", "no GPU was found, or none was asked for"),
        "workers": Value(1 if machine.cores > 1 else 0, f"{machine.cores} cores"),
        "threads": Value(
            max(1, machine.cores // 2), "half of the cores: threads that wait for a busy one make a step slow"
        ),
    }


def _writing(steps: int) -> Tree:
    """How often a training tells and saves: ten times, and at least every 1,000 steps."""
    return {
        "log_every": Value(max(1, min(50, steps // 10))),
        "checkpoint_every": Value(max(1, min(1000, steps // 5))),
    }


def _per_device(derived: Derived, batch: int) -> str:
    if not derived.machine.gpus:
        return "for a CPU"
    return f"{batch // derived.devices} a GPU of {derived.machine.gpu_memory:.0f} GB"


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
