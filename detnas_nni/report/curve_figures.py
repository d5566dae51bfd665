"""Figures of curves: the trainings' losses, and several searches against each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detnas_nni.report import style
from detnas_nni.report.comparison import Panel
from detnas_nni.report.training_curves import Training

_MOST_NETS_NAMED = 6
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


def losses(trainings: Sequence[Training]) -> Figure:
    """A panel a training: the loss over steps; of a single net also the parts that it is the sum of."""
    columns = min(2, len(trainings))
    rows = -(-len(trainings) // columns)
    figure = style.new_figure(0.3 + 2.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, training in zip(grid, trainings, strict=False):
        _training(axes, training)
    for axes in grid[len(trainings) :]:
        axes.set_visible(False)
    return figure


def _training(axes: Axes, training: Training) -> None:
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


def compared(panels: Sequence[Panel]) -> Figure:
    """The best so far of each arm; a panel for each measure, since these have no axis in common."""
    figure = style.new_figure(0.6 + 3.2 * len(panels))
    rows = figure.subplots(len(panels), 1, squeeze=False).ravel()
    for axes, panel in zip(rows, panels, strict=True):
        for index, arm in enumerate(panel.arms):
            colour = style.SERIES[index % len(style.SERIES)]
            n = len(arm.searches)
            evaluations = np.arange(1, len(arm.mean) + 1)
            if n > 1:
                axes.fill_between(
                    evaluations, arm.low, arm.high, step="post", color=colour, alpha=0.18, linewidth=0
                )
            axes.plot(
                evaluations,
                arm.mean,
                drawstyle="steps-post",
                color=colour,
                linestyle=_DASHES[index % len(_DASHES)],
                marker="o" if len(arm.mean) == 1 else None,
                label=f"{arm.label}, mean and range of {n} seeds" if n > 1 else arm.label,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("evaluations")
        axes.set_ylabel(f"best {panel.fitness} so far")
        axes.legend(loc="lower right")
    return figure
