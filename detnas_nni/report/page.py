"""The report as one self-contained HTML page: no scripts, no external addresses, figures inlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from detnas_nni.config import Config
from detnas_nni.cost.limits import Limits
from detnas_nni.report import style
from detnas_nni.report.exhibits import TOP, Exhibit
from detnas_nni.report.searches import ReportedSearch
from detnas_nni.report.style import inline
from detnas_nni.search.journal import Evaluation
from detnas_nni.util.text import millions
from search_spaces import Choice, layout

_TEMPLATE = "page.html.j2"

# The browser then blocks whatever a name in a journal could smuggle in, and reports it in its console.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_WIDE = 24  # blocks, beyond which their squares are narrow


class _Drawing(NamedTuple):
    """A figure in the page: its maximum width, in percent, and its `<svg>` element."""

    width: str
    svg: str


def page(config: Config, search: ReportedSearch, exhibits: Sequence[Exhibit], svgs: Mapping[str, str]) -> str:
    """HTML; `svgs` are the figures' SVG files by the exhibits' names."""
    blocks = layout(config.space.name)
    environment = Environment(
        loader=PackageLoader("detnas_nni.report", ""), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(_TEMPLATE).render(
        policy=_POLICY,
        style=style,
        space=config.space.name,
        search=search,
        done=len(search.evaluations),
        planned=config.search.evaluations,
        tiles=_tiles(config, search),
        facts=_facts(config, search),
        best=search.best(TOP),
        blocks=blocks,
        is_wide=len(blocks) > _WIDE,
        legend=_legend(blocks),
        exhibits=[(exhibit, _drawing(exhibit, svgs.get(exhibit.name))) for exhibit in exhibits],
    )


def _tiles(config: Config, search: ReportedSearch) -> dict[str, str]:
    best = search.best(1)
    return {
        f"best {search.fitness}": f"{best[0].fitness:.4f}" if best else "–",
        "its MACs": millions(best[0].cost["macs"]) if best else "–",
        "its parameters": millions(best[0].cost["params"]) if best else "–",
        "evaluated": f"{len(search.evaluations)} of {config.search.evaluations}",
        "failed": str(len(search.failed)),
        "stopped early": str(len(search.stopped)),
    }


def _facts(config: Config, search: ReportedSearch) -> dict[str, str]:
    constraint = config.search.constraint
    detector = config.detector.name if config.evaluation.task == "detection" else "classifier (ClsNAS)"
    return {
        "config": search.name,
        "space": config.space.name,
        "guided by": f"{search.fitness} of {detector}, on the search split",
        "constraint": f"{Limits.of(constraint)}, at {constraint.resolution} px",
        "strategy": f"{search.strategy_name}, {config.search.generations} × {config.search.population}",
        "seed": str(search.seed),
        "supernet": "unknown" if search.supernet is None else f"sha256 {search.supernet[:16]}…",
        "first and last result": " to ".join(
            dict.fromkeys(map(_moment, (search.evaluations[0], search.evaluations[-1])))
        ),
    }


def _moment(evaluation: Evaluation) -> str:
    return evaluation.finished_at.replace("T", " ").replace("+00:00", " UTC")


def _legend(blocks: Sequence[Choice]) -> Sequence[object]:
    """The candidates by op, if all blocks have the same; else each square's title names its own."""
    names = {choice.candidates for choice in blocks}
    return names.pop() if len(names) == 1 else ()


def _drawing(exhibit: Exhibit, svg: str | None) -> _Drawing | None:
    if svg is None:
        return None
    description = f"{exhibit.title}. {exhibit.caption}"
    return _Drawing(
        width=f"{exhibit.figure.get_figwidth() / style.WIDTH:.0%}",
        svg=inline(svg, f"figure-{exhibit.name}", description),
    )
