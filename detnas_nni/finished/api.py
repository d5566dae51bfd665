"""The Python API: a finished net in one call, as a plain torch module."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from detnas_nni.architecture import Architecture
from detnas_nni.config.reading import load_config
from detnas_nni.finished.nets import FinishedBackbone, FinishedDetector, Part
from detnas_nni.finished.sources import open_net

AnyPath = str | os.PathLike[str]


def load_detector(
    file: AnyPath,
    weights: AnyPath | None = None,
    *,
    config: AnyPath | None = None,
    trusted: Sequence[str] = (),
    device: str | torch.device = "cpu",
) -> FinishedDetector:
    """A finished detector, in eval mode, called like torchvision's.

    It takes a list of RGB images (3, H, W), float in 0..1 or uint8, and returns a dict per image: `boxes` (M,
    4) in x1, y1, x2, y2 pixels, `labels` (M,), `scores` (M,) in descending order. `.classes[label]` is a
    name.

    Args:
        file: an architecture such as best_architecture.json, together with weights; or, on its own, a file
            that `detnas export --weights … --format torch` wrote, or the net.pt of `detnas retrain`.
        weights: of a single net of that architecture: the same kinds of files.
        config: the experiment's YAML, for weights in which the detector's settings are missing.
        trusted: spaces "package.module:factory" whose code may be imported; that of `config` is.
        device: where to put the net.

    Raises:
        DetNASError: with a message that says which file is wrong, and how.

    Example:
        detector = load_detector("best_architecture.json", "net.pt")
        (found,) = detector([torchvision.io.decode_image("photo.jpg", mode="RGB")])
    """
    return _load("detector", file, weights, config, trusted).to(device)


def load_backbone(
    file: AnyPath,
    weights: AnyPath | None = None,
    *,
    config: AnyPath | None = None,
    trusted: Sequence[str] = (),
    device: str | torch.device = "cpu",
) -> FinishedBackbone:
    """A finished backbone, in eval mode, for any framework; from a detector's weights or a classifier's.

    It takes RGB images (N, 3, H, W), float in 0..1 or uint8, and returns a list of features, C2 to C5, with
    `.out_channels` at `.strides`. Arguments and errors as for `load_detector`.
    """
    return _load("backbone", file, weights, config, trusted).to(device)


def _load(
    part: Part, file: AnyPath, weights: AnyPath | None, config: AnyPath | None, trusted: Sequence[str]
) -> FinishedDetector | FinishedBackbone:
    experiment = None if config is None else load_config(Path(config))
    named = (*trusted, *(() if experiment is None else (experiment.space.name,)))
    architecture = None if weights is None else Architecture.from_json(file, trusted=named)
    return open_net(
        Path(file if weights is None else weights),
        part=part,
        config=experiment,
        architecture=architecture,
        trusted=named,
    )
