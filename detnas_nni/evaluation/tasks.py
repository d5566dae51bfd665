"""How measuring a net differs between detection and classification (ClsNAS), on either split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from detnas_nni.config import Config
from detnas_nni.config.run_folder import SUPERNET, finetune_folder, pretrain_folder
from detnas_nni.data.cache import keep_decoded
from detnas_nni.data.datasets import ImageDataset
from detnas_nni.data.loaders import (
    ClassificationDataset,
    DetectionDataset,
    EvaluationDataset,
    TrainBatches,
    eval_loader,
    train_loader,
)
from detnas_nni.data.splits import open_classification, open_detection
from detnas_nni.data.transforms import classification_eval, detection_eval
from detnas_nni.errors import DataError
from detnas_nni.metrics import GroundTruth, coco_box_ap, official_coco_box_ap, top1, voc_map
from detnas_nni.models import ClassifierSpace, DetectorSpace, freeze
from detnas_nni.models.hardware import prepare
from detnas_nni.training.weights import CLASSIFIER
from detnas_nni.util.progress import watched

Metrics = dict[str, float]
"""What a net scored: `default` is the fitness, in [0, 1], never rounded."""

Report = Callable[[Metrics], None]
"""Gets the metrics on a growing part of the split while the evaluation runs."""

Split = Literal["search", "test"]
"""The split that a task measures on: the one that guides the search, or the one that no search has seen."""

LONG = 3.0
"""Seconds from which on a part of an evaluation has its own progress bar."""

_VOC_KEYS = {"voc07": "mAP07", "voc": "mAP"}


def unreported(metrics: Metrics) -> None:
    """The report for an evaluation that nobody watches."""


class Task(ABC):
    """How a net is built, trained on and measured. One instance serves a whole search.

    Attributes:
        kind: the kind of weights that the supernet's checkpoint has to hold.
        checkpoint: that checkpoint's path.
        classes: the classes that it has to have.
        device: where the net computes.
    """

    kind: str
    checkpoint: Path
    classes: tuple[str, ...]

    def __init__(self, config: Config, training: ImageDataset, measured: ImageDataset) -> None:
        self.config = config
        self.device = prepare(config.hardware)
        self._training = training
        self._measured = measured
        self._reports = config.evaluation.intermediate_results

    @property
    def training_images(self) -> int:
        """Images in the training split."""
        return len(self._training)

    @property
    def measured_images(self) -> int:
        """Images in the split that nets are measured on."""
        return len(self._measured)

    @abstractmethod
    def build(self) -> ModelSpace:
        """The unfixed model space; under `nni.nas.space.model_context` the fixed net."""

    @abstractmethod
    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        """The training loss of a net in train mode on one batch."""

    @abstractmethod
    def calibrate(self, net: nn.Module, batch: Any) -> None:
        """A pass of one batch through every BN of a net in train mode, without a loss."""

    @abstractmethod
    def measure(self, net: nn.Module, report: Report = unreported) -> Metrics:
        """The metrics of a net on the whole split; those on its parts are reported as it goes.

        The net is in eval mode and on the task's device.
        """

    def training_batches(self, batch_size: int, steps: int, seed: int) -> Iterator[Any]:
        """Batches of training images without augmentation, in an order drawn by the seed."""
        batches = TrainBatches(len(self._training), batch_size, steps, seed)
        first = [index for index, _ in next(iter(batches), [])]
        for batch in train_loader(self._training, batches, self._workers(self._training, first)):
            yield self._to_device(batch)

    def keep_decoded(self, folder: Path, calibration: tuple[int, int, int]) -> None:
        """Read the images for every candidate from files in a folder, decoded once; see `data.cache`.

        Args:
            folder: on a disk of this machine, or one as fast.
            calibration: batch size, steps and seed of the `training_batches` that every candidate asks for.
        """
        size, hardware = len(self._training), self.config.hardware
        drawn = [index for batch in TrainBatches(size, *calibration) for index, _ in batch]
        left = int(hardware.keep_decoded_gb * 1e9)
        for name, dataset, indices in (
            ("measured", self._measured, range(len(self._measured))),
            ("calibration", self._training, drawn),
        ):
            keep_decoded(dataset, indices, folder / name, limit=left, workers=hardware.workers)
            left -= 0 if dataset.kept is None else dataset.kept.bytes

    def _workers(self, dataset: ImageDataset, indices: Iterable[int]) -> int:
        """Loader processes for images; none for decoded ones, which are as quick to read here."""
        kept = dataset.kept
        are_kept = kept is not None and all(index in kept for index in indices)
        return 0 if are_kept else self.config.hardware.workers

    def _to_device(self, batch: Any) -> Any:
        if isinstance(batch, Tensor):
            moved = batch.to(self.device, non_blocking=True)
            return moved.to(torch.float32) if moved.dtype is torch.uint8 else moved  # a decoded image
        if isinstance(batch, dict):
            return {key: self._to_device(value) for key, value in batch.items()}
        return [self._to_device(value) for value in batch]

    def _batches_with_reports(self) -> Iterator[tuple[Any, bool]]:
        """The batches of an evaluation, each with whether the metrics so far are due after it."""
        batch_size, dataset = self.config.evaluation.batch_size, self._measured
        loader = eval_loader(dataset, batch_size, self._workers(dataset, range(len(dataset))))
        # A loader skips a batch without a readable image, and so may end earlier than its length says: one
        # batch is held back to know which is the last.
        due = _evenly(len(loader), self._reports)
        held: Any = None
        batches = watched(loader, len(loader), "measuring", "batch", delay=LONG)
        for number, batch in enumerate(batches):
            if held is not None:
                yield held, number in due
            held = self._to_device(batch)
        if held is None:
            raise DataError(f"{dataset.name}: none of its {len(dataset)} images can be read")
        yield held, True


class DetectionTask(Task):
    """Box AP of a detector, by `evaluation.metric`.

    Its metrics are, for COCO, AP (`default`), AP50, AP75, APs, APm, APl; for VOC, mAP07 and mAP, one of which
    is `default`, and in addition COCO's AP and AP50.

    Args:
        config: the config.
        split: what to measure on.
        official: take COCO's AP from pycocotools, for a number to report; it is slow, so metrics on parts
            are not reported. A search's fitness is equal, and fast to compute.

    Raises:
        ConfigError: there is no `data.detection`, or it has no test split to measure on.
        DataError: a split is missing or damaged.
    """

    def __init__(self, config: Config, split: Split = "search", *, official: bool = False) -> None:
        data = config.require("data.detection") if split == "search" else config.require_detection_test()
        splits = open_detection(data, config.seed, config.data.max_images, strict=config.data.strict)
        transform, limit = detection_eval(), config.data.max_bad_images
        training = DetectionDataset(
            splits.train, transform, max_bad_images=limit, train_difficult=data.train_difficult
        )
        self._images = splits.search if split == "search" else splits.test
        measured = EvaluationDataset(self._images, transform, max_bad_images=limit)
        super().__init__(config, training, measured)
        self.kind = config.detector.name
        self.checkpoint = finetune_folder(config) / SUPERNET
        self.classes = splits.train.classes
        self._coco = official_coco_box_ap if official else coco_box_ap
        self._reports = 1 if official else config.evaluation.intermediate_results
        self._truth = GroundTruth(self._images.ground_truth())

    def build(self) -> DetectorSpace:
        space = self.config.space
        net = DetectorSpace(space.name, len(self.classes), self.config.detector, space.options)
        # What the supernet was trained with unchanged is not calibrated anew either.
        freeze(net.trunk, self.config.finetune.freeze, space=space.name)
        return net

    def loss(self, net: nn.Module, batch: tuple[list[Tensor], list[dict[str, Tensor]]]) -> Tensor:
        return sum(net(*batch).values())

    def calibrate(self, net: nn.Module, batch: tuple[list[Tensor], list[dict[str, Tensor]]]) -> None:
        net.calibration_pass(*batch)

    @torch.no_grad()
    def measure(self, net: nn.Module, report: Report = unreported) -> Metrics:
        image_ids: list[int] = []
        detections: list[dict[str, Any]] = []
        measured: Metrics = {}
        for (images, targets), due in self._batches_with_reports():
            for target, output in zip(targets, net(images), strict=True):
                image_id = int(target["image_id"])
                image_ids.append(image_id)
                arrays = (output[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
                detections += self._images.to_coco_detections(image_id, *arrays)
            if due:
                measured = self._metrics(detections, image_ids)
                report(measured)
        return measured

    def _metrics(self, detections: list[dict[str, Any]], image_ids: list[int]) -> Metrics:
        coco = self._coco(self._truth, detections, image_ids=image_ids)
        metric = self.config.evaluation.metric
        if metric == "coco":
            return {"default": coco["AP"]} | {k: coco[k] for k in ("AP50", "AP75", "APs", "APm", "APl")}
        voc = voc_map(self._truth, detections, image_ids=image_ids)
        return {"default": voc[_VOC_KEYS[metric]], **voc, "AP": coco["AP"], "AP50": coco["AP50"]}


class ClassificationTask(Task):
    """Top-1 of a classifier as `default`: the fitness with which ClsNASNet is searched.

    Args:
        config: the config.
        split: what to measure on; `search` is the held-out part of the training ImageFolder.

    Raises:
        ConfigError: there is no `data.classification`, or no `data.classification.test` to measure on.
        DataError: a split is missing or damaged.
    """

    kind = CLASSIFIER

    def __init__(self, config: Config, split: Split = "search") -> None:
        data = config.require("data.classification")
        if split == "test":
            config.require("data.classification.test")
        splits = open_classification(data, config.seed, config.data.max_images)
        transform, limit = classification_eval(data.image_size), config.data.max_bad_images
        training = ClassificationDataset(splits.train, transform, max_bad_images=limit)
        images = splits.search if split == "search" else splits.test
        measured = ClassificationDataset(images, transform, max_bad_images=limit, replace_bad=False)
        super().__init__(config, training, measured)
        self.checkpoint = pretrain_folder(config) / SUPERNET
        self.classes = splits.train.classes

    def build(self) -> ClassifierSpace:
        space = self.config.space
        return ClassifierSpace(space.name, len(self.classes), self.config.pretrain.dropout, space.options)

    def loss(self, net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(net(images), labels, label_smoothing=self.config.pretrain.label_smoothing)

    def calibrate(self, net: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
        net.calibration_pass(batch[0])

    @torch.no_grad()
    def measure(self, net: nn.Module, report: Report = unreported) -> Metrics:
        right = total = 0
        for (images, labels), due in self._batches_with_reports():
            right += top1(net(images), labels)
            total += len(labels)
            if due:
                report({"default": right / total})
        return {"default": right / total}


def open_task(
    config: Config,
    task: Literal["detection", "classification"] | None = None,
    split: Split = "search",
    *,
    official: bool = False,
) -> Task:
    """A task, its data read and checked; by default the one that the config's `evaluation.task` names.

    `official` is for detection. Raises ConfigError and DataError as the tasks do.
    """
    if (task or config.evaluation.task) == "classification":
        return ClassificationTask(config, split)
    return DetectionTask(config, split, official=official)


def _evenly(batches: int, reports: int) -> set[int]:
    """The numbers of the batches, from 1, after which the metrics are due: evenly spread."""
    return {max(1, round(batches * part / reports)) for part in range(1, reports + 1)}
