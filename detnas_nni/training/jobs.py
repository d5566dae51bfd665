"""The two trainings, classification and detection, whatever net is trained: a supernet or a single net."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch.nn.functional as F
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn
from torch.utils.data import DataLoader

from detnas_nni import config as cfg
from detnas_nni.data.datasets import ImageDataset
from detnas_nni.data.loaders import ClassificationDataset, DetectionDataset, TrainBatches, train_loader
from detnas_nni.data.splits import open_classification, open_detection
from detnas_nni.data.transforms import classification_train, detection_train
from detnas_nni.errors import ConfigError
from detnas_nni.models import ClassifierSpace, DetectorSpace, freeze, set_bn_momentum
from detnas_nni.models.batchnorm import rescale
from detnas_nni.models.hardware import uses_gpu
from detnas_nni.training.distributed import World
from detnas_nni.training.tensors import fill
from detnas_nni.training.weights import CLASSIFIER, Weights

_log = logging.getLogger(__name__)

Settings = TypeVar("Settings", bound=cfg.Training)


class Job(ABC, Generic[Settings]):
    """What a training needs except the net's choices: data, losses, optimiser. Construction reads the data.

    With `whole`, images that are held out of the training split for a search are also trained on.

    Attributes:
        kind: of the weights that come out.
        trunk_prefix: the trunk's prefix in the net's state dict.
        settings: the config's section of this training.
        classes: names, in the order of their labels.
        set_apart: a hash of the images that are held out for the test split; None if there are none.
    """

    kind: str
    trunk_prefix: str
    set_apart: str | None = None

    def __init__(self, config: cfg.Config, settings: Settings, dataset: ImageDataset) -> None:
        self.config = config
        self.settings = settings
        self._dataset = dataset

    @property
    def images(self) -> int:
        """Images in the training split."""
        return len(self._dataset)

    def build(self) -> ModelSpace:
        """The model space; under `nni.nas.space.model_context` the fixed net."""
        model = self._model()
        set_bn_momentum(model, self.settings.bn_momentum)
        return model

    def loader(self, start: int, world: World) -> DataLoader:
        """This process's training batches from a step on."""
        settings = self.settings
        batches = TrainBatches(
            len(self._dataset),
            world.share(settings.batch_size, "batch_size"),
            settings.steps,
            self.config.seed,
            start_step=start,
            rank=world.rank,
            world_size=world.size,
        )
        hardware = self.config.hardware
        # gloo's threads take interpreter locks, and a loader that is forked at that moment never starts. So
        # processes that use gloo, those on CPUs, load their images themselves.
        forks = world.size == 1 or uses_gpu(hardware)
        workers = hardware.workers if forks else 0
        return train_loader(self._dataset, batches, workers, outlive_sigterm=True)

    @abstractmethod
    def losses(self, model: ModelSpace, batch: Any) -> dict[str, Tensor]:
        """Losses by name on one batch; their sum is minimised."""

    @abstractmethod
    def parameter_groups(self, model: ModelSpace) -> list[dict[str, Any]]:
        """SGD's parameter groups: learning rate and weight decay by kind of parameter."""

    @abstractmethod
    def lr_factor(self, step: int) -> float:
        """The share of the base learning rate at a step."""

    @abstractmethod
    def _model(self) -> ModelSpace: ...


class ClassificationJob(Job[cfg.Pretrain]):
    """Cross-entropy on an ImageFolder, with a learning rate that falls linearly to 0 [R]."""

    kind = CLASSIFIER
    trunk_prefix = "trunk."

    def __init__(self, config: cfg.Config, settings: cfg.Pretrain, *, whole: bool = False) -> None:
        data: cfg.ClassificationData = config.require("data.classification")
        splits = open_classification(data, config.seed, config.data.max_images)
        train = splits.whole if whole else splits.train
        transform = classification_train(
            data.image_size, color_jitter=settings.color_jitter, min_scale=settings.crop_min_scale
        )
        dataset = ClassificationDataset(
            train, transform, seed=config.seed, max_bad_images=config.data.max_bad_images
        )
        super().__init__(config, settings, dataset)
        self.classes = train.classes

    def _model(self) -> ClassifierSpace:
        space = self.config.space
        return ClassifierSpace(space.name, len(self.classes), self.settings.dropout, space.options)

    def losses(self, model: ModelSpace, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        loss = F.cross_entropy(model(images), labels, label_smoothing=self.settings.label_smoothing)
        return {"classification": loss}

    def parameter_groups(self, model: ModelSpace) -> list[dict[str, Any]]:
        """Parameters with more than one dimension decay; biases and BN do not [R]."""
        weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
        return [
            {"params": weights, "weight_decay": self.settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]

    def lr_factor(self, step: int) -> float:
        return linear_factor(step, self.settings.steps, self.settings.warmup_steps)


class DetectionJob(Job[cfg.Finetune]):
    """A detector's own losses on images with boxes, with a learning rate that falls in steps [R]."""

    trunk_prefix = "detector.backbone.trunk."

    def __init__(self, config: cfg.Config, settings: cfg.Finetune, *, whole: bool = False) -> None:
        data: cfg.DetectionData = config.require("data.detection")
        splits = open_detection(
            data, config.seed, config.data.max_images, strict=config.data.strict, scan=True
        )
        for line in splits.told():
            _log.info("%s", line)
        train = splits.whole if whole else splits.train
        dataset = DetectionDataset(
            train,
            detection_train(data.flip),
            seed=config.seed,
            max_bad_images=config.data.max_bad_images,
            train_difficult=data.train_difficult,
        )
        super().__init__(config, settings, dataset)
        self.kind = config.detector.name
        self.classes = train.classes
        self.set_apart = splits.set_apart

    def _model(self) -> DetectorSpace:
        space = self.config.space
        model = DetectorSpace(space.name, len(self.classes), self.config.detector, space.options)
        freeze(model.trunk, self.settings.freeze, space=space.name)
        return model

    def start_from(self, weights: Weights | None, model: DetectorSpace) -> None:
        """Give a detector the weights that its training starts from, at the scale that the config says.

        All of those of the same detector, only the trunk of any other net; None for those that were drawn.

        Raises:
            CheckpointError: they do not fit.
            ConfigError: they are to be rescaled, but the trunk has nothing to rescale.
        """
        if weights is not None and weights.info.kind == self.kind:
            weights.expect(classes=self.classes)
            fill(model, weights.state, weights.path)
        elif weights is not None:
            fill(model.trunk, weights.trunk_state, weights.path)
        if self.settings.rescale:
            self._rescale(model.trunk)

    def _rescale(self, trunk: nn.Module) -> None:
        found = rescale(trunk)
        if not found:
            raise ConfigError(
                f"finetune.rescale is true, but in the trunk of {self.config.space.name!r} no BN that is "
                "trained directly follows a convolution in an nn.Sequential; set it to false"
            )
        convolutions = sum(isinstance(module, nn.Conv2d) for module in trunk.modules())
        _log.info("%d of the trunk's %d convolutions are rescaled", found, convolutions)

    def losses(
        self, model: ModelSpace, batch: tuple[list[Tensor], list[dict[str, Tensor]]]
    ) -> dict[str, Tensor]:
        return model(*batch)

    def parameter_groups(self, model: ModelSpace) -> list[dict[str, Any]]:
        """Biases, BN's β among them, have their own learning rate and decay; BN's γ is a weight [R].

        What is frozen is in none of the groups.
        """
        settings = self.settings
        trained = [named for named in model.named_parameters() if named[1].requires_grad]
        weights = [parameter for name, parameter in trained if not name.endswith("bias")]
        biases = [parameter for name, parameter in trained if name.endswith("bias")]
        return [
            {"params": weights, "weight_decay": settings.weight_decay},
            {
                "params": biases,
                "lr": settings.lr * settings.bias_lr_factor,
                "weight_decay": settings.bias_weight_decay,
            },
        ]

    def lr_factor(self, step: int) -> float:
        settings = self.settings
        return step_factor(
            step, settings.milestones, settings.gamma, settings.warmup_steps, settings.warmup_factor
        )


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
