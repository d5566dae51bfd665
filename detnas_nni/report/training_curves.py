"""What the trainings of a run have logged for TensorBoard, as curves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detnas_nni.config import Config
from detnas_nni.config.run_folder import (
    TENSORBOARD,
    classifier_folder,
    detector_folder,
    finetune_folder,
    pretrain_folder,
    retrain_folder,
)
from detnas_nni.report import style

Steps = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curve:
    """The losses of one training, each (step, mean since the last step), ascending."""

    name: str
    loss: Steps
    terms: dict[str, Steps]
    """the terms of the sum, by name"""


@dataclass(frozen=True)
class TrainingCurves:
    """One kind of training, and a curve for each net that had it."""

    title: str
    curves: tuple[Curve, ...]


def trainings(config: Config) -> list[TrainingCurves]:
    """The trainings of a run that have logged anything, in the order of the steps."""
    retrained = sorted(path for path in retrain_folder(config.run_dir).glob("*") if path.is_dir())
    folders = {
        "supernet, pretrain": [("supernet", pretrain_folder(config))],
        "supernet, finetune": [("supernet", finetune_folder(config))],
        "retrain, classifier": [(net.name, classifier_folder(config, net.name)) for net in retrained],
        "retrain, detector": [(net.name, detector_folder(net)) for net in retrained],
    }
    found = []
    for title, named in folders.items():
        curves = [curve for name, folder in named if (curve := read_curve(name, folder)) is not None]
        if curves:
            found.append(TrainingCurves(title, tuple(curves)))
    return found


def read_curve(name: str, folder: Path) -> Curve | None:
    """The curve of the training in a folder; None if it has logged nothing. A resumed training counts as one.

    Like TensorBoard, it reads a file as far as it is intact: that of a running training may end anywhere.
    """
    events = folder / TENSORBOARD
    if not any(events.glob("events.out.tfevents.*")):
        return None
    scalars = _scalars(events)
    loss = scalars.pop("loss", ())
    if not loss:
        return None
    terms = {tag.partition("/")[2]: steps for tag, steps in scalars.items() if tag.startswith("loss/")}
    return Curve(name, loss, terms)


def _scalars(events: Path) -> dict[str, Steps]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it logs how long it reads, for each file
    accumulator = EventAccumulator(str(events), size_guidance={"scalars": 0})
    accumulator.Reload()
    scalars = {}
    for tag in accumulator.Tags()["scalars"]:
        # A step that was trained again after a crash is there twice: the later one counts. The order of the
        # files is no guide: those of one second are numbered, and sorted as text, 10 before 9.
        events_in_time = sorted(accumulator.Scalars(tag), key=lambda event: event.wall_time)
        by_step = {event.step: event.value for event in events_in_time}
        scalars[tag] = tuple(sorted(by_step.items()))
    return scalars


_MOST_NETS_NAMED = 6


def losses(trainings: Sequence[TrainingCurves]) -> Figure:
    """One panel per training: the loss over steps; for a single net also the terms of its sum."""
    columns = min(2, len(trainings))
    rows = -(-len(trainings) // columns)
    figure = style.new_figure(0.3 + 2.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, training in zip(grid, trainings, strict=False):
        _training(axes, training)
    for axes in grid[len(trainings) :]:
        axes.set_visible(False)
    return figure


def _training(axes: Axes, training: TrainingCurves) -> None:
    alone = len(training.curves) == 1
    for index, curve in enumerate(training.curves):
        colour = style.INK if alone else style.SERIES[index % len(style.SERIES)]
        few = len(training.curves) <= _MOST_NETS_NAMED
        label = "loss" if alone else curve.name if few else None
        marker = "o" if len(curve.loss) <= 30 else None
        axes.plot(*zip(*curve.loss, strict=True), color=colour, marker=marker, markersize=3, label=label)
        terms = curve.terms if alone and len(curve.terms) > 1 else {}
        for number, (name, steps) in enumerate(sorted(terms.items())):
            colour = style.SERIES[number % len(style.SERIES)]
            name = name.removeprefix("loss_").replace("_", " ")
            axes.plot(*zip(*steps, strict=True), color=colour, linewidth=1.0, label=name)
    axes.set_ylim(0, 1.08 * max(value for curve in training.curves for _, value in curve.loss))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_title(training.title)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")
