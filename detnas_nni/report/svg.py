"""A matplotlib figure as an SVG file, and that SVG as a part of a page."""

from __future__ import annotations

import html
import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure

from detnas_nni.report import style

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
    """The `<svg>` element for a page: its ids made unique by `name`, its colours the page's, with a text for
    those who do not see it. It names no address, so that nothing is loaded for it.
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
