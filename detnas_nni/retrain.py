"""The final net: an architecture trained on its own, then measured on the test splits no search has seen.

As in the paper [R]: the architecture is trained from scratch as a classifier by the supernet's recipe, then
as a detector. `retrain.init` starts the detector elsewhere: at the supernet's weights, or at nothing.
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
from detnas_nni.cost import counts
from detnas_nni.errors import UsageError
from detnas_nni.evaluate import measure_weights
from detnas_nni.export import versions
from detnas_nni.files import write_json
from detnas_nni.models import DetectorSpace
from detnas_nni.supernet.inherit import load_into, weights_of_path
from detnas_nni.training.distributed import World, barrier, joined
from detnas_nni.training.jobs import ClassificationJob, DetectionJob
from detnas_nni.training.loop import train
from detnas_nni.training.runs import TrainingRun, supernet_weights
from detnas_nni.training.weights import file_hash, load_weights

_log = logging.getLogger(__name__)


def retrain(config: Config, architectures: Sequence[Path], *, fresh: bool = False) -> list[Path]:
    """Train architectures one after the other and measure them; gives the paths of their results.json.

    A training that was interrupted is gone on with, a finished one is left as it is; `fresh` starts over. The
    result is written to `RUN_DIR/retrain/NAME/results.json`, and beside the architecture's own file where
    that lies in the run's folder.

    Args:
        config: the experiment.
        architectures: files such as best_architecture.json.
        fresh: train anew.

    Raises:
        ArchitectureError: a file is none of an architecture.
        UsageError: an architecture is of another space than the config's.
        ConfigError: there is no test split to measure on.
        CheckpointError: the weights to start from are missing or do not fit.
    """
    config.require("data.detection.test")
    nets = [_FinalNet.of(config, path) for path in architectures]
    with joined(config.hardware) as world:
        return [_retrain(net, world, fresh) for net in nets]


@dataclass(frozen=True)
class _FinalNet:
    """One architecture on its way: where it is kept, and what it starts from."""

    config: Config
    source: Path
    architecture: Architecture

    @classmethod
    def of(cls, config: Config, source: Path) -> _FinalNet:
        architecture = Architecture.from_json(source)
        if architecture.space != config.space.name:
            raise UsageError(
                f"{source}: an architecture of the space {architecture.space}, but the config has "
                f"{config.space.name}"
            )
        return cls(config, source, architecture)

    @property
    def init(self) -> str:
        """Where the detector starts: `classification`, `supernet`, `scratch` or `file`."""
        return "file" if self.config.retrain.weights is not None else self.config.retrain.init

    @property
    def folder(self) -> Path:
        name = _name(self.architecture)
        if self.init != "classification":
            name += f"-{self.init}"
        return self.config.run_dir / "retrain" / name

    @property
    def classifier_run(self) -> TrainingRun:
        retraining = self.config.retrain
        parent = retraining.classifier_dir or self.config.run_dir / "retrain"
        settings = retraining.pretrain or self.config.pretrain
        data = self.config.require("data.classification")
        return TrainingRun(
            parent / _name(self.architecture) / "classifier",
            self.config.fingerprint("seed", "space", data=data, **self._identity(settings)),
            "net.pt",
        )

    def detector_run(self, start: Path | None) -> TrainingRun:
        settings = self.config.retrain.finetune or self.config.finetune
        data = self.config.require("data.detection")
        origin = None if start is None else load_weights(start).info.fingerprint
        identity = {"start": origin, **self._identity(settings)}
        return TrainingRun(
            self.folder / "detector",
            self.config.fingerprint("seed", "space", "detector", data=data, **identity),
            "net.pt",
        )

    def _identity(self, settings: Training) -> dict[str, Any]:
        return {"ops": self.architecture.ops, "training": settings.identity()}


def _retrain(net: _FinalNet, world: World, fresh: bool) -> Path:
    config, retraining = net.config, net.config.retrain
    if world.is_main:
        _log.info("%s: the architecture %s, starting from %s", net.folder, net.architecture, net.init)
    classifier = retraining.weights
    if net.init == "classification":
        run = net.classifier_run
        classifier = run.result
        if not run.is_finished(fresh):
            job = ClassificationJob(config, retraining.pretrain or config.pretrain)
            train(job, run, world, net=net.architecture, fresh=fresh)
    start = supernet_weights(config) if net.init == "supernet" else classifier
    run = net.detector_run(start)
    if not run.is_finished(fresh):
        train(
            DetectionJob(config, retraining.finetune or config.finetune),
            run,
            world,
            net=net.architecture,
            start_from=None if start is None else partial(_start, config, start, net.architecture),
            fresh=fresh,
        )
    results = net.folder / "results.json"
    if world.is_main:
        _write_results(net, results, run.result, classifier)
    barrier()
    return results


def _start(config: Config, path: Path, architecture: Architecture, model: DetectorSpace) -> None:
    """Put weights into a detector: all of the same detector's, the trunk of any other net's."""
    weights = load_weights(path)
    weights.expect(space=config.space.name, options=config.space.options)
    weights = weights_of_path(weights, architecture)
    _log.info("the detector starts from %s", path)
    if weights.info.kind == config.detector.name:
        load_into(model, weights.state, path)
    else:
        load_into(model.trunk, weights.trunk_state, path)


def _write_results(net: _FinalNet, path: Path, detector: Path, classifier: Path | None) -> None:
    config, architecture = net.config, net.architecture
    top1 = None
    if classifier is not None and config.data.classification and config.data.classification.test:
        top1 = measure_weights(config, classifier, "test", architecture)
    results = {
        **architecture.to_dict(cost=counts(architecture)),
        "init": net.init,
        "seed": config.seed,
        "classification": top1,
        "detection": measure_weights(config, detector, "test", architecture),
        "search": read_document(net.source).get("metrics") or None,
        "weights": {"file": str(detector), "sha256": file_hash(detector)},
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    del results["metrics"], results["provenance"]
    write_json(path, results)
    if net.source.resolve().is_relative_to(config.run_dir.resolve()):
        write_json(net.source.with_suffix(".results.json"), results)


def summary(results: Sequence[Path]) -> str:
    """What came out, a line a net, and of several their mean, spread and range."""
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


def _name(architecture: Architecture) -> str:
    """A folder's name for an architecture: its space and, where there is a choice, a hash of its ops."""
    if not architecture.ops:
        return architecture.space
    space = architecture.space.replace(":", "-")
    return f"{space}-{hashlib.sha256(str(architecture).encode()).hexdigest()[:8]}"
