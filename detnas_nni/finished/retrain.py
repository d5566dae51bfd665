"""The final net: an architecture trained on its own, then measured on the test splits no search has seen.

As in the paper [R]: the architecture is trained from scratch as a classifier with the supernet's recipe, then
as a detector. `retrain.init` starts the detector from the supernet's weights instead, or from scratch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Architecture, read_document
from detnas_nni.config import Config, Training
from detnas_nni.config.run_folder import (
    NET,
    RESULTS,
    classifier_folder,
    detector_folder,
    results_beside,
    retrain_folder,
)
from detnas_nni.cost.table import counts
from detnas_nni.data.splits import open_detection
from detnas_nni.errors import CheckpointError, ConfigError, DataError, UsageError
from detnas_nni.evaluation.candidate import measure_weights
from detnas_nni.evaluation.tasks import Metrics
from detnas_nni.models import check_freeze
from detnas_nni.search.best import versions
from detnas_nni.supernet.inherit import weights_of_path
from detnas_nni.training.distributed import World, barrier, joined
from detnas_nni.training.jobs import ClassificationJob, DetectionJob
from detnas_nni.training.loop import train
from detnas_nni.training.pretrained import Published, published, published_supernet
from detnas_nni.training.runs import TrainingRun, imagenet_start, supernet_weights
from detnas_nni.training.weights import CLASSIFIER, Weights, file_hash, load_weights
from detnas_nni.util.files import write_json

_log = logging.getLogger(__name__)

OF_SUPERNETS = {"macs_bins", "sampling", "around", "init", "weights", "average_last"}
"""Settings that only a supernet's training depends on: how paths are drawn, what the trunk starts from,
whether weights are averaged."""


def retrain(config: Config, architectures: Sequence[Path], *, fresh: bool = False) -> list[Path]:
    """Train architectures one after another and measure them; returns the paths of their results.json.

    An interrupted training is resumed; what is trained or measured already is left as it is; `fresh` starts
    over. The result is written to `RUN_DIR/retrain/NAME/results.json`, and also beside the architecture's
    own file if that lies in the run's folder.

    Args:
        config: the experiment.
        architectures: files such as best_architecture.json.
        fresh: start over.

    Raises:
        ArchitectureError: a file is not an architecture's.
        UsageError: an architecture is of another space than the config's.
        ConfigError: there is no test split to measure on, or no data to train the classifier with.
        CheckpointError: the weights to start from are missing or do not fit.
    """
    config.require_detection_test()
    nets = [_FinalNet.of(config, path) for path in architectures]
    for net in nets:  # for all of them, before days of training the first
        net.check_start()
    with joined(config.hardware) as world:
        return [_retrain(net, world, fresh) for net in nets]


def check_start(config: Config, architecture: Architecture) -> Path | None:
    """The weights that the detector of an architecture starts from, checked; None if they are trained first.

    Also None for a start from scratch. Raises ConfigError and CheckpointError like `retrain`.
    """
    net = _FinalNet(config, Path(), architecture)
    net.check_start()
    return None if net.init == "classification" else net.start


@dataclass(frozen=True)
class _FinalNet:
    """One architecture being trained: where it is kept, and what it starts from."""

    config: Config
    source: Path
    architecture: Architecture

    @classmethod
    def of(cls, config: Config, source: Path) -> _FinalNet:
        architecture = Architecture.from_json(source, trusted=[config.space.name])
        if architecture.space != config.space.name:
            raise UsageError(
                f"{source}: an architecture of the space {architecture.space}, but the config has "
                f"{config.space.name}"
            )
        return cls(config, source, architecture)

    @property
    def init(self) -> str:
        """What the detector starts from: `classification`, `supernet`, `imagenet`, `scratch` or `file`."""
        return "file" if self.config.retrain.weights is not None else self.config.retrain.init

    @property
    def start(self) -> Path | None:
        """The weights that the detector starts from; None for a start from scratch."""
        match self.init:
            case "classification":
                return self.classifier_run.result
            case "supernet":
                return supernet_weights(self.config)
            case "imagenet":
                return self._published.path
        return self.config.retrain.weights

    @property
    def _published(self) -> Published:
        """Those of the supernet's start, if that is from ImageNet, too; the installed ones otherwise."""
        return imagenet_start(self.config) or published(self.config.space.name, key="retrain.init")

    @property
    def folder(self) -> Path:
        name = folder_name(self.architecture)
        if self.init != "classification":
            name += f"-{self.init}"
        return retrain_folder(self.config.run_dir) / name

    @property
    def classifier_run(self) -> TrainingRun:
        retraining = self.config.retrain
        settings = retraining.pretrain or self.config.pretrain
        data = self.config.require("data.classification")
        return TrainingRun(
            classifier_folder(self.config, folder_name(self.architecture)),
            self.config.fingerprint("seed", "space", data=data, **self._identity(settings)),
            NET,
        )

    def detector_run(self) -> TrainingRun:
        """The run of the detector; depends on the weights that it starts from, so it reads their file."""
        settings = self.config.retrain.finetune or self.config.finetune
        data = self.config.require("data.detection")
        origin = self._loaded()
        fingerprint = None if origin is None else origin.info.fingerprint
        identity = {"start": fingerprint, **self._identity(settings)}
        return TrainingRun(
            detector_folder(self.folder),
            self.config.fingerprint("seed", "space", "detector", data=data, **identity),
            NET,
            None if origin is None else origin.info.start,
        )

    def check_start(self) -> None:
        """Raise ConfigError or CheckpointError if there is nothing to start from, or it does not fit."""
        retraining = self.config.retrain
        settings = retraining.finetune or self.config.finetune
        key = "finetune.freeze" if retraining.finetune is None else "retrain.finetune.freeze"
        check_freeze(self.config.space.name, settings.freeze, key)
        if self.init != "classification":
            self._expect_test_unseen(self.starting_weights())
        elif self.config.data.classification is None:
            raise ConfigError(
                "the config has no `data.classification`, on which the net is trained before it becomes a "
                "detector; add it, or choose a start: --init supernet, --init scratch or --init FILE (or "
                "retrain.init, retrain.weights in the config)"
            )

    def starting_weights(self) -> Weights | None:
        """What the detector starts from, of this architecture alone; None for a start from scratch."""
        config = self.config
        weights = self._loaded()
        if weights is None:
            return None
        weights.expect(space=config.space.name, options=config.space.options)
        if self.init == "supernet":
            searched = config.evaluation.task == "detection"
            weights.expect_supernet(kind=config.detector.name if searched else CLASSIFIER)
        return weights_of_path(weights, self.architecture)

    def _expect_test_unseen(self, start: Weights | None) -> None:
        """CheckpointError if the supernet was trained on images that are now set apart for the test."""
        data = self.config.data
        if self.init != "supernet" or start.info.kind == CLASSIFIER or data.detection.test_holdout is None:
            return
        splits = open_detection(data.detection, self.config.seed, data.max_images, strict=data.strict)
        if start.info.set_apart != splits.set_apart:
            raise CheckpointError(
                f"{start.path}: was trained on images that data.detection.test_holdout sets apart now, so AP "
                "on them would be too high; train it anew (`detnas finetune --fresh`), set the key as it was "
                "then, or choose another start, such as --init scratch"
            )

    def _loaded(self) -> Weights | None:
        """The file that the detector starts from; None for a start from scratch."""
        if self.init == "imagenet":
            return published_supernet(self._published)
        return None if self.start is None else load_weights(self.start)

    def _identity(self, settings: Training) -> dict[str, Any]:
        values = settings.identity()
        training = {key: value for key, value in values.items() if key not in OF_SUPERNETS}
        return {"ops": self.architecture.ops, "training": training, "whole": self.config.retrain.held_out}


def _retrain(net: _FinalNet, world: World, fresh: bool) -> Path:
    config, retraining = net.config, net.config.retrain
    if world.is_main:
        named = str(net.architecture) or net.architecture.space
        _log.info("%s: the architecture %s, starting from %s", net.folder, named, net.init)
    if net.init == "classification" and not net.classifier_run.is_finished(fresh):
        settings = retraining.pretrain or config.pretrain
        job = ClassificationJob(config, settings, whole=retraining.held_out)
        train(job, net.classifier_run, world, net=net.architecture, fresh=fresh)
    run = net.detector_run()
    if not run.is_finished(fresh):
        job = DetectionJob(config, retraining.finetune or config.finetune, whole=retraining.held_out)
        weights = net.starting_weights()
        if weights is not None:
            _log.info("the detector starts from %s", weights.path)
        start = partial(job.start_from, weights)
        train(job, run, world, net=net.architecture, start_from=start, fresh=fresh)
    results = net.folder / RESULTS
    if world.is_main:
        _write_results(net, results, run.result, fresh)
    barrier()
    return results


def _write_results(net: _FinalNet, path: Path, detector: Path, fresh: bool) -> None:
    """Measure the detector and its classifier, unless these weights have been measured by this config."""
    config, architecture = net.config, net.architecture
    measured = {
        "config": config.fingerprint("seed", "space", "data", "detector", "evaluation"),
        "weights": {"file": str(detector), "sha256": file_hash(detector)},
    }
    results = read_document(path) if path.exists() and not fresh else {}
    if measured.items() <= results.items():
        _log.info("%s exists, for these weights; delete it to measure them again", path)
        searched = _search_metrics(net.source)  # maybe another search's, or the first that there are
        if searched is not None and searched != results["search"]:
            results["search"] = searched
            write_json(path, results)
    else:
        results = {
            **architecture.to_dict(cost=counts(architecture)),
            "init": net.init,
            "start": load_weights(detector).info.start,
            "seed": config.seed,
            "classification": _top1(net),
            "detection": measure_weights(config, detector, "test", architecture),
            "search": _search_metrics(net.source),
            **measured,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        }
        del results["metrics"], results["provenance"]
        write_json(path, results)
    if net.source.resolve().is_relative_to(config.run_dir.resolve()):
        write_json(results_beside(net.source), results)


def _top1(net: _FinalNet) -> Metrics | None:
    """Top-1 of the classifier that the detector started from; None for another start or no test images."""
    data = net.config.data.classification
    if net.init == "imagenet" or net.start is None or data is None or data.test is None:
        return None
    started = load_weights(net.start).info
    if started.kind != CLASSIFIER or started.ops is None:
        return None
    try:
        return measure_weights(net.config, net.start, "test", net.architecture)
    except (CheckpointError, DataError) as error:  # other classes, or its images are not here
        _log.warning("the top-1 of %s is not measured: %s", net.start, error)
        return None


def _search_metrics(source: Path) -> Metrics | None:
    """What the architecture's search measured; a published or a random one has no such metrics."""
    metrics = read_document(source).get("metrics") or {}
    return metrics if "default" in metrics else None


def summary(results: Sequence[Path]) -> str:
    """The results, one line per net, and for several their mean, spread and range."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in results]
    lines = []
    for path, document in zip(results, documents, strict=True):
        top1 = document["classification"]
        error = "" if top1 is None else f"  top-1 error {1 - top1['default']:.4f}"
        lines.append(f"{path}\n  AP on the test split {document['detection']['default']:.4f}{error}")
    if len(documents) > 1:
        values = [document["detection"]["default"] for document in documents]
        lines.append(
            f"{len(values)} nets: mean {statistics.mean(values):.4f}, standard deviation "
            f"{statistics.stdev(values):.4f}, from {min(values):.4f} to {max(values):.4f}"
        )
    return "\n".join(lines)


def folder_name(architecture: Architecture) -> str:
    """A folder name for an architecture: its space and, if that has choices, a hash of its ops."""
    if not architecture.ops:
        return architecture.space
    space = architecture.space.replace(":", "-")
    return f"{space}-{hashlib.sha256(str(architecture).encode()).hexdigest()[:8]}"
