"""The page's style sheet; the figures take its colours, so that a dark theme holds for both."""

from __future__ import annotations

from detnas_nni.report import style

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
