"""The report as one HTML page that needs nothing else: no script, no address, figures within."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from detnas_nni.config import Config
from detnas_nni.cost.limits import Limits
from detnas_nni.report import style
from detnas_nni.report.exhibits import TOP, Exhibit, Table
from detnas_nni.report.searches import ReportedSearch
from detnas_nni.report.style import inline
from detnas_nni.search.journal import Evaluation
from detnas_nni.util.text import millions
from search_spaces import layout

CSS = f""":root {{
  --ink: {style.INK}; --muted: {style.MUTED}; --grid: {style.GRID}; --band: {style.BAND};
  --paper: {style.PAPER}; --page: #f6f7f9; --accent: #0b66a8; --warning: #9a4a00;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --ink: #e4e8ed; --muted: #9aa6b4; --grid: #333c47; --band: #202730;
    --paper: #191f26; --page: #11161b; --accent: #6cb4ee; --warning: #f0a35e;
  }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 var(--font); }}
main {{ max-width: 1040px; margin: 0 auto; padding: 32px 20px 56px; }}
h1 {{ font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; font-weight: 650; }}
h2 {{ font-size: 1.12rem; margin: 0 0 .8rem; font-weight: 650; }}
.kicker {{ color: var(--muted); margin: 0 0 .2rem; font-size: .85rem; letter-spacing: .02em; }}
section {{ background: var(--paper); border: 1px solid var(--grid); border-radius: 10px;
  padding: 20px 24px; margin: 18px 0; }}
dl {{ margin: 0; }}
dt {{ color: var(--muted); font-size: .8rem; }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(142px, 1fr)); gap: 10px; }}
.tiles div {{ background: var(--paper); border: 1px solid var(--grid); border-radius: 10px;
  padding: 10px 14px; }}
.tiles dd {{ font-size: 1.2rem; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 10px 24px;
  margin: 18px 2px; font-size: .93rem; }}
.note {{ border-left: 3px solid var(--accent); padding: 2px 12px; margin: 14px 0; }}
.warning {{ border-color: var(--warning); }}
figure {{ margin: 0; }}
.scroll {{ overflow-x: auto; }}
.drawing {{ min-width: 560px; margin: 0 auto; }}
.drawing svg {{ display: block; width: 100%; height: auto; }}
.caption {{ color: var(--muted); font-size: .9rem; margin: .8rem 0 0; max-width: 82ch; }}
.files a {{ color: var(--accent); margin-left: .4em; }}
table {{ border-collapse: collapse; font-size: .88rem; margin-top: .9rem; min-width: 50%; }}
th, td {{ text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; overflow-wrap: anywhere; }}
th {{ color: var(--muted); font-weight: 500; white-space: nowrap; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.best {{ width: 100%; margin-top: 0; }}
.best .ops {{ width: 45%; padding-left: 14px; }}
code {{ font: .86em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }}
.best td {{ overflow-wrap: normal; }}
.best code {{ overflow-wrap: anywhere; }}
.ops code {{ display: block; color: var(--muted); font-size: .76rem; }}
.squares i, .legend i {{ display: inline-block; width: 11px; height: 13px; border-radius: 2px;
  margin-right: 2px; vertical-align: -2px; }}
.many i {{ width: 8px; margin-right: 1px; }}
.squares {{ white-space: nowrap; }}
.legend {{ font-size: .84rem; color: var(--muted); margin: .8rem 0 0; }}
.legend span {{ margin-right: 1.2em; white-space: nowrap; }}
.legend i {{ margin-right: 6px; }}
@media print {{ section {{ break-inside: avoid; }} body {{ background: none; }} }}
"""


# A browser then refuses whatever a name in a journal could smuggle in, and tells in its console.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_WIDE = 24  # blocks, beyond which their squares are narrow


def page(config: Config, search: ReportedSearch, exhibits: Sequence[Exhibit], svgs: Mapping[str, str]) -> str:
    """HTML; `svgs` are the figures' SVG files by the exhibits' names."""
    title = f"{search.strategy_name} in {config.space.name}: {search.name}"
    sections = [_section(exhibit, svgs.get(exhibit.name)) for exhibit in exhibits]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{CSS}</style>
</head>
<body>
<main>
{_header(config, search)}
{_best_table(config, search)}
{"".join(sections)}</main>
</body>
</html>
"""


def _header(config: Config, search: ReportedSearch) -> str:
    constraint = config.search.constraint
    planned = config.search.evaluations
    done = len(search.evaluations)
    best = search.best(1)
    detector = config.detector.name if config.evaluation.task == "detection" else "classifier (ClsNAS)"
    facts = {
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
    tiles = {
        f"best {search.fitness}": f"{best[0].fitness:.4f}" if best else "–",
        "its MACs": millions(best[0].cost["macs"]) if best else "–",
        "its parameters": millions(best[0].cost["params"]) if best else "–",
        "evaluated": f"{done} of {planned}",
        "failed": str(len(search.failed)),
        "stopped early": str(len(search.stopped)),
    }
    state = ""
    if done < planned:
        state = (
            f'<p class="note">{done} of {planned} planned evaluations are in the journal: the search runs, '
            "was stopped, or has exhausted its space. Call the same command again for a newer report.</p>"
        )
    if search.config_changed:
        state += (
            '<p class="note warning">The config (or a path in it) is not the one that this search was '
            "started with: constraint, strategy and seed above are the config's of now.</p>"
        )
    return (
        f'<header><p class="kicker">DetNAS search report</p><h1>{escape(search.strategy_name)} in the space '
        f"{escape(config.space.name)}</h1>\n"
        + '<dl class="tiles">'
        + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in tiles.items())
        + "</dl>\n"
        + state
        + '<dl class="facts">'
        + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
        + "</dl></header>"
    )


def _moment(evaluation: Evaluation) -> str:
    return evaluation.finished_at.replace("T", " ").replace("+00:00", " UTC")


def _best_table(config: Config, search: ReportedSearch) -> str:
    best = search.best(TOP)
    if not best:
        return '<section id="best"><h2>The best</h2><p>No candidate has a result yet.</p></section>'
    blocks = layout(config.space.name)
    kind = "squares" if len(blocks) <= _WIDE else "squares many"
    rows = []
    for rank, e in enumerate(best, start=1):
        squares = "".join(
            f'<i style="background:{style.OPS[op % len(style.OPS)]}" '
            f'title="{escape(f"{choice.label}: {choice.candidates[op]}")}"></i>'
            for choice, op in zip(blocks, e.ops, strict=True)
        )
        ops = ",".join(map(str, e.ops))
        rows.append(
            f'<tr><td class="n">{rank}</td><td class="n">{e.fitness:.4f}</td>'
            f'<td class="n">{e.cost["macs"] / 1e6:.2f}</td><td class="n">{e.cost["params"] / 1e6:.3f}</td>'
            f'<td class="ops"><span class="{kind}" aria-hidden="true">{squares}</span>'
            f"<code>{ops}</code></td>"
            f'<td class="n">{e.generation}</td><td>{escape(e.origin)}</td><td class="n">{e.id}</td></tr>'
        )
    head = "".join(
        f'<th class="{kind_of_cell}">{escape(text)}</th>'
        for text, kind_of_cell in (
            ("rank", "n"),
            (search.fitness, "n"),
            ("MACs, M", "n"),
            ("params, M", "n"),
            ("ops", "ops"),
            ("gen", "n"),
            ("origin", ""),
            ("id", "n"),
        )
    )
    heading = "The only one with a result" if len(best) == 1 else f"The {len(best)} best"
    return (
        f'<section id="best"><h2>{heading}</h2>'
        f'<div class="scroll"><table class="best"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"{_legend(config)}<p class='caption'>By {escape(search.fitness)} on the search split, of "
        f"{len(search.finished)} with a result; ops are one candidate's index a block, id is the line of "
        "journal.jsonl, counted from 0. <code>detnas export --rank N</code> writes one as JSON.</p>"
        "</section>\n"
    )


def _legend(config: Config) -> str:
    """The candidates by colour, where all blocks have the same; else each square's title names its own."""
    names = {choice.candidates for choice in layout(config.space.name)}
    if len(names) != 1:
        return ""
    items = (
        f'<span><i style="background:{style.OPS[op % len(style.OPS)]}"></i>{op} {escape(str(name))}</span>'
        for op, name in enumerate(names.pop())
    )
    return f'<p class="legend">{"".join(items)}</p>'


def _section(exhibit: Exhibit, svg: str | None) -> str:
    name, caption = exhibit.name, _caption(exhibit.caption)
    body = f'<p class="caption">{caption}</p>'
    if svg is not None:
        width = f"{exhibit.figure.get_figwidth() / style.WIDTH:.0%}"
        files = f'<a href="{name}.png">PNG</a> <a href="{name}.svg">SVG</a>'
        body = (
            f'<figure><div class="scroll"><div class="drawing" style="max-width:{width}">'
            f"{inline(svg, f'figure-{name}', f'{exhibit.title}. {exhibit.caption}')}</div></div>"
            f'<figcaption class="caption">{caption} <span class="files">{files}</span></figcaption></figure>'
        )
    table = "" if exhibit.table is None else _table(exhibit.table)
    return f'<section id="{name}"><h2>{escape(exhibit.title)}</h2>{body}{table}</section>\n'


def _caption(text: str) -> str:
    """Escaped; what stands in backticks is a command."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _table(table: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}>{escape(text)}</{tag}>"
            if i < table.texts
            else f'<{tag} class="n">{escape(text)}</{tag}>'
            for i, text in enumerate(row)
        )

    rows = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    head = cells(table.head, "th")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
