"""Batches for training and evaluation: which images each step sees, and the loaders that deliver them."""

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from detnas_nni.data.datasets import (
    ClassificationDataset,
    DetectionDataset,
    EvaluationDataset,
    ImageDataset,
    Sample,
)
from detnas_nni.errors import DataError
from detnas_nni.util.interrupts import interrupts_wait
from detnas_nni.util.seeding import derive_seed

__all__ = [
    "ClassificationDataset",
    "DetectionDataset",
    "EvaluationDataset",
    "ForkedLoader",
    "ImageLoader",
    "TrainBatches",
    "classification_collate",
    "detection_collate",
    "eval_loader",
    "train_loader",
]

Collate = Callable[[Sequence[Sample | DataError | None]], Any]


class TrainBatches(Sampler[list[tuple[int, int]]]):
    """Batches for a training counted in steps, as a pure function of seed and step.

    The data set is traversed in one permutation after another, each from its own generator, seeded by
    (seed, epoch). Batches continue across the end of a permutation, so none is short, whatever the sizes.
    Since step k depends on nothing before it, a training resumes at k without stored state.

    An item is (index, position): the position in the whole training, over all ranks, from which the data set
    seeds the item's augmentation.

    Args:
        size: images in the data set.
        batch_size: images per step on one rank.
        steps: steps of the whole training; also the length, if it starts later: Lightning counts batches from
            the start of the training when it resumes.
        seed: the config's seed.
        start_step: the first step; there are `steps - start_step` batches.
        rank, world_size: this process's place; ranks take disjoint slices of the global batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        steps: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if size < 1 or batch_size < 1 or steps < 0 or not 0 <= start_step <= steps:
            raise ValueError(
                f"no batches of {batch_size} out of {size} images from step {start_step} to {steps}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in 0..{world_size - 1}")
        self.size = size
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.start_step = start_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, []
        for step in range(self.start_step, self.steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = self._permutation(epoch)
                batch.append((int(order[position % self.size]), position))
            yield batch

    def _permutation(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        return torch.randperm(self.size, generator=generator)


def detection_collate(
    items: Sequence[Sample | DataError | None],
) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]] | DataError | None:
    """B items → B images (3, H, W) of their own sizes and B targets, as torchvision's detectors take them.

    Bad images (None) are left out; None if none is left. An error is passed on for `ImageLoader` to raise.
    """
    samples = _usable(items)
    if not isinstance(samples, list):
        return samples
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def classification_collate(
    items: Sequence[Sample | DataError | None],
) -> tuple[torch.Tensor, torch.Tensor] | DataError | None:
    """B items → images (B, 3, S, S) float32 and labels (B,) int64; bad images and errors as above."""
    samples = _usable(items)
    if not isinstance(samples, list):
        return samples
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels)


def _usable(items: Sequence[Sample | DataError | None]) -> list[Sample] | DataError | None:
    for item in items:
        if isinstance(item, DataError):
            return item
    return [item for item in items if item is not None] or None


class ForkedLoader(DataLoader):
    """A `DataLoader` that loses no interrupt while it forks its workers."""

    def __iter__(self) -> Iterator[Any]:
        with interrupts_wait():
            return super().__iter__()


class ImageLoader(ForkedLoader):
    """A `DataLoader` that raises its workers' errors unchanged and skips batches without an image.

    torch wraps a worker's exception into one whose message is a traceback; the user should see the message.
    """

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                self._stop_workers()
                raise batch
            if batch is not None:
                yield batch

    def _stop_workers(self) -> None:
        """End the worker processes now, as Lightning does when it takes a loader down.

        Left to the garbage collector they outlive the error, and delay the exit until a timeout.
        """
        if self._iterator is not None and self.num_workers > 0:
            self._iterator._shutdown_workers()
            self._iterator = None


def train_loader(
    dataset: ImageDataset,
    batches: TrainBatches,
    workers: int,
    collate: Collate | None = None,
    *,
    outlive_sigterm: bool = False,
) -> ImageLoader:
    """The batches that `batches` names, in order, from `workers` processes (0: in this one).

    Args:
        dataset: the images, with the training's transform.
        batches: which images, step by step.
        workers: loader processes; they change only the speed, no value.
        collate: `detection_collate` or `classification_collate`; the one that fits `dataset` if None.
        outlive_sigterm: whether workers ignore SIGTERM. A cluster sends it to every process, and a training
            that saves itself must not lose its workers first.
    """
    return ImageLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate or _collate_of(dataset),
        worker_init_fn=_ignore_sigterm if outlive_sigterm else None,
        **_settings(workers),
    )


def eval_loader(
    dataset: ImageDataset, batch_size: int, workers: int, collate: Collate | None = None
) -> ImageLoader:
    """Every image once, in order. A batch may be short, or missing, where images are bad."""
    return ImageLoader(
        dataset, batch_size=batch_size, collate_fn=collate or _collate_of(dataset), **_settings(workers)
    )


def _ignore_sigterm(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _collate_of(dataset: ImageDataset) -> Collate:
    return detection_collate if isinstance(dataset, DetectionDataset) else classification_collate


def _settings(workers: int) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
        # A loader draws a base seed when iterated; from the global stream it would shift the training's own.
        "generator": torch.Generator(),
    }
