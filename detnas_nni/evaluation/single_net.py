"""Measure a net that was trained on its own, as its weights stand in a file."""

from __future__ import annotations

from pathlib import Path

from nni.nas.space import model_context

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.evaluation.tasks import Metrics, Split, open_task
from detnas_nni.supernet.inherit import load_into
from detnas_nni.training.weights import CLASSIFIER, load_weights


def is_single_net(path: Path) -> bool:
    """Whether a file holds a single net's weights, not a supernet's. Raises CheckpointError."""
    return load_weights(path).info.ops is not None


def measure_weights(
    config: Config, path: Path, split: Split = "search", architecture: Architecture | None = None
) -> Metrics:
    """Top-1 of a classifier, AP of a detector, without recalibration: the statistics are its own.

    Args:
        config: the experiment, whose data it is measured on.
        path: the weights of a single net.
        split: `search` or `test`.
        architecture: what the net has to be; whatever it is if None.

    Raises:
        CheckpointError: the file is none, a supernet's, or does not fit the config.
        ConfigError, DataError: there is no such split, or it cannot be read.
    """
    weights = load_weights(path)
    weights.expect_single(architecture)
    task = open_task(config, "classification" if weights.info.kind == CLASSIFIER else "detection", split)
    weights.expect(
        kind=task.kind, space=config.space.name, options=config.space.options, classes=task.classes
    )
    with model_context(weights.info.architecture.choices):
        net = task.build()
    load_into(net, weights.state, path)
    return task.measure(net.to(task.device).eval())
