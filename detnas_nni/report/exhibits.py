"""What a report shows, in order: each figure with its title, its caption, and a table where numbers help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from detnas_nni.architecture import Architecture
from detnas_nni.audit.statistics import LEAST
from detnas_nni.config import Config
from detnas_nni.report import figures
from detnas_nni.report.architecture_drawing import Column, draw_architectures, stages
from detnas_nni.report.audited import audited
from detnas_nni.report.comparison import Panel, budget, compared, panels
from detnas_nni.report.data import ENDINGS, Agreement, agreements, best_so_far, pareto_front, times
from detnas_nni.report.fronts import fronts
from detnas_nni.report.searches import PublishedNet, ReportedSearch, published_nets
from detnas_nni.report.training_curves import losses, trainings
from detnas_nni.search.outcomes import kinds
from detnas_nni.util.text import duration, listed, millions, number
from search_spaces import layout

TOP = 10
"""How many of the best are listed, and compared with all."""


@dataclass(frozen=True)
class Table:
    """Text, one tuple per row; the columns after the first `texts` hold numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1


@dataclass(frozen=True)
class Exhibit:
    """One section of the report.

    Attributes:
        name: of its files.
        title: the heading.
        caption: what is shown, and for how many.
        figure: None if there is nothing to draw; the caption then says why.
        table: numbers to go with the figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None = None
    table: Table | None = None


NAMES = ("progress", "cost", "front", "architecture", "choices", "ranking", "time", "training", "comparison")
"""Of all exhibits, in order."""


def exhibits(config: Config, search: ReportedSearch, others: Sequence[ReportedSearch]) -> list[Exhibit]:
    """All exhibits of a report; the comparison is included if there are others to compare with.

    Raises ArchitectureError for a damaged results.json, AuditError for a damaged audit.json.
    """
    published = published_nets(config.space.name, config.search.constraint.resolution)
    make: list[Callable[[], Exhibit]] = [
        lambda: _progress(search),
        lambda: _cost(search, published, config),
        lambda: _front(search, others, config),
        lambda: _architecture(search, published, config),
        lambda: _choices(search, config),
        lambda: _ranking(search, config),
        lambda: _time(search),
        lambda: _training(config),
    ]
    if others:
        make.append(lambda: _comparison([search, *others]))
    return [one() for one in make]


def _progress(search: ReportedSearch) -> Exhibit:
    n, finished = len(search.evaluations), search.finished
    generations = len({e.generation for e in search.evaluations})
    title = f"{search.fitness} as the search went on"
    caption = (
        f"Each point is a candidate, measured with the supernet's weights on the search split "
        f"(n = {number(n, 'evaluation')}, {len(finished)} of them with a result, in "
        f"{number(generations, 'generation')}, which are the bands)."
    )
    caption += " The line is the best so far." if finished else f" No candidate has {search.fitness} yet."
    if search.failed:
        caption += f" A cross at the bottom is a candidate that failed ({len(search.failed)})."
    if search.stopped:
        caption += (
            " A dash at the bottom is one that was given up on a part of the search split, by racing or in "
            f"NNI, and so has no {search.fitness} ({len(search.stopped)})."
        )
    return Exhibit("progress", title, caption, figures.progress(search))


def _cost(search: ReportedSearch, published: Sequence[PublishedNet], config: Config) -> Exhibit:
    title = f"{search.fitness} and cost"
    finished = search.finished
    if not finished:
        return Exhibit("cost", title, f"No candidate has {search.fitness} yet.")
    fitness = [e.fitness for e in finished]
    fronts = [len(pareto_front([e.cost[key] for e in finished], fitness)) for key in ("macs", "params")]
    caption = (
        f"Candidates with a result (n = {len(finished)}); the colour is the generation. Costs are those of "
        "the backbone, without the detector around it. Circled and joined are the Pareto fronts: nothing "
        f"evaluated is both cheaper and better ({fronts[0]} over MACs, {fronts[1]} over parameters)."
    )
    limit = config.search.constraint
    if limit.max_macs is not None or limit.max_params is not None:
        caption += " The solid line is the limit that candidates keep."
    table = None
    if published:
        caption += (
            " Dotted lines are the published nets of this space, lettered as in the table. Only their "
            f"cost is comparable: their {search.fitness} in this supernet was not measured."
        )
        rows = tuple(
            (chr(ord("A") + i), net.name, f"{net.cost.macs / 1e6:.1f}", f"{net.cost.params / 1e6:.3f}")
            for i, net in enumerate(published)
        )
        table = Table(("", "published net", "MACs, M", "parameters, M"), rows, texts=2)
    else:
        caption += " There are no published nets of this space to mark."
    return Exhibit("cost", title, caption, figures.cost(search, published, limit), table)


def _front(search: ReportedSearch, others: Sequence[ReportedSearch], config: Config) -> Exhibit:
    title = "The front, budget by budget"
    if not search.finished:
        return Exhibit("front", title, f"No candidate has {search.fitness} yet.")
    shown = fronts(search, others, config)
    budgets = f"from {millions(shown.least)} to {millions(shown.greatest)}"
    if shown.axis.key == "latency_ms":
        budgets = f"from {shown.least:.2f} to {shown.greatest:.2f} ms"
    caption = (
        f"Left, what nothing evaluated so far beats in {search.fitness} and {shown.axis.name}, after each "
        "generation; the last line is what the search has found for every budget. Right, how much that is: "
        f"the mean of the best {search.fitness} within a budget, over all budgets of the space, {budgets} "
        f"(the hypervolume up to the reference point of {search.fitness} 0 and {shown.axis.name} "
        f"{budgets.split(' to ')[1]}, as a share of its box)."
    )
    if shown.retrained:
        caption += (
            f" Diamonds are members that were trained on their own ({len(shown.retrained)}): their AP on the "
            "test split, above or below what the supernet had predicted for them on the search split."
        )
    else:
        caption += " `detnas retrain --front K` trains members of it on their own; they are then shown here."
    if shown.left_out:
        caption += (
            f" For {number(len(shown.left_out), 'other search')} no volume is shown: another space, another "
            f"measure, or no {shown.axis.name} ({listed(shown.left_out)})."
        )
    rows = tuple((str(rank), *row) for rank, row in enumerate(shown.rows(), start=1))
    return Exhibit("front", title, caption, shown.draw(search), Table(("rank", *shown.head), rows))


def _architecture(search: ReportedSearch, published: Sequence[PublishedNet], config: Config) -> Exhibit:
    space = config.space.name
    shown = search.best(1 if published else 3)
    if not shown:
        return Exhibit("architecture", "The best architecture", f"No candidate has {search.fitness} yet.")
    columns = [
        Column(
            f"found, rank {rank}",
            (f"{search.fitness} {e.fitness:.4f}", *_cost_notes(e.cost["macs"], e.cost["params"])),
            Architecture(space, e.ops),
        )
        for rank, e in enumerate(shown, start=1)
    ]
    columns += [
        Column(
            net.name,
            ("published", *_cost_notes(net.cost.macs, net.cost.params)),
            net.architecture,
        )
        for net in published
    ]
    caption = "The image enters at the top; each row is a block, its colour and label the candidate in it. "
    if stages(space):
        caption += "↓2 halves height and width. "
    if published:
        caption += (
            f"First the best of this search (n = {len(search.finished)} with a result), then the "
            f"{number(len(published), 'published net')} of the same space, as their authors give "
            "them; their AP is not shown, since it was not measured here."
        )
    else:
        caption += (
            f"The best {len(columns)} of this search (n = {len(search.finished)} with a result); there are "
            "no published nets of this space."
            if len(columns) > 1
            else "The only candidate with a result; there are no published nets of this space."
        )
    return Exhibit("architecture", "The best architecture", caption, draw_architectures(columns))


def _cost_notes(macs: int, params: int) -> tuple[str, str]:
    return f"{millions(macs)} MACs", f"{millions(params)} params"


def _choices(search: ReportedSearch, config: Config) -> Exhibit:
    title = "What the best have in common"
    top = search.best(TOP)
    blocks = layout(config.space.name)
    if not top:
        return Exhibit("choices", title, f"No candidate has {search.fitness} yet.")
    caption = (
        f"How often each block has each candidate, in percent: above, in the {len(top)} of "
        f"highest {search.fitness}; below, in all {len(search.evaluations)} evaluated, including failed and "
        "stopped ones. A cell that is darker above than below is a choice that the best share; the lower map "
        "is itself drawn towards it, since evolution breeds from the best."
    )
    if len(top) == len(search.evaluations):
        caption += " Here the two are the same architectures."
    return Exhibit("choices", title, caption, figures.choices(blocks, search, top))


def _ranking(search: ReportedSearch, config: Config) -> Exhibit:
    title = "Does the supernet rank as training does?"
    retrained = agreements(search, config.run_dir, config.space.name)
    audit = audited(search, config)
    found = [*([] if audit.agreement is None else [audit.agreement]), *retrained]
    total = sum(len(agreement.pairs) for agreement in found)
    if not total:
        return Exhibit(
            "ranking",
            title,
            "Unknown: no net of this search has been trained on its own yet (n = 0). `detnas audit` trains "
            "some and says how far the search can be trusted; `detnas retrain` trains one, and with "
            f"at least {LEAST} of them there is a rank correlation.{audit.caption}",
        )
    rows = (*audit.rows, *(_agreement_row(agreement) for agreement in retrained))
    caption = (
        f"Nets of this search that were trained on their own as well (n = {total}): the {search.fitness} "
        "that guided the search against AP on the test split. A search is only as good as this ranking: "
        "Kendall's τ and Spearman's ρ are 1 if both rankings are the same, 0 if one says nothing about the "
        "other. Nets that started their training differently are not mixed."
    )
    if all(agreement.tau is None for agreement in found):
        few = f"Too few for a rank correlation, which needs {LEAST} that differ. "
        caption = few + caption
    caption += audit.caption
    table = Table(("start", "n", "Kendall's τ", "Spearman's ρ"), rows)
    return Exhibit("ranking", title, caption, figures.ranking(search, found), table)


def _agreement_row(agreement: Agreement) -> tuple[str, ...]:
    n = len(agreement.pairs)
    why = "too few" if n < LEAST else "all the same"
    values = [why if v is None else f"{v:.3f}" for v in (agreement.tau, agreement.rho)]
    return (agreement.init, str(n), *values)


def _time(search: ReportedSearch) -> Exhibit:
    spent = times(search.evaluations)
    again = sum(e.tries > 1 for e in search.evaluations)
    caption = (
        f"Seconds of each evaluation (n = {len(search.evaluations)}), {duration(spent.total)} in all"
        + (
            ""
            if spent.wall is None
            else f", within {duration(spent.wall)} from the first start to the last end"
        )
        + ". "
    )
    medians = [f"{value:.1f} s of one that {_ENDED[end]}" for end, value in spent.median.items()]
    caption += f"The median is {listed(medians)}. " if medians else ""
    caption += (
        f"{number(len(search.failed), 'candidate')} failed, {len(search.stopped)} "
        f"{'was' if len(search.stopped) == 1 else 'were'} given up early, {again} took more than one attempt."
    )
    rows = tuple((text, str(count)) for text, count in kinds([e.error for e in search.failed]))
    table = Table(("error (numbers differ)", "candidates"), rows) if rows else None
    return Exhibit("time", "Time and failures", caption, figures.seconds(search), table)


_ENDED = dict(zip(ENDINGS, ("finished", "failed", "was stopped early"), strict=True))


def _training(config: Config) -> Exhibit:
    title = "Training"
    found = trainings(config)
    if not found:
        return Exhibit(
            "training",
            title,
            f"The folders of this run ({config.run_dir}) have no TensorBoard events that can be read: the "
            "trainings ran elsewhere or have not begun.",
        )
    parts = [f"{training.title} ({number(len(training.curves), 'net')})" for training in found]
    caption = (
        f"Training loss over steps, each point the mean since the last: {listed(parts)}. In a supernet each "
        "step trains a different path, so its loss is that of the average path; a detector's loss is the "
        "sum of the thin lines."
    )
    return Exhibit("training", title, caption, losses(found))


def _comparison(searches: Sequence[ReportedSearch]) -> Exhibit:
    length = budget(searches)
    found = panels(searches)
    caption = (
        f"The best so far over evaluations, of {number(len(searches), 'search')} cut to the shortest: "
        f"{number(length, 'evaluation')} each, including failed and stopped ones. "
    )
    if any(len(arm.searches) > 1 for panel in found for arm in panel.arms):
        caption += "For several seeds the line is the mean, the band the range from lowest to highest. "
    if len(found) > 1:
        caption += (
            f"The searches were guided by different measures ({listed([panel.fitness for panel in found])}), "
            "which do not share a scale: each has its own panel, and heights compare only within a panel. "
        )
    caption += " ".join(note for panel in found if (note := _supernet_note(panel)))
    return Exhibit(
        "comparison",
        "Searches compared",
        caption.strip(),
        compared(found),
        Table(
            ("search", "guided by", "seed", "evaluations", f"best of {length}", "best of all", "time"),
            tuple(_comparison_row(search, length) for search in searches),
            texts=2,
        ),
    )


def _supernet_note(panel: Panel) -> str:
    if sum(len(arm.searches) for arm in panel.arms) < 2 or panel.supernets == 1:
        return ""
    which = (
        f"{panel.supernets} different supernets" if panel.supernets else "supernets that are not all known"
    )
    return (
        f"{panel.fitness} here was measured with {which}: heights may be due to the supernet, not the search."
    )


def _comparison_row(search: ReportedSearch, length: int) -> tuple[str, ...]:
    best = best_so_far(search.evaluations)
    at_budget, at_end = (
        ("–" if np.isnan(value) else f"{value:.4f}") for value in (best[length - 1], best[-1])
    )
    seed = "?" if search.seed is None else str(search.seed)
    spent = duration(times(search.evaluations).total)
    name = f"{search.strategy_name}: {search.name}"
    return (name, search.fitness, seed, str(len(search.evaluations)), at_budget, at_end, spent)
