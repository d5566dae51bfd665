"""What follows from the data and the machine, before the available time is known.

Numbers marked [R] are the authors' (megvii-model/DetNAS), those marked [P] the paper's.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from detnas_nni.architecture import Ops
from detnas_nni.errors import ConfigError
from detnas_nni.init.look import Look
from detnas_nni.init.narrowing import narrowed, published_macs
from detnas_nni.init.pretraining import Pretraining
from detnas_nni.init.sizes import InputSize, SizeLimits, input_size, resize_scales


@dataclass(frozen=True)
class Machine:
    """Attributes:
    cores: CPU cores that this process may use.
    gpus: their number, 0 for a CPU.
    gpu_name: of the first GPU.
    gpu_memory: GB, of the smallest GPU.
    """

    cores: int
    gpus: int = 0
    gpu_name: str = ""
    gpu_memory: float = 0.0

    @classmethod
    def here(cls, device: str = "auto") -> Machine:
        """This machine. ConfigError if a GPU is asked for and there is none."""
        import torch  # takes seconds

        cores = len(os.sched_getaffinity(0))
        count = 0 if device == "cpu" else torch.cuda.device_count()
        if device == "cuda" and not count:
            raise ConfigError("--device cuda, but torch finds no GPU; use auto or cpu")
        if not count:
            return cls(cores)
        gpus = [torch.cuda.get_device_properties(number) for number in range(count)]
        return cls(cores, count, gpus[0].name, min(gpu.total_memory for gpu in gpus) / 1e9)

    def __str__(self) -> str:
        cores = f"{self.cores} CPU core{'s' if self.cores != 1 else ''}"
        if not self.gpus:
            return f"{cores}, no GPU"
        return f"{self.gpus} x {self.gpu_name} ({self.gpu_memory:.0f} GB), {cores}"


_MOST_GENERATIONS = 20  # [P]
_LEAST_STEPS = 100
"""Of a training that is of any use."""


@dataclass(frozen=True)
class Schedule:
    """Attributes:
    pretrain: steps; 0 if there is none.
    finetune: steps of the supernet in the detector.
    retrain: steps of the final net's detector.
    evaluations: candidates.
    calibration: images for a candidate's BN statistics.
    least: the smallest useful schedule; None if this is it.
    """

    pretrain: int
    finetune: int
    retrain: int
    evaluations: int
    calibration: int
    least: Schedule | None = None

    def cut(self, share: float) -> Schedule:
        """The schedule cut to a share in 0..1, but not below the least.

        The detector's trainings are cut only by the root of the share: if the supernet detects nothing, the
        other steps are in vain.
        """
        least = self.least or self

        def part(name: str, share: float) -> int:
            return max(round(getattr(self, name) * share), min(getattr(least, name), getattr(self, name)))

        others = {name: part(name, share) for name in ("pretrain", "evaluations", "calibration")}
        detectors = {name: part(name, math.sqrt(share)) for name in ("finetune", "retrain")}
        return replace(self, **others, **detectors)

    @property
    def generations(self) -> int:
        """In the proportion of the paper's 50 × 20 and of the quickstart's 8 × 4."""
        return max(2, min(_MOST_GENERATIONS, round(math.sqrt(0.4 * self.evaluations))))

    @property
    def population(self) -> int:
        return max(4, self.evaluations // self.generations)


_FEW_IMAGES = 150
"""To train on: with 98 and fewer, frozen first stages were ahead in each pair, with 291 they were not
(docs/own-data.md)."""
FROZEN_STAGES = 2
"""Of the published net, where they are frozen."""

_MOST_CALIBRATION = {"tiny": 576, "lite0": 576}  # experiments/quickstart; else 4,000 [R]

# GPU memory in GB that an image of 800x1333 pixels takes in training: two thirds of what ResNet-50 FPN is
# known to need, whose trunk is wider. A guess on the safe side, which `--fast-dev-run` tests.
_GB_AN_IMAGE = 4.0
_MOST_IMAGES_A_GPU = 16

_CPU = SizeLimits(least=96, most=320, box=16, as_they_are=False)
_GPU = SizeLimits(least=256, most=800, box=24, as_they_are=True)


@dataclass(frozen=True)
class Derived:
    """Everything that follows from data and machine, before the schedules.

    Attributes:
        found: the data.
        machine: what it runs on.
        pretraining: where the trunk starts.
        seed: the experiment's.
        search: whether there is one; if not, only the published net of the space is trained.
        share: of the published net's MACs, to which it is narrowed on a CPU, and within which it is searched.
    """

    found: Look
    machine: Machine
    pretraining: Pretraining
    seed: int = 0
    search: bool = True
    share: float = 0.75

    @property
    def narrows(self) -> bool:
        """Whether the published net is narrowed, and searched near, rather than in the whole space.

        So it is in minutes on a CPU: a narrower net trains faster. In 8 of them it was ahead on cells under a
        microscope and behind on photographs of animals (docs/own-data.md). With GPUs nothing was measured.
        """
        return self.pretraining.kind == "imagenet" and not self.machine.gpus

    @property
    def searches_near(self) -> bool:
        """Whether there is a search, and near the narrowed net."""
        return self.search and self.narrows

    @property
    def narrow_macs(self) -> int:
        """The limit to which the published net is narrowed, and within which a search stays near it."""
        return int(self.share * published_macs(self.space))

    @cached_property
    def near(self) -> Ops:
        """The narrowed net."""
        return narrowed(self.space, self.narrow_macs)

    @property
    def frozen_stages(self) -> int:
        """First stages of the published net that stay as they start, with its stem, where images are few.

        Not of a narrowed one, which was no better with what its first blocks have left. With GPUs it was not
        measured.
        """
        return FROZEN_STAGES if self.narrows and len(self.found.train) < _FEW_IMAGES else 0

    @cached_property
    def space(self) -> str:
        if self.pretraining.space is not None:
            return self.pretraining.space
        if not self.machine.gpus:
            return "tiny"
        return "large" if len(self.found.train) >= 50_000 and self.machine.gpus >= 4 else "small"

    @property
    def is_small_net(self) -> bool:
        """Whether the detector around the trunk is narrow, for a CPU."""
        return self.space == "tiny" or (self.pretraining.kind == "imagenet" and not self.machine.gpus)

    @cached_property
    def input(self) -> InputSize:
        found, limits = self.found, _GPU if self.machine.gpus else _CPU
        return input_size(found.image_sizes, found.box_sizes, found.image_size_per_box, limits)

    @cached_property
    def resized_sides(self) -> np.ndarray:
        """(B,) √area of the training boxes after resizing, in pixels."""
        scales = resize_scales(self.found.image_size_per_box, self.input.min_size, self.input.max_size)
        return np.sqrt(self.found.box_sizes.prod(axis=1)) * scales

    @property
    def holdout(self) -> int:
        """Training images held out to guide the search; 0 if there is a search split."""
        if "search" in self.found.splits:
            return 0
        return self.found.share_held_out

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
        )  # a small set needs more steps rather than large batches
        return self.devices * max(1, min(fit, few, _MOST_IMAGES_A_GPU))

    @cached_property
    def pretrain_batch(self) -> int:
        wanted = 256 if self.machine.gpus else 32
        return self.devices * max(2, min(wanted, self.pretraining.images // 20 // self.devices))

    @property
    def classification_side(self) -> int:
        """Side of a pre-training's images, pixels; from 64 on the last stage has more than one cell."""
        if self.pretraining.kind == "folder":
            return 224 if self.machine.gpus else 96
        most = 224 if self.machine.gpus else 64
        return int(np.clip(round(1.3 * self.pretraining.side / 32) * 32, 64, most))

    @property
    def enough_steps(self) -> int:
        """Steps of the final net's training that even a small set gets, unless the time is short."""
        if not self.is_small_net:
            return 4000
        return 300 if self.pretraining.kind == "imagenet" else 800

    def schedule(self) -> Schedule:
        """The schedule without a time limit, with the smallest useful one in `least`."""
        small, scratch = self.is_small_net, self.pretraining.kind == "none"
        epochs = 24 if scratch else 12
        trained = self.pretraining.kind == "imagenet"  # its candidates are, before the supernet's first step
        both = 2 * max(
            round(epochs * self.train_images / self.finetune_batch), self.enough_steps * (1 + scratch)
        )
        finetune = both // (4 if trained else 2)
        if self.narrows:  # its few steps are missed more by the final net than by the supernet
            finetune = max(_LEAST_STEPS, both // 8)
        retrain = both - finetune
        if not self.search:
            finetune = retrain = both
        pretrain = 0
        if self.pretraining.trains:
            epochs = 10 if self.pretraining.kind == "crops" else 30
            steps = round(epochs * self.pretraining.images / self.pretrain_batch)
            pretrain = min(max(steps, 700 if small else 4000), 300_000)
        calibration = min(_MOST_CALIBRATION.get(self.space, 4000), self.train_images)
        evaluations = 1000 if self.machine.gpus else 96
        if trained and not self.machine.gpus:  # minutes of a search are missed by the final net
            calibration, evaluations = min(96, calibration), 24
        least = Schedule(
            pretrain=min(pretrain, _LEAST_STEPS),
            finetune=_LEAST_STEPS,
            retrain=_LEAST_STEPS,
            evaluations=8,
            calibration=min(96, calibration),
        )
        return Schedule(pretrain, finetune, retrain, evaluations, calibration, least)
