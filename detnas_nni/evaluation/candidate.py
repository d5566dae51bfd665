"""Measure a net, one candidate of a supernet or a net that was trained on its own: AP or top-1."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from nni.nas.space import model_context
from torch import nn
from torch.optim import SGD

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.cost.limits import candidate_costs
from detnas_nni.cost.table import Cost
from detnas_nni.errors import EvaluationError
from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.evaluation.tasks import LONG, Metrics, Report, Split, open_task, unreported
from detnas_nni.models.batchnorm import fold_batch_norm
from detnas_nni.supernet.inherit import choice_prefixes, path_state
from detnas_nni.training.tensors import check_fit, fill
from detnas_nni.training.weights import CLASSIFIER, file_hash, load_weights
from detnas_nni.util.progress import watched
from detnas_nni.util.seeding import derive_seed


class HopelessError(Exception):
    """Stops the measurement of a candidate that misses the bar."""


@dataclass(frozen=True)
class Bar:
    """The fitness that a candidate has to reach on each part of the search split.

    Attributes:
        heights: fitness needed after the first part, the second, and so on, without the whole.
    """

    heights: tuple[float, ...]

    def is_missed(self, parts: Sequence[float]) -> bool:
        """Whether the fitness on the last of a candidate's parts so far is too low."""
        return len(parts) <= len(self.heights) and parts[-1] < self.heights[len(parts) - 1]


@dataclass(frozen=True)
class Result:
    """A candidate's metrics, its cost in the backbone convention, and the wall time it took."""

    metrics: Metrics
    """on the search split, or on the part of it on which the candidate was given up"""
    cost: Cost
    seconds: float
    parts: tuple[float, ...]
    """fitness on the growing parts of the split"""
    stopped: bool = False
    """whether it was given up"""

    def reported(self) -> dict[str, float]:
        """The one flat dict of numbers that NNI gets: metrics, cost (latency where it is known), seconds."""
        cost = self.cost.to_dict()
        return {
            **self.metrics,
            "MACs_M": cost.pop("macs") / 1e6,
            "params_M": cost.pop("params") / 1e6,
            **cost,
            "seconds": self.seconds,
        }


class CandidateEvaluation:
    """Evaluates candidates against one trained supernet, which no evaluation changes.

    Errors in the config, the data or the checkpoint are found on construction.

    Args:
        config: the experiment.
        supernet: the supernet's weights; those that the experiment trained if None.
        decoded: a folder for the decoded images of all candidates, from the first evaluation on; if
            None, each candidate decodes them again.

    Raises:
        CheckpointError: the supernet is missing, damaged, or of another space, detector or class list.
        DataError: a split is missing or damaged.
        LatencyError: the config names a latency table that is missing, damaged or of another space.
    """

    def __init__(self, config: Config, supernet: Path | None = None, *, decoded: Path | None = None) -> None:
        self.config = config
        self._decoded = decoded
        self.task = open_task(config)
        self.supernet = load_weights(supernet or self.task.checkpoint)
        self.supernet.expect_supernet(
            kind=self.task.kind,
            space=config.space.name,
            options=config.space.options,
            classes=self.task.classes,
        )
        space = self.task.build()
        check_fit(space, self.supernet.state, self.supernet.path, "the config's supernet")
        self._prefixes = choice_prefixes(space)
        self._table = candidate_costs(config)

    @cached_property
    def supernet_hash(self) -> str:
        """SHA-256 of the supernet's file."""
        return file_hash(self.supernet.path)

    def evaluate(
        self,
        architecture: Architecture,
        *,
        seed: int | None = None,
        report: Report = unreported,
        bar: Bar | None = None,
    ) -> Result:
        """Measure one candidate: build, inherit, fine-tune if the config says so, recalibrate, test.

        Args:
            architecture: the candidate.
            seed: of the calibration (and fine-tuning) images; the config's search seed if None. The result
                is a function of architecture, seed and config, not of what was evaluated before.
            report: gets the metrics on a growing part of the split.
            bar: what the fitness on a part has to reach; otherwise the rest is skipped.

        Raises:
            EvaluationError: a loss, a BN statistic or a metric is not finite.
        """
        started = time.perf_counter()
        if self._decoded is not None:
            self.task.keep_decoded(self._decoded, self._calibration(self.config.search_seed))
            self._decoded = None
        net = self.calibrated_net(architecture, seed=seed)
        fold_batch_norm(net)
        measured = _Measured(report, bar)
        with suppress(HopelessError):
            self.task.measure(net, measured)
        metrics = measured.metrics
        for key, value in metrics.items():
            if not math.isfinite(value):
                name = "fitness" if key == "default" else f"metric {key}"
                raise EvaluationError(f"the {name} of {architecture} is {value}, not a finite number")
        return Result(
            metrics,
            self._table.cost(architecture),
            time.perf_counter() - started,
            parts=tuple(measured.parts),
            stopped=measured.stopped,
        )

    def calibrated_net(self, architecture: Architecture, *, seed: int | None = None) -> nn.Module:
        """The net that `evaluate` measures, in eval mode: inherited, fine-tuned if asked, BN recalibrated.

        Arguments and errors as for `evaluate`.
        """
        seed = self.config.search_seed if seed is None else seed
        # torchvision samples proposals with torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "candidate"))
            # The same sums in a different order, in four fifths of the time (docs/performance.md).
            net = self.net(architecture).to(memory_format=torch.channels_last)
            self._finetune(net, seed, architecture)
            self._recalibrate(net, seed)
        _expect_finite_statistics(net, architecture)
        return net

    def net(self, architecture: Architecture) -> nn.Module:
        """The fixed net of an architecture with the supernet's weights, copied, in eval mode.

        Its BN statistics are still the supernet's: recalibrate before measuring.
        """
        with model_context(architecture.choices):
            net = self.task.build()
        state = path_state(self.supernet.state, self._prefixes, architecture)
        fill(net, state, self.supernet.path, f"the architecture {architecture}")
        return net.to(self.task.device).eval()

    def _finetune(self, net: nn.Module, seed: int, architecture: Architecture) -> None:
        iterations = self.config.evaluation.finetune_iterations
        if iterations == 0:
            return
        settings = self.config.finetune
        lr = self.config.evaluation.finetune_lr
        optimizer = SGD(net.parameters(), lr=lr, momentum=settings.momentum)
        net.train()
        seed = derive_seed(seed, "finetune")
        batches = self.task.training_batches(settings.batch_size, iterations, seed)
        batches = watched(batches, iterations, "fine-tuning the candidate", "step", delay=LONG)
        for step, batch in enumerate(batches, start=1):
            optimizer.zero_grad(set_to_none=True)
            loss = self.task.loss(net, batch)
            if not torch.isfinite(loss):
                raise EvaluationError(
                    f"the loss of {architecture} is {loss.item()} at step {step} of {iterations} of its "
                    "fine-tuning; lower evaluation.finetune_lr"
                )
            loss.backward()
            optimizer.step()
        net.eval()

    def _recalibrate(self, net: nn.Module, seed: int) -> None:
        size, steps, seed = self._calibration(seed)
        batches = self.task.training_batches(size, steps, seed)
        batches = watched(batches, steps, "recalibrating BN", "batch", delay=LONG)
        recalibrate(net, batches, self.task.calibrate, self.config.evaluation.calibration_momentum)

    def _calibration(self, seed: int) -> tuple[int, int, int]:
        """Batch size, steps and seed of the calibration batches."""
        settings = self.config.evaluation
        images = min(settings.calibration_images, self.task.training_images)
        steps = max(1, images // settings.calibration_batch_size)
        return settings.calibration_batch_size, steps, derive_seed(seed, "calibration")


class _Measured:
    """A report that keeps the results, and stops the measurement when the bar is missed."""

    def __init__(self, report: Report, bar: Bar | None) -> None:
        self.metrics: Metrics = {}
        self.parts: list[float] = []
        self.stopped = False
        self._report = report
        self._bar = bar

    def __call__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.parts.append(metrics["default"])
        self._report(metrics)
        if self._bar is not None and self._bar.is_missed(self.parts):
            self.stopped = True
            raise HopelessError


def _expect_finite_statistics(net: nn.Module, architecture: Architecture) -> None:
    """A net that computes NaN detects nothing, and an AP of 0 looks like a result."""
    for name, tensor in net.state_dict().items():
        if name.rpartition(".")[2] in ("running_mean", "running_var") and not torch.isfinite(tensor).all():
            raise EvaluationError(
                f"{name} of {architecture} is not finite after BN recalibration: its activations "
                "overflow with the supernet's weights"
            )


def is_single_net(path: Path) -> bool:
    """Whether a file holds a single net's weights, not a supernet's. Raises CheckpointError."""
    return load_weights(path).info.ops is not None


def measure_weights(
    config: Config, path: Path, split: Split = "search", architecture: Architecture | None = None
) -> Metrics:
    """The metrics to report for a net as it is: top-1 of a classifier, AP of a detector (COCO's by
    pycocotools).

    BN is not recalibrated: the statistics are the net's own.

    Args:
        config: the experiment, whose data it is measured on.
        path: the weights of a single net.
        split: `search` or `test`.
        architecture: what the net has to be; None accepts any.

    Raises:
        CheckpointError: the file holds no weights, a supernet's, or weights that do not fit the config.
        ConfigError, DataError: there is no such split, or it cannot be read.
    """
    weights = load_weights(path)
    weights.expect_single(architecture)
    kind = "classification" if weights.info.kind == CLASSIFIER else "detection"
    task = open_task(config, kind, split, official=True)
    weights.expect(
        kind=task.kind, space=config.space.name, options=config.space.options, classes=task.classes
    )
    with model_context(weights.info.architecture.choices):
        net = task.build()
    fill(net, weights.state, path)
    return task.measure(net.to(task.device).eval())
