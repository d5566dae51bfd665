"""Where a finished net comes from: weights of a single net, a supernet's candidate, or an exported file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config, Detector
from detnas_nni.config.reading import parse_section
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.splits import DetectionSplits, open_detection
from detnas_nni.errors import CheckpointError, ConfigError, DataError, UsageError
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.finished.nets import (
    Description,
    FinishedBackbone,
    FinishedDetector,
    Part,
    build,
    expect_trusted,
    read_description,
)
from detnas_nni.search.best import versions
from detnas_nni.training.tensors import load_tensors, write_tensors
from detnas_nni.training.weights import (
    CLASSIFIER,
    FINISHED_NET,
    Weights,
    WeightsInfo,
    expect_architecture,
    file_hash,
    load_weights,
)
from detnas_nni.util.files import replace_file
from detnas_nni.util.text import show
from search_spaces import all_options

_log = logging.getLogger(__name__)


def open_net(
    weights: Path,
    *,
    part: Part = "detector",
    config: Config | None = None,
    architecture: Architecture | None = None,
    splits: DetectionSplits | None = None,
    trusted: tuple[str, ...] = (),
) -> FinishedDetector | FinishedBackbone:
    """A finished net, on the CPU and in eval mode.

    Args:
        weights: a file that `detnas export` wrote; weights of a single net, as `detnas retrain` leaves
            them; or, with a config and an architecture, a supernet's: then the architecture inherits its
            weights, and BN is recalibrated on the config's training images.
        part: `detector`, or `backbone` for its trunk.
        config: the experiment; its settings override those in the file.
        architecture: what the net has to be.
        splits: the config's detection data, for the category ids; 1 to K if None.
        trusted: spaces "package.module:factory" whose code may be imported; the config's is.

    Raises:
        CheckpointError: the file is missing or damaged, or is not of the architecture or the config.
        UsageError: a supernet's weights, and no architecture.
    """
    if config is not None:
        trusted = (*trusted, config.space.name)
    if is_net_file(weights):
        return _of_file(weights, part, config, architecture, splits, trusted)
    loaded = load_weights(weights)
    expect_trusted(loaded.info.space, weights, trusted)
    _expect_part(loaded, part)
    if config is not None:
        loaded.expect(space=config.space.name, options=config.space.options)
    if loaded.info.ops is None:
        state, info, kind = _candidate(loaded, config, architecture)
    else:
        loaded.expect_single(architecture)
        state, info, kind = loaded.state, loaded.info, "single net"
        architecture = info.architecture
    provenance = {
        "weights": file_hash(weights),
        "of": kind,
        "trained": {"config": info.fingerprint, "steps": info.steps, "seed": info.seed},
        "versions": versions(),
    }
    common = {
        "space": info.space,
        "ops": architecture.ops,
        "options": dict(info.options),
        "provenance": provenance,
    }
    if part == "backbone":
        prefix = info.trunk_prefix
        trunk = {
            f"trunk.{name.removeprefix(prefix)}": tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        return build(Description(part="backbone", **common), trunk, weights)
    if config is not None:
        loaded.expect(kind=config.detector.name)
    if splits is not None:
        loaded.expect(classes=splits.train.classes)
    # Weights imported from elsewhere may have numbers for names; those of the data are better.
    names = info.classes if splits is None else splits.train.classes
    ids = tuple(range(1, len(names) + 1)) if splits is None else splits.train.own_category_ids
    settings = _settings(loaded, config)
    description = Description(part="detector", detector=settings, names=names, category_ids=ids, **common)
    return build(description, state, weights)


def detection_splits(config: Config) -> DetectionSplits | None:
    """The config's detection data; None, with a warning, on a machine that does not have it."""
    if config.data.detection is None:
        return None
    try:
        data = config.data
        return open_detection(data.detection, config.seed, data.max_images, strict=data.strict)
    except DataError as error:
        _log.warning("the data cannot be read, so category ids count from 1: %s", error)
        return None


def unseen(splits: DetectionSplits) -> DetectionSet:
    """The split that the net has seen least of."""
    return splits.search if splits.test is None else splits.test


def _of_file(
    path: Path,
    part: Part,
    config: Config | None,
    architecture: Architecture | None,
    splits: DetectionSplits | None,
    trusted: tuple[str, ...],
) -> FinishedDetector | FinishedBackbone:
    description, state = _read_net(path, trusted)
    expect_architecture(path, description.space, description.ops, architecture)
    if config is not None:
        description = _as_in(config, splits, description, path)
    net = build(description, state, path)
    if part == description.part:
        return net
    if isinstance(net, FinishedDetector):
        return net.backbone()
    raise CheckpointError(f"{path}: only a backbone; a detector is needed")


def _as_in(config: Config, splits: DetectionSplits | None, found: Description, path: Path) -> Description:
    """An exported net's description with the config's settings. CheckpointError if it is of another."""
    space, options = config.space.name, config.space.options
    compared = {"space": (found.space, space)}
    if found.space == space:
        compared["options"] = (all_options(space, found.options), all_options(space, options))
    if found.detector is not None:
        compared["detector"] = (found.detector.name, config.detector.name)
    if found.names and splits is not None:
        compared["classes"] = (found.names, splits.train.classes)
    for name, (of_file, of_config) in compared.items():
        if of_file != of_config:
            raise CheckpointError(
                f"{path}: a net whose {name} is {show(of_file)}, but the config says {show(of_config)}; name "
                "the config that it was trained with, or leave the config out"
            )
    changes = {} if found.detector is None else {"detector": config.detector}
    if "classes" in compared:
        changes["category_ids"] = splits.train.own_category_ids
    return found.model_copy(update=changes)


def _expect_part(weights: Weights, part: Part) -> None:
    if part == "detector" and weights.info.kind == CLASSIFIER:
        raise CheckpointError(
            f"{weights.path}: weights of a classifier, without a detector; name those of a "
            "detector, or take only the backbone (--part backbone, load_backbone)"
        )


def _candidate(
    weights: Weights, config: Config | None, architecture: Architecture | None
) -> tuple[Mapping[str, Tensor], WeightsInfo, str]:
    """A candidate's state, with inherited weights and its own BN statistics."""
    if config is None:
        raise CheckpointError(
            f"{weights.path}: weights of a supernet. Its candidates need their own BN statistics: "
            "`detnas export -c CONFIG --weights FILE --arch FILE` computes them and writes a net to load here"
        )
    if architecture is None:
        raise UsageError(
            f"{weights.path}: weights of a supernet; name its candidate with --arch, such as "
            "best_architecture.json"
        )
    if architecture.space != weights.info.space:
        raise UsageError(
            f"an architecture of the space {architecture.space}, but {weights.path} is of "
            f"{weights.info.space}"
        )
    searched = CLASSIFIER if config.evaluation.task == "classification" else config.detector.name
    weights.expect_supernet(kind=searched)
    net = CandidateEvaluation(config, weights.path).calibrated_net(architecture)
    state = {name: tensor.cpu() for name, tensor in net.state_dict().items()}
    return state, weights.info, "candidate with inherited weights, BN recalibrated"


def _settings(weights: Weights, config: Config | None) -> Detector:
    """The detector's settings: the config's if there is one, else those that the file holds."""
    if config is not None:
        return config.detector
    if weights.info.detector is None:
        raise CheckpointError(
            f"{weights.path}: has no detector settings, like files of older versions; pass the config "
            "that it was trained with (config=… in Python, -c on the command line)"
        )
    try:
        return parse_section(Detector, weights.info.detector, source=str(weights.path))
    except ConfigError as error:
        raise CheckpointError(f"the detector settings are damaged: {error}") from None


def save_net(net: FinishedDetector | FinishedBackbone, path: Path) -> None:
    """Write the file atomically: weights, and what rebuilds the net. Loading it runs no code."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in net.weights().items()}
    content = {FINISHED_NET: net.description.model_dump_json(), "state": weights}
    replace_file(path, lambda temporary: write_tensors(temporary, content))


def is_net_file(path: Path) -> bool:
    """Whether a file is one that `save_net` wrote. Raises CheckpointError if it cannot be read."""
    return path.is_file() and FINISHED_NET in load_tensors(path)


def load_net(path: Path, *, trusted: tuple[str, ...] = ()) -> FinishedDetector | FinishedBackbone:
    """The net in a file, on the CPU and in eval mode.

    Args:
        path: what `save_net` wrote.
        trusted: spaces "package.module:factory" whose code may be imported.

    Raises CheckpointError.
    """
    return build(*_read_net(path, trusted), path)


def _read_net(path: Path, trusted: tuple[str, ...]) -> tuple[Description, dict[str, Tensor]]:
    content = load_tensors(path)
    description, state = content.get(FINISHED_NET), content.get("state")
    if not isinstance(description, str) or not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a finished net as `detnas export --weights` writes it")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: a value in its state is {type(tensor).__name__}, not a tensor")
    return read_description(description, path, trusted), state
