"""The front of a search: how it grew, its volume, and the AP of its members when trained on their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detnas_nni.architecture import Ops
from detnas_nni.config import Config
from detnas_nni.cost.limits import candidate_costs
from detnas_nni.finished.results import final_results
from detnas_nni.report import style
from detnas_nni.report.comparison import Arm, draw_arms, panels
from detnas_nni.report.searches import ReportedSearch
from detnas_nni.search.front import front
from detnas_nni.search.journal import Evaluation
from detnas_nni.search.nondominated import Point, front_of, hypervolume


@dataclass(frozen=True)
class Axis:
    """A cost as named in a journal, and as shown in a figure."""

    objective: str
    key: str
    name: str
    label: str
    unit: float


_AXES = {
    "macs": Axis("macs", "macs", "MACs", "MACs, millions", 1e6),
    "params": Axis("params", "params", "parameters", "parameters, millions", 1e6),
    "latency": Axis("latency", "latency_ms", "latency", "latency, ms", 1.0),
}


def volume_so_far(evaluations: Sequence[Evaluation], key: str, least: float, greatest: float) -> np.ndarray:
    """The mean, over budgets from the least to the greatest cost, of the best fitness within each.

    After each evaluation, (N,). It is the hypervolume of fitness and cost up to the reference point of
    fitness 0 and the greatest cost, over the width of that box.
    """
    volumes: list[float] = []
    points: list[Point] = []
    value = 0.0
    for evaluation in evaluations:
        if evaluation.fitness is not None:
            points.append((-evaluation.fitness, float(evaluation.cost[key])))
            points = [points[i] for i in front_of(points)]
            value = hypervolume(points, (0.0, greatest)) / (greatest - least)
        volumes.append(value)
    return np.array(volumes)


@dataclass(frozen=True)
class Fronts:
    """What the exhibit shows for a search.

    Attributes:
        axis: the first of the config's objectives.
        members: of the front over all objectives, fittest first.
        growth: for each generation the positions of the front so far, among the finished evaluations.
        retrained: of members that were trained on their own, the AP on the test split by where they started.
        least: the lowest cost in the space.
        greatest: the highest.
        arms: the volumes of this search and of those compared with it.
        left_out: names of searches that have none to compare.
    """

    axis: Axis
    members: tuple[Evaluation, ...]
    growth: Mapping[int, tuple[int, ...]]
    retrained: Mapping[Ops, Mapping[str, float]]
    least: float
    greatest: float
    arms: tuple[Arm, ...]
    left_out: tuple[str, ...]

    @property
    def head(self) -> tuple[str, ...]:
        """The table's head, after the rank."""
        latency = ("latency, ms",) if self._has_latency else ()
        test = ("AP on its own, test split",) if self.retrained else ()
        return ("fitness in the supernet", "MACs, M", "parameters, M", *latency, *test, "ops")

    def rows(self) -> list[tuple[str, ...]]:
        """One row per member, fittest first."""
        found = []
        for member in self.members:
            cost = member.cost
            row = [f"{member.fitness:.4f}", f"{cost['macs'] / 1e6:.2f}", f"{cost['params'] / 1e6:.4f}"]
            row += [f"{cost['latency_ms']:.2f}"] if self._has_latency else []
            if self.retrained:
                aps = self.retrained.get(member.ops, {})
                row.append(", ".join(f"{ap:.4f} ({init})" for init, ap in aps.items()) or "–")
            found.append((*row, ",".join(map(str, member.ops))))
        return found

    @property
    def _has_latency(self) -> bool:
        return all("latency_ms" in member.cost for member in self.members)

    def draw(self, search: ReportedSearch) -> Figure:
        """The front after each generation, and the volume over evaluations."""
        figure = style.new_figure(3.7)
        left, right = figure.subplots(1, 2)
        self._draw_growth(figure, left, search)
        draw_arms(right, self.arms)
        right.set_ylabel(f"best {search.fitness} within a budget, mean over budgets")
        right.legend(loc="lower right")
        return figure

    def _draw_growth(self, figure: Figure, axes: Axes, search: ReportedSearch) -> None:
        finished, generations = search.finished, list(self.growth)
        colours = style.GENERATIONS
        scale = mpl.colors.Normalize(generations[0], max(generations[-1], generations[0] + 1))
        costs = np.array([e.cost[self.axis.key] for e in finished]) / self.axis.unit
        fitness = np.array([e.fitness for e in finished])
        axes.scatter(costs, fitness, s=6, c=style.MUTED, alpha=0.35, linewidths=0, zorder=2)
        for generation, positions in self.growth.items():
            ordered = sorted(positions, key=lambda i: (costs[i], fitness[i]))
            last = generation == generations[-1]
            axes.plot(
                [*costs[ordered], costs.max()],
                [*fitness[ordered], fitness[ordered[-1]]],
                drawstyle="steps-post",
                color=colours(scale(generation)),
                linewidth=1.8 if last else 0.9,
                zorder=4 if last else 3,
            )
        for member in self.members:
            for ap in self.retrained.get(member.ops, {}).values():
                x = member.cost[self.axis.key] / self.axis.unit
                axes.plot([x, x], [member.fitness, ap], color=style.VERMILLION, linewidth=0.8, zorder=5)
                axes.plot(x, ap, "D", color=style.VERMILLION, markersize=5, zorder=6)
        if len(generations) > 1:
            mappable = mpl.cm.ScalarMappable(scale, colours)
            bar = figure.colorbar(mappable, ax=axes, shrink=0.7, pad=0.02, label="generation")
            bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            style.plain(bar)
        axes.margins(0.06)
        axes.set_xlabel(self.axis.label)
        axes.set_ylabel(search.fitness)


def fronts(search: ReportedSearch, others: Sequence[ReportedSearch], config: Config) -> Fronts:
    """The front of a search with at least one finished evaluation, and searches to compare it with.

    Raises ArchitectureError for a damaged results.json, EvaluationError and LatencyError for an objective
    that the journal, or the config's latency table, does not have.
    """
    objectives = config.search.objectives
    axis = _AXES[objectives[0]]
    members = front(search.evaluations, objectives)
    least, greatest = _range(config, axis.key)
    comparable = [other for other in others if _compares(other, search, axis.key)]
    curve = partial(volume_so_far, key=axis.key, least=least, greatest=greatest)
    (panel,) = panels([search, *comparable], curve)
    return Fronts(
        axis=axis,
        members=tuple(members),
        growth=_growth(search.finished, axis.key),
        retrained=_retrained(config, members),
        least=least,
        greatest=greatest,
        arms=panel.arms,
        left_out=tuple(other.name for other in others if other not in comparable),
    )


def _compares(other: ReportedSearch, search: ReportedSearch, key: str) -> bool:
    same = (other.space, other.fitness) == (search.space, search.fitness)
    return same and all(key in evaluation.cost for evaluation in other.evaluations)


def _range(config: Config, key: str) -> tuple[float, float]:
    """The lowest and highest cost that an architecture of the space can have."""
    table = candidate_costs(config)
    blocks = [[cost.to_dict()[key] for cost in row] for row in table.blocks]
    base = table.base.to_dict()[key]
    return base + sum(map(min, blocks)), base + sum(map(max, blocks))


def _growth(finished: Sequence[Evaluation], key: str) -> dict[int, tuple[int, ...]]:
    """The front in fitness and one cost, after each generation."""
    points = [(-e.fitness, e.cost[key]) for e in finished]
    growth = {}
    for generation in sorted({e.generation for e in finished}):
        so_far = [i for i, e in enumerate(finished) if e.generation <= generation]
        growth[generation] = tuple(so_far[i] for i in front_of([points[i] for i in so_far]))
    return growth


def _retrained(config: Config, members: Sequence[Evaluation]) -> dict[Ops, dict[str, float]]:
    """Of members, the AP on the test split by where their training started; COCO's -1 says nothing."""
    wanted = {member.ops for member in members}
    found: dict[Ops, dict[str, float]] = defaultdict(dict)
    for result in final_results(config.run_dir, config.space.name):
        ops = result.architecture.ops
        if result.architecture.space == config.space.name and ops in wanted and result.detection >= 0:
            found[ops][result.init] = result.detection
    return dict(found)
