"""Several searches at one budget: the best fitness so far of each, and mean and range over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detnas_nni.report import style
from detnas_nni.report.data import best_so_far
from detnas_nni.report.searches import ReportedSearch
from detnas_nni.search.journal import Evaluation

Curve = Callable[[Sequence[Evaluation]], np.ndarray]
"""A number after each evaluation, (N,)."""


@dataclass(frozen=True)
class Arm:
    """One search, or the seeds of one strategy. Arrays are (budget,), NaN while a search has no result."""

    label: str
    searches: tuple[ReportedSearch, ...]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Panel:
    """The arms that can share an axis: those guided by the same measure."""

    fitness: str
    arms: tuple[Arm, ...]

    @property
    def supernets(self) -> int:
        """How many supernets the arms' fitness was measured with; 0 if not known for all of them."""
        hashes = [search.supernet for arm in self.arms for search in arm.searches]
        return 0 if None in hashes else len(set(hashes))


def budget(searches: Sequence[ReportedSearch]) -> int:
    """The number of evaluations that every search has made, including failed and stopped ones."""
    return min(len(search.evaluations) for search in searches)


def panels(searches: Sequence[ReportedSearch], curve: Curve = best_so_far) -> list[Panel]:
    """The searches, cut to the shortest, by the measure that guides them; `curve` is what is drawn for each.

    Searches with one strategy in one space are seeds of one arm if their seeds are known and differ;
    otherwise they differ in something else, and each is an arm of its own.
    """
    length = budget(searches)
    groups: dict[tuple[str, str | None, str | None], list[ReportedSearch]] = defaultdict(list)
    for search in searches:
        groups[search.fitness, search.strategy, search.space].append(search)
    arms: dict[str, list[Arm]] = defaultdict(list)
    for (fitness, _, _), members in groups.items():
        if _are_seeds(members):
            arms[fitness].append(_arm(members[0].strategy_name, members, length, curve))
        else:
            for search in members:
                label = (
                    search.strategy_name if len(members) == 1 else f"{search.strategy_name}, {search.name}"
                )
                arms[fitness].append(_arm(label, [search], length, curve))
    return [Panel(fitness, _with_spaces(found)) for fitness, found in arms.items()]


def _are_seeds(searches: Sequence[ReportedSearch]) -> bool:
    seeds = {search.seed for search in searches}
    known = searches[0].strategy is not None and None not in seeds
    return len(searches) > 1 and known and len(seeds) == len(searches)


def _arm(label: str, searches: Sequence[ReportedSearch], length: int, curve: Curve) -> Arm:
    curves = np.array([curve(search.evaluations[:length]) for search in searches])
    # NaN until every seed has a result: a mean over fewer of them would jump.
    return Arm(label, tuple(searches), curves.mean(0), curves.min(0), curves.max(0))


def _with_spaces(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Add the space to the labels of arms that share a label but not a space."""
    labels = [arm.label for arm in arms]
    return tuple(
        arm
        if labels.count(arm.label) == 1
        else Arm(f"{arm.label}, space {arm.searches[0].space}", arm.searches, arm.mean, arm.low, arm.high)
        for arm in arms
    )


_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


def compared(panels: Sequence[Panel]) -> Figure:
    """The best so far of each arm; a panel for each measure, since measures share no axis."""
    figure = style.new_figure(0.6 + 3.2 * len(panels))
    rows = figure.subplots(len(panels), 1, squeeze=False).ravel()
    for axes, panel in zip(rows, panels, strict=True):
        draw_arms(axes, panel.arms)
        axes.set_ylabel(f"best {panel.fitness} so far")
        axes.legend(loc="lower right")
    return figure


def draw_arms(axes: Axes, arms: Sequence[Arm]) -> None:
    """A line for each arm over evaluations, and the range of its seeds."""
    for index, arm in enumerate(arms):
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
