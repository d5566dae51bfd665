"""How figures look: a palette safe for colour-blind readers, sizes, and the colours of the page.

INK, MUTED, GRID, BAND and PAPER are replaced by the page's own in the figures that it holds (`inline`), so
that they follow a dark theme; no other colour may be equal to one of them.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from detnas_nni.report import style

INK = "#1f2933"
MUTED = "#5f6b7a"
GRID = "#dfe3e8"
BAND = "#f3f5f7"
PAPER = "#ffffff"

# Okabe and Ito's, 2008.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00"),
    *("#cc79a7", "#56b4e9"),
)
SERIES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = ("o", "^", "s", "D", "v", "P")

OPS = ("#77aadd", "#bbcc33", "#eedd88", "#ee8866", "#99ddff", "#44bb99", "#ffaabb", "#aaaa00")
"""Of candidates, by op: Tol's light scheme, on which dark text reads well; repeats after eight."""
ON_COLOUR = "#101418"
"""Text on any of OPS, in either theme."""

# The middle of viridis: its ends are invisible on white or on black.
GENERATIONS = ListedColormap(mpl.colormaps["viridis_r"](np.linspace(0.12, 0.9, 40)), "generations")

WIDTH = 9.0
"""Inches of a figure that is as wide as the page."""

_PARAMETERS = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a name may have a dollar sign in it
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


@contextmanager
def look() -> Iterator[None]:
    """Create and write figures in this style within the context, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_PARAMETERS)
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches; without pyplot, which would keep it and ask for a display."""
    return Figure(figsize=(width, height), layout="constrained")


def legend_above(axes: Axes, columns: int = 6) -> None:
    """The legend in a row above the axes, where it hides no point; none if nothing has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=columns,
            columnspacing=1.4,
            handletextpad=0.5,
        )


def plain(bar: Colorbar) -> None:
    """Without a frame, and without the hair lines that viewers draw between its steps."""
    bar.outline.set_visible(False)
    bar.solids.set(alpha=1, rasterized=False, edgecolor="face", linewidth=0.4)


def marker_area(points: int) -> float:
    """The size of a scatter plot's points, in points squared: the more there are, the smaller."""
    return 30.0 if points <= 60 else 18.0 if points <= 300 else 9.0


def pretty(candidate: str) -> str:
    """A short form of a candidate's name."""
    family, _, kernel = candidate.rpartition("_")
    words = {"shufflenet": "Shuffle", "xception": "Xception"}
    return f"{words[family]} {kernel.replace('x', '×')}" if family in words else candidate


# Colours of the paper's theme, as properties that the page sets for light and dark.
_THEMED = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.GRID: "var(--grid)",
    style.BAND: "var(--band)",
    style.PAPER: "var(--paper)",
}


def to_svg(figure: Figure, name: str) -> str:
    """A whole SVG file; the same figure gives the same bytes."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def inline(svg: str, name: str, description: str) -> str:
    """The `<svg>` element for a page: its ids made unique by `name`, its colours the page's, with a text
    alternative. It refers to no address, so that nothing is loaded for it.
    """
    body = svg[svg.index("<svg") :]
    tag, _, rest = body.partition(">")
    box = re.search(r'viewBox="[^"]+"', tag)
    rest = re.sub(r"\s*<metadata>.*?</metadata>", "", rest, count=1, flags=re.DOTALL)
    rest = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', rest)
    rest = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", rest)
    rest = rest.replace('<style type="text/css">*{', f'<style type="text/css">#{name} *{{')
    rest = re.sub(r"'DejaVu Sans'(?:, sans-serif)?", "var(--font)", rest)
    for colour, themed in _THEMED.items():
        rest = re.sub(rf"(?<=: ){colour}(?=[;\"])", themed, rest)
    title = f"<title>{html.escape(description)}</title>"
    return f'<svg id="{name}" role="img" {box[0] if box else ""}>{title}{rest}'
