"""Step 2: the detection supernet, its trunk inherited from step 1 (or from scratch)."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor
from torch.utils.data import DataLoader

from detnas_nni.config import Config, DetectionData, Finetune
from detnas_nni.data.loaders import DetectionDataset, TrainBatches, train_loader
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import open_detection
from detnas_nni.data.transforms import detection_train
from detnas_nni.errors import CheckpointError
from detnas_nni.models import DetectorSpace
from detnas_nni.seeding import derive_seed
from detnas_nni.supernet.checkpoint import SupernetInfo, load_supernet, save_supernet
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.supernet.runs import CLASSIFIER, finetune_run, pretrain_run
from detnas_nni.supernet.training import Recipe, step_factor, train_supernet

_log = logging.getLogger(__name__)


def finetune(config: Config, *, fresh: bool = False) -> Path:
    """Train the detection supernet; gives the path of its checkpoint.

    A training that was interrupted is gone on with, a finished one is left as it is; `fresh` starts over.
    """
    run = finetune_run(config)
    if not fresh and run.is_finished():
        return run.checkpoint
    data: DetectionData = config.require("data.detection")
    settings = config.finetune
    train = open_detection(data, config.seed).train
    torch.manual_seed(derive_seed(config.seed, "initial weights"))
    model = DetectorSpace(config.space.name, len(train.classes), config.detector, config.space.options)
    if settings.init == "pretrain":
        _inherit_trunk(model, config)
    info = SupernetInfo(
        kind=config.detector.name,
        space=config.space.name,
        options=config.space.options,
        classes=train.classes,
        steps=settings.steps,
        seed=config.seed,
        fingerprint=run.fingerprint,
        trunk_prefix="detector.backbone.trunk.",
    )
    run.claim(fresh)
    _log.info("finetune: %d images of %d classes, %d steps", len(train), len(train.classes), settings.steps)
    state = train_supernet(
        model,
        partial(_loader, train, data, config),
        PathSampler(config.space.name, config.seed),
        Recipe(
            losses=_losses,
            parameter_groups=partial(_parameter_groups, settings=settings),
            lr_factor=partial(
                step_factor,
                milestones=settings.milestones,
                gamma=settings.gamma,
                warmup_steps=settings.warmup_steps,
                warmup_factor=settings.warmup_factor,
            ),
        ),
        settings,
        run,
        config.hardware,
    )
    save_supernet(run.checkpoint, info, state)
    run.state.unlink(missing_ok=True)  # the way is done; the result stands
    _log.info("finetune: the supernet is in %s", run.checkpoint)
    return run.checkpoint


def _inherit_trunk(model: DetectorSpace, config: Config) -> None:
    checkpoint = pretrain_run(config).checkpoint
    _log.info("finetune: the trunk starts from %s", checkpoint)
    supernet = load_supernet(checkpoint)
    supernet.expect(kind=CLASSIFIER, space=config.space.name, options=config.space.options)
    try:
        model.trunk.load_state_dict(supernet.trunk_state)
    except RuntimeError as error:  # the code of a foreign trunk has changed
        reason = " ".join(line.strip() for line in str(error).splitlines()[:3])
        raise CheckpointError(f"{checkpoint}: its trunk does not fit {config.space.name}: {reason}") from None


def _loader(train: DetectionSet, data: DetectionData, config: Config, start: int) -> DataLoader:
    settings = config.finetune
    dataset = DetectionDataset(
        train, detection_train(data.flip), seed=config.seed, max_bad_images=config.data.max_bad_images
    )
    batches = TrainBatches(len(dataset), settings.batch_size, settings.steps, config.seed, start_step=start)
    return train_loader(dataset, batches, workers=config.hardware.workers)


def _losses(model: ModelSpace, batch: tuple[list[Tensor], list[dict[str, Tensor]]]) -> dict[str, Tensor]:
    return model(*batch)


def _parameter_groups(model: ModelSpace, settings: Finetune) -> list[dict[str, Any]]:
    """Biases, BN's β among them, have their own learning rate and decay; BN's γ is a weight [R]."""
    weights = [parameter for name, parameter in model.named_parameters() if not name.endswith("bias")]
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    return [
        {"params": weights, "weight_decay": settings.weight_decay},
        {
            "params": biases,
            "lr": settings.lr * settings.bias_lr_factor,
            "weight_decay": settings.bias_weight_decay,
        },
    ]
