"""Where the trunk's weights come from before it is in a detector: from ImageNet, or an alternative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detnas_nni.data.imagenet import read_image_folder
from detnas_nni.errors import UsageError
from detnas_nni.init.look import Look

ENOUGH_CROPS = 300
"""Crops from which a pre-training on them is proposed; fewer would be memorised."""

_SAID = {
    "crops": "on your own crops: the boxes of the training images are cut out, a folder per class and one of "
    "background, and the supernet is first trained to tell them apart. It costs one more step and no "
    "other data; on everyday photographs it does not replace ImageNet (--pretrain imagenet, --supernet)",
    "folder": "on your labelled images, as the paper does on ImageNet",
    "supernet": "from the given supernet: fine-tuning starts from its trunk, and `pretrain` is not run",
    "imagenet": "from ImageNet weights, from which every candidate is derived (finetune.init: imagenet): "
    "the supernet is trained before its first step, and `pretrain` is not run",
    "none": "none: the supernet is trained in the detector from random weights (finetune.init: scratch), "
    "with twice as many steps instead",
}


@dataclass(frozen=True)
class Pretraining:
    """Attributes:
    kind: crops, folder, supernet, imagenet or none.
    reason: what it is, and why it was chosen.
    images: the approximate number of labelled images.
    side: the median side of a crop, pixels; 0 if there are none.
    folder: of `kind` folder, the ImageFolder.
    weights: of `kind` supernet, the checkpoint.
    space, options: of that checkpoint, or of the ImageNet weights: the config needs the same.
    """

    kind: str
    reason: str
    images: int = 0
    side: float = 0.0
    folder: Path | None = None
    weights: Path | None = None
    space: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether there is a step `pretrain`."""
        return self.kind in ("crops", "folder")

    def told(self, why: str) -> Pretraining:
        """The same, with a further reason for the choice."""
        return replace(self, reason=f"{self.reason}; {why}")


def choose(
    found: Look, *, kind: str | None = None, folder: Path | None = None, supernet: Path | None = None
) -> Pretraining:
    """What the user asked for, or what the data allows without ImageNet weights.

    Raises:
        UsageError: the options contradict each other, or there are no crops to train on.
        DataError: the folder is not an ImageFolder.
        CheckpointError: the checkpoint is missing, damaged, or not a classification supernet's.
        ConfigError: the ImageNet weights are not installed.
    """
    if folder is not None and supernet is not None:
        raise UsageError("--classification and --supernet: the trunk has one start; give one of them")
    for needed, value, option in (
        ("folder", folder, "--classification DIR"),
        ("supernet", supernet, "--supernet FILE"),
    ):
        if kind not in (None, needed) and value is not None:
            raise UsageError(f"--pretrain {kind} and {option} contradict each other; leave one out")
        if kind == needed and value is None:
            raise UsageError(f"--pretrain {kind} needs {option}")
    crops = found.crops()
    asked = "as you asked"
    if folder is not None:
        images = len(read_image_folder(folder))
        return Pretraining("folder", f"{_SAID['folder']}: {images:,} images", images, folder=folder)
    if supernet is not None:
        return _given(supernet)
    if kind is None:
        kind = "crops" if crops.sum() >= ENOUGH_CROPS else "none"
        asked = (
            f"proposed, as {crops.sum():,} boxes can be cut out; --pretrain none leaves it out"
            if kind == "crops"
            else f"proposed, as only {crops.sum():,} boxes can be cut out, fewer than {ENOUGH_CROPS}"
        )
    if kind == "imagenet":
        return _imagenet()
    if kind == "none":
        return Pretraining("none", f"{_SAID['none']} ({asked})")
    if crops.sum() < 2:
        raise UsageError("--pretrain crops: no box is large enough to be cut out; use --pretrain none")
    return Pretraining(
        "crops",
        f"{_SAID['crops']} ({asked})",
        # With about as many of background as of a class.
        int(crops.sum() * (1 + 1 / len(found.classes))),
        side=float(np.median(np.sqrt(found.box_sizes.prod(axis=1)))),
    )


def _given(supernet: Path) -> Pretraining:
    from detnas_nni.training.weights import CLASSIFIER, load_weights  # torch takes seconds

    weights = load_weights(supernet)
    weights.expect_supernet(kind=CLASSIFIER)
    info = weights.info
    return Pretraining(
        "supernet",
        f"{_SAID['supernet']} ({supernet}, of the space {info.space})",
        weights=supernet,
        space=info.space,
        options=dict(info.options),
    )


IMAGENET_SPACE = "lite0"
"""The space of `--pretrain imagenet`, the smallest one with published weights."""


def _imagenet() -> Pretraining:
    from detnas_nni.training.pretrained import published  # torch takes seconds

    start = published(IMAGENET_SPACE)
    reason = f"{_SAID['imagenet']} ({start.source}; licence {start.licence})"
    return Pretraining("imagenet", reason, space=start.space)
