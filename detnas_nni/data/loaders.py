"""Batches for training and evaluation, and the loaders that bring them."""

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from detnas_nni.data.datasets import (
    ClassificationDataset,
    DetectionDataset,
    EvaluationDataset,
    ImageDataset,
    Sample,
)
from detnas_nni.data.sampling import TrainBatches
from detnas_nni.errors import DataError
from detnas_nni.util.interrupts import interrupts_wait

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


def detection_collate(
    items: Sequence[Sample | DataError | None],
) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]] | DataError | None:
    """B items → B images (3, H, W) of their own sizes and B targets, as torchvision's detectors take them.

    Bad images (None) are left out; None if none is left. An error comes through for `ImageLoader` to raise.
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
    """A `DataLoader` that loses no interrupt while it starts its workers, each by a fork."""

    def __iter__(self) -> Iterator[Any]:
        with interrupts_wait():
            return super().__iter__()


class ImageLoader(ForkedLoader):
    """A `DataLoader` that raises its workers' errors as they are and passes over batches without an image.

    torch wraps an exception of a worker into one whose message is a traceback; the user is to read the
    message.
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

        Left to the garbage collector they outlive the error, and are waited for until a timeout.
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
    """The batches that `batches` names, in its order, from `workers` processes (0: in this one).

    Args:
        dataset: the images, with the training's transform.
        batches: which images, step by step.
        workers: loader processes; they change the speed alone, not a single value.
        collate: `detection_collate` or `classification_collate`; the one that fits `dataset` if None.
        outlive_sigterm: leave it to the process that trains what SIGTERM means. A cluster sends it to every
            process, and a training that saves itself must not lose its workers before.
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
