"""Step 1: the classification supernet, on an ImageFolder."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor
from torch.utils.data import DataLoader

from detnas_nni.config import ClassificationData, Config, Pretrain
from detnas_nni.cost import cost_table
from detnas_nni.data.imagenet import ClassificationSet
from detnas_nni.data.loaders import ClassificationDataset, TrainBatches, train_loader
from detnas_nni.data.splits import open_classification
from detnas_nni.data.transforms import classification_train
from detnas_nni.models import ClassifierSpace
from detnas_nni.seeding import derive_seed
from detnas_nni.supernet.checkpoint import SupernetInfo, save_supernet
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.supernet.runs import CLASSIFIER, pretrain_run
from detnas_nni.supernet.training import Recipe, linear_factor, train_supernet

_log = logging.getLogger(__name__)


def pretrain(config: Config, *, fresh: bool = False) -> Path:
    """Train the classification supernet; gives the path of its checkpoint.

    A training that was interrupted is gone on with, a finished one is left as it is; `fresh` starts over.
    """
    run = pretrain_run(config)
    if not fresh and run.is_finished():
        return run.checkpoint
    data: ClassificationData = config.require("data.classification")
    settings = config.pretrain
    train = open_classification(data, config.seed).train
    sampler = _path_sampler(config, len(train.classes))
    torch.manual_seed(derive_seed(config.seed, "initial weights"))
    model = ClassifierSpace(config.space.name, len(train.classes), settings.dropout, config.space.options)
    info = SupernetInfo(
        kind=CLASSIFIER,
        space=config.space.name,
        options=config.space.options,
        classes=train.classes,
        steps=settings.steps,
        seed=config.seed,
        fingerprint=run.fingerprint,
        trunk_prefix="trunk.",
    )
    run.claim(fresh)
    _log.info("pretrain: %d images of %d classes, %d steps", len(train), len(train.classes), settings.steps)
    state = train_supernet(
        model,
        partial(_loader, train, data, config),
        sampler,
        Recipe(
            losses=partial(_losses, label_smoothing=settings.label_smoothing),
            parameter_groups=partial(_parameter_groups, settings=settings),
            lr_factor=partial(linear_factor, steps=settings.steps, warmup_steps=settings.warmup_steps),
        ),
        settings,
        run,
        config.hardware,
    )
    save_supernet(run.checkpoint, info, state)
    run.state.unlink(missing_ok=True)  # the way is done; the result stands
    _log.info("pretrain: the supernet is in %s", run.checkpoint)
    return run.checkpoint


def _path_sampler(config: Config, num_classes: int) -> PathSampler:
    if config.pretrain.macs_bins is None:
        return PathSampler(config.space.name, config.seed)
    table = cost_table(config.space.name, config.search.constraint.resolution)
    return PathSampler(
        config.space.name,
        config.seed,
        config.pretrain.macs_bins,
        macs=lambda path: table.classifier_cost(path, num_classes).macs,
    )


def _loader(train: ClassificationSet, data: ClassificationData, config: Config, start: int) -> DataLoader:
    settings = config.pretrain
    transform = classification_train(
        data.image_size, color_jitter=settings.color_jitter, min_scale=settings.crop_min_scale
    )
    dataset = ClassificationDataset(
        train, transform, seed=config.seed, max_bad_images=config.data.max_bad_images
    )
    batches = TrainBatches(len(dataset), settings.batch_size, settings.steps, config.seed, start_step=start)
    return train_loader(dataset, batches, workers=config.hardware.workers)


def _losses(model: ModelSpace, batch: tuple[Tensor, Tensor], label_smoothing: float) -> dict[str, Tensor]:
    images, labels = batch
    return {"classification": F.cross_entropy(model(images), labels, label_smoothing=label_smoothing)}


def _parameter_groups(model: ModelSpace, settings: Pretrain) -> list[dict[str, Any]]:
    """What has more than one dimension decays; biases and BN do not [R]."""
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
