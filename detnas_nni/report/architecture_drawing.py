"""Architectures side by side, block by block: a column per net, a row per block, colour and label the op."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from detnas_nni.architecture import Architecture
from detnas_nni.report import style
from search_spaces import SIZES, STAGES, layout

_ROW = 0.25  # inches
_GUTTER = 1.75  # inches, for the stages' names
_WIDEST = 1.9
_LINE = 0.18
_LETTERS = 13  # of a bold name, per inch


@dataclass(frozen=True)
class Column:
    """One net: its name, and the notes under it (AP if it was measured here, MACs, parameters)."""

    name: str
    notes: tuple[str, ...]
    architecture: Architecture


@dataclass(frozen=True)
class Stage:
    """Blocks from `first` up to but excluding `end`; channels and stride of their output."""

    name: str
    first: int
    end: int
    channels: int
    stride: int


def stages(space: str) -> list[Stage]:
    """The stages of a built-in space; for other spaces the blocks' effect on the features is unknown."""
    if space not in SIZES:
        return []
    found, first = [], 0
    sizes = SIZES[space]
    for index, (name, blocks, channels) in enumerate(zip(STAGES, sizes.blocks, sizes.channels, strict=True)):
        found.append(Stage(name, first, first + blocks, channels, 4 * 2**index))
        first += blocks
    return found


def draw_architectures(columns: Sequence[Column]) -> Figure:
    """Nets of one space, from the image (top) to the last feature (bottom)."""
    space = columns[0].architecture.space
    blocks = layout(space)
    parts = stages(space)
    width = min(_WIDEST, (style.WIDTH - _GUTTER) / len(columns))
    heads = [[*textwrap.wrap(column.name, int(_LETTERS * width)), *column.notes] for column in columns]
    head = 0.2 + _LINE * max(map(len, heads))
    gaps = 0.14 * len(parts)
    rows = len(blocks) + (1 if parts else 0)
    height = head + rows * _ROW + gaps + 0.1
    figure = Figure(figsize=(_GUTTER + width * len(columns) + 0.1, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _GUTTER + width * len(columns) + 0.1)
    axes.set_ylim(height, 0)
    axes.axis("off")
    tops = _tops(len(blocks), parts, head)
    if parts:
        detail = f"{SIZES[space].stem} channels, stride 2"
        _text(axes, _GUTTER - 0.2, head + _ROW / 2, detail, ha="right", color=style.MUTED, fontsize=7)
        _draw_stages(axes, parts, tops)
    else:
        for block, choice in enumerate(blocks):
            _text(axes, _GUTTER - 0.12, tops[block] + _ROW / 2, choice.label, ha="right", color=style.MUTED)
    for index, column in enumerate(columns):
        left = _GUTTER + index * width
        for number, text in enumerate(reversed(heads[index])):  # all end on one line, above the first box
            is_name = number >= len(column.notes)
            look = {"weight": "bold"} if is_name else {"color": style.MUTED, "fontsize": 7}
            _text(axes, left + width / 2 - 0.04, head - 0.14 - _LINE * number, text, **look)
        if parts:
            _box(axes, left, head, width, style.GRID)
            _text(axes, left + width / 2 - 0.04, head + _ROW / 2, "stem 3×3 ↓2", color=style.INK)
        for block, op in enumerate(column.architecture.ops):
            _box(axes, left, tops[block], width, style.OPS[op % len(style.OPS)])
            label = style.pretty(str(blocks[block].candidates[op]))
            down = " ↓2" if any(part.first == block for part in parts) else ""
            middle = left + width / 2 - 0.04
            _text(axes, middle, tops[block] + _ROW / 2, label + down, color=style.ON_COLOUR)
    return figure


def _tops(blocks: int, parts: Sequence[Stage], head: float) -> list[float]:
    """Where each block begins, in inches from the top: below the stem, with a gap before each stage."""
    firsts = {part.first for part in parts}
    tops, place = [], head + (_ROW if parts else 0)
    for block in range(blocks):
        place += 0.14 if block in firsts else 0
        tops.append(place)
        place += _ROW
    return tops


def _draw_stages(axes: Axes, parts: Sequence[Stage], tops: Sequence[float]) -> None:
    for part in parts:
        top, foot = tops[part.first], tops[part.end - 1] + _ROW
        axes.add_patch(Rectangle((_GUTTER - 0.12, top + 0.02), 0.02, foot - top - 0.04, color=style.MUTED))
        middle = (top + foot) / 2
        _text(
            axes,
            _GUTTER - 0.2,
            middle - 0.09,
            part.name.replace("stage", "stage "),
            ha="right",
            weight="bold",
        )
        detail = f"{part.channels} channels, stride {part.stride}"
        _text(axes, _GUTTER - 0.2, middle + 0.09, detail, ha="right", color=style.MUTED, fontsize=7)


def _box(axes: Axes, left: float, top: float, width: float, colour: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (left + 0.03, top + 0.035),
            width - 0.14,
            _ROW - 0.07,
            boxstyle="round,pad=0.015,rounding_size=0.04",
            facecolor=colour,
            linewidth=0,
        )
    )


def _text(axes: Axes, x: float, y: float, text: str, **style_of_text: Any) -> None:
    values = {"ha": "center", "va": "center", "fontsize": 7.5} | style_of_text
    axes.text(x, y, text, **values)
