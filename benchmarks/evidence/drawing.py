"""The page's figures as SVG, written by hand: the same numbers give the same bytes on every machine."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detnas_nni.audit.statistics import Estimate

_INK, _MUTED, _GRID = "#1f2328", "#6e7781", "#d8dee4"
_COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")
_TICKS = 4
_WIDTH, _HEIGHT = 260, 220
_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 28, 12, 40


@dataclass(frozen=True)
class Panel:
    """Points of one scatter plot."""

    title: str
    x: Sequence[float]
    y: Sequence[float]


def scatter(panels: Sequence[Panel], x_label: str, y_label: str) -> str:
    """Plots side by side, with a common vertical axis."""
    ys = [value for panel in panels for value in panel.y]
    parts = []
    for place, panel in enumerate(panels):
        frame = _Frame(place * _WIDTH, panel.x, ys)
        parts += [*frame.axes(panel.title, x_label, y_label if place == 0 else "")]
        points = zip(panel.x, panel.y, strict=True)
        parts += [
            f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" r="3" fill="{_COLOURS[0]}" fill-opacity="0.7"/>'
            for x, y in points
        ]
    return _document(len(panels) * _WIDTH, _HEIGHT, parts)


def curves(series: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> str:
    """A line for each series over 1, 2, …, with a legend."""
    ys = [value for values in series.values() for value in values]
    frame = _Frame(0, [1, max(map(len, series.values()))], ys, width=420)
    parts = [*frame.axes("", x_label, y_label)]
    for place, (name, values) in enumerate(series.items()):
        points = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in enumerate(values, start=1))
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(430, 40 + 18 * place, name, colour))
    return _document(580, _HEIGHT, parts)


def intervals(rows: Mapping[str, Estimate | Sequence[float]], label: str, zero: bool = False) -> str:
    """A row for each name: an estimate with its interval, or the single values, over one axis."""
    values = [value for row in rows.values() for value in _ends(row)] + ([0.0] if zero else [])
    height = _TOP + _BOTTOM + 22 * len(rows)
    frame = _Frame(170, values, [0, 1], width=420, height=height)
    parts = []
    for tick in frame.ticks_x():
        parts.append(_line(frame.x(tick), _TOP - 6, frame.x(tick), height - _BOTTOM, _GRID))
        parts.append(_text(frame.x(tick), height - _BOTTOM + 16, _short(tick), _MUTED, "middle"))
    if zero:
        parts.append(_line(frame.x(0), _TOP - 6, frame.x(0), height - _BOTTOM, _INK))
    parts.append(_text(frame.middle, height - 6, label, _INK, "middle"))
    for place, (name, row) in enumerate(rows.items()):
        y = _TOP + 22 * place + 8
        parts.append(_text(214, y + 4, name, _INK, "end"))
        if isinstance(row, Estimate):
            parts.append(_line(frame.x(row.low), y, frame.x(row.high), y, _COLOURS[0], 2))
            dots: Sequence[float] = [row.value]
        else:
            dots = row
        parts += [f'<circle cx="{frame.x(dot)}" cy="{y}" r="3.5" fill="{_COLOURS[0]}"/>' for dot in dots]
    return _document(590, height, parts)


class _Frame:
    """Maps values to pixels, in a plot whose left end is at `left`."""

    def __init__(
        self,
        left: int,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        width: int = _WIDTH,
        height: int = _HEIGHT,
    ) -> None:
        self._from, self._to = left + _LEFT, left + width - _RIGHT
        self._top, self._bottom = _TOP, height - _BOTTOM
        self._xs, self._ys = _span(xs), _span(ys)

    @property
    def middle(self) -> str:
        return _short((self._from + self._to) / 2)

    def x(self, value: float) -> str:
        low, high = self._xs
        return f"{self._from + (value - low) / (high - low) * (self._to - self._from):.1f}"

    def y(self, value: float) -> str:
        low, high = self._ys
        return f"{self._bottom - (value - low) / (high - low) * (self._bottom - self._top):.1f}"

    def ticks_x(self) -> list[float]:
        return _ticks(*self._xs)

    def axes(self, title: str, x_label: str, y_label: str) -> list[str]:
        parts = [_text(self.middle, self._top - 12, title, _INK, "middle")] if title else []
        for tick in _ticks(*self._xs):
            parts.append(_line(self.x(tick), self._top, self.x(tick), self._bottom, _GRID))
            parts.append(_text(self.x(tick), self._bottom + 14, _short(tick), _MUTED, "middle"))
        for tick in _ticks(*self._ys):
            parts.append(_line(self._from, self.y(tick), self._to, self.y(tick), _GRID))
            parts.append(_text(self._from - 5, float(self.y(tick)) + 4, _short(tick), _MUTED, "end"))
        parts.append(_text(self.middle, self._bottom + 32, x_label, _INK, "middle"))
        if y_label:
            parts.append(_text(self._from - 44, self._top - 12, y_label, _INK))
        return parts


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or max(abs(high), 1e-3) * 0.1
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within, about four of them."""
    rough = (high - low) / _TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _ends(row: Estimate | Sequence[float]) -> Sequence[float]:
    return (row.low, row.value, row.high) if isinstance(row, Estimate) else row


def _short(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".").replace("-0", "0" if abs(value) < 5e-5 else "-0")


def _line(x1: str, y1: object, x2: str, y2: object, colour: str, width: int = 1) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: object, y: object, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _document(width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
