"""Figures of one search: numbers in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from detnas_nni.config import Constraint
from detnas_nni.report import style
from detnas_nni.report.data import (
    ENDINGS,
    Agreement,
    best_so_far,
    candidate_names,
    choice_shares,
    ending,
    generation_bands,
    pareto_front,
)
from detnas_nni.report.searches import PublishedNet, ReportedSearch
from detnas_nni.search.journal import Evaluation
from search_spaces import Choice

_MOST_BANDS_NAMED = 25
_MOST_CELLS_NAMED = 24  # blocks up to which a share fits into its cell

_ENDING_COLOURS = dict(zip(ENDINGS, (style.BLUE, style.VERMILLION, style.PURPLE), strict=True))
_ENDING_MARKERS = dict(zip(ENDINGS, ("o", "x", "|"), strict=True))


def progress(search: ReportedSearch) -> Figure:
    """Fitness over evaluations, by origin, with the best so far and the generations as bands."""
    figure = style.new_figure(3.7)
    axes = figure.subplots()
    evaluations = search.evaluations
    _shade_generations(axes, evaluations)
    finished = [(x, e) for x, e in enumerate(evaluations) if e.fitness is not None]
    origins = sorted({e.origin for _, e in finished}, key=_origin_order)
    for index, origin in enumerate(origins):
        points = [(x, e.fitness) for x, e in finished if e.origin == origin]
        axes.scatter(
            *zip(*points, strict=True),
            s=style.marker_area(len(evaluations)),
            c=style.SERIES[index % len(style.SERIES)],
            marker=style.MARKERS[index % len(style.MARKERS)],
            alpha=0.8,
            linewidths=0,
            label=origin,
            zorder=3,
        )
    if finished:
        best = best_so_far(evaluations)
        axes.plot(best, color=style.INK, drawstyle="steps-post", linewidth=1.3, label="best so far", zorder=4)
        x = int(np.nanargmax(best))
        axes.annotate(
            f"{best[x]:.4f}", (x, best[x]), (0, 5), textcoords="offset points", ha="center", weight="bold"
        )
        axes.margins(y=0.18)
    else:
        axes.set_yticks([])
    at_the_foot = blended_transform_factory(axes.transData, axes.transAxes)
    for end in ("failed", "stopped"):
        places = [x for x, e in enumerate(evaluations) if ending(e) == end]
        if places:
            axes.scatter(
                places,
                [0.03] * len(places),
                s=26,
                c=_ENDING_COLOURS[end],
                marker=_ENDING_MARKERS[end],
                linewidths=1.2,
                transform=at_the_foot,
                label="failed" if end == "failed" else "stopped early",
                zorder=3,
            )
    axes.set_xlim(-0.7, len(evaluations) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("evaluation, in the order in which they ended")
    axes.set_ylabel(f"{search.fitness} on the search split")
    style.legend_above(axes)
    return figure


def _origin_order(origin: str) -> tuple[int, str]:
    known = ("random", "mutation", "crossover", "given")
    return (known.index(origin) if origin in known else len(known), origin)


def _shade_generations(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    bands = generation_bands(evaluations)
    every = -(-len(bands) // _MOST_BANDS_NAMED)
    for number, band in enumerate(bands):
        if number % 2:
            axes.axvspan(band.first - 0.5, band.last + 0.5, color=style.BAND, linewidth=0, zorder=0)
        if len(bands) > 1 and number % every == 0:
            axes.text(
                (band.first + band.last) / 2,
                0.985,
                f"gen {band.generation}" if len(bands) <= 10 else str(band.generation),
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="top",
                color=style.MUTED,
                fontsize=7,
            )


def cost(search: ReportedSearch, published: Sequence[PublishedNet], constraint: Constraint) -> Figure:
    """Fitness over MACs and over parameters, with the Pareto fronts; published nets by their cost alone."""
    figure = style.new_figure(4.3)
    both = figure.subplots(1, 2, sharey=True)
    limits = (constraint.max_macs, constraint.max_params)
    names = (f"MACs at {constraint.resolution} px, millions", "parameters, millions")
    for axes, key, name, limit in zip(both, ("macs", "params"), names, limits, strict=True):
        points = _cost_panel(axes, search, key)
        axes.set_xlabel(name)
        lines = [(getattr(net.cost, key) / 1e6, chr(ord("A") + i)) for i, net in enumerate(published)]
        if limit is not None:
            axes.axvline(limit / 1e6, color=style.VERMILLION, linewidth=1.0, label="limit of the search")
        _mark_published(axes, lines)
    both[0].set_ylabel(f"{search.fitness} on the search split")
    if len({e.generation for e in search.finished}) > 1:
        bar = figure.colorbar(points, ax=both, shrink=0.7, pad=0.015, label="generation")
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        style.plain(bar)
    handles, labels = both[0].get_legend_handles_labels()
    more = dict(zip(*reversed(both[1].get_legend_handles_labels()), strict=True))
    named = dict(zip(labels, handles, strict=True)) | more
    figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=4)
    return figure


def _cost_panel(axes: Axes, search: ReportedSearch, key: str) -> PathCollection:
    finished = search.finished
    costs = np.array([e.cost[key] / 1e6 for e in finished])
    fitness = np.array([e.fitness for e in finished])
    points = axes.scatter(
        costs,
        fitness,
        s=style.marker_area(len(finished)),
        c=[e.generation for e in finished],
        cmap=style.GENERATIONS,
        alpha=0.85,
        linewidths=0,
        label="a candidate",
        zorder=3,
    )
    front = pareto_front(costs, fitness)
    axes.plot(
        costs[front],
        fitness[front],
        color=style.INK,
        drawstyle="steps-post",
        linewidth=1.0,
        marker="o",
        markersize=6,
        markerfacecolor="none",
        markeredgewidth=1.0,
        label="Pareto front",
        zorder=4,
    )
    axes.margins(0.06)
    return points


def _mark_published(axes: Axes, lines: Sequence[tuple[float, str]]) -> None:
    """A dotted line and a letter for each net; letters that would touch are stacked."""
    axes.autoscale_view()
    for place, _ in lines:
        axes.axvline(place, color=style.MUTED, linestyle=(0, (1, 2)), linewidth=1.1, zorder=2)
    axes.autoscale_view()
    low, high = axes.get_xlim()
    rows: list[float] = []  # position of the last letter in each row
    for place, letter in sorted(lines):
        row = next((r for r, last in enumerate(rows) if place - last > 0.04 * (high - low)), len(rows))
        rows[row : row + 1] = [place]
        axes.text(
            place,
            1.01 + 0.045 * row,
            letter,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=7.5,
            weight="bold",
            color=style.MUTED,
        )


def choices(layout: Sequence[Choice], search: ReportedSearch, top: Sequence[Evaluation]) -> Figure:
    """Two heat maps: how often each candidate is chosen in each block, in the best and in all evaluated."""
    names, blocks = candidate_names(layout), len(layout)
    figure = style.new_figure(0.9 + 2 * (0.35 + 0.27 * len(names)))
    both = figure.subplots(2, 1, sharex=True)
    titles = (
        "the best" if len(top) == 1 else f"the {len(top)} best",
        f"all {len(search.evaluations)} evaluated",
    )
    for axes, title, evaluations in zip(both, titles, (top, search.evaluations), strict=True):
        shares = choice_shares(layout, [e.ops for e in evaluations])
        mesh = axes.pcolormesh(
            shares, cmap="Blues", vmin=0, vmax=1, edgecolors=style.PAPER, linewidth=1.5, rasterized=False
        )
        axes.set_title(title)
        axes.set_yticks(np.arange(len(names)) + 0.5, [style.pretty(name) for name in names])
        axes.set_xticks(np.arange(blocks) + 0.5, [str(block) for block in range(blocks)])
        axes.grid(visible=False)
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if blocks <= _MOST_CELLS_NAMED:
            _write_shares(axes, shares)
    both[1].set_xlabel("block")
    bar = figure.colorbar(mesh, ax=both, shrink=0.8, pad=0.015, label="share of the architectures")
    style.plain(bar)
    return figure


def _write_shares(axes: Axes, shares: np.ndarray) -> None:
    for (row, block), share in np.ndenumerate(shares):
        if np.isfinite(share):
            colour = "#fdfdfd" if share > 0.55 else style.ON_COLOUR
            text = f"{100 * share:.0f}"
            axes.text(block + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=7)


def ranking(search: ReportedSearch, agreements: Sequence[Agreement]) -> Figure:
    """The fitness in the supernet against the AP of the same net, trained on its own."""
    figure = style.new_figure(3.8, 5.6)
    axes = figure.subplots()
    for index, agreement in enumerate(agreements):
        axes.scatter(
            [pair.supernet for pair in agreement.pairs],
            [pair.retrained for pair in agreement.pairs],
            s=36,
            c=style.SERIES[index % len(style.SERIES)],
            marker=style.MARKERS[index % len(style.MARKERS)],
            linewidths=0,
            label=f"start: {agreement.init} (n = {len(agreement.pairs)})",
            zorder=3,
        )
    axes.margins(0.1)
    axes.set_xlabel(f"{search.fitness} on the search split, weights of the supernet")
    axes.set_ylabel("AP on the test split, trained on its own")
    style.legend_above(axes, columns=2)
    return figure


def seconds(search: ReportedSearch) -> Figure:
    """How long each evaluation took, by how it ended."""
    figure = style.new_figure(2.7)
    axes = figure.subplots()
    for end in ENDINGS:
        points = [
            (x, e.seconds)
            for x, e in enumerate(search.evaluations)
            if e.seconds is not None and ending(e) == end
        ]
        if points:
            axes.scatter(
                *zip(*points, strict=True),
                s=style.marker_area(len(search.evaluations)) * (1 if end == "finished" else 1.4),
                c=_ENDING_COLOURS[end],
                marker=_ENDING_MARKERS[end],
                linewidths=0 if end == "finished" else 1.2,
                alpha=0.85,
                label="stopped early" if end == "stopped" else end,
                zorder=3,
            )
    axes.set_xlim(-0.7, len(search.evaluations) - 0.3)
    longest = max((e.seconds for e in search.evaluations if e.seconds is not None), default=0.0)
    axes.set_ylim(0, 1.1 * longest or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("evaluation, in the order in which they ended")
    axes.set_ylabel("seconds")
    style.legend_above(axes)
    return figure
