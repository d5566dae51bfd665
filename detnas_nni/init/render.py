"""The config as YAML with comments."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import yaml

from detnas_nni.init.values import Tree, Value

_WIDTH = 110


def render(tree: Tree, header: Sequence[str]) -> str:
    """The text of detnas.yaml: the header as a comment, then each key, with where its value comes from."""
    comment = "\n".join(f"# {line}".rstrip() for line in header)
    return "\n".join([comment, *_lines(tree, "")]) + "\n"


def _lines(tree: Tree, indent: str) -> list[str]:
    lines: list[str] = []
    for key, entry in tree.items():
        if not isinstance(entry, Value):
            lines += [f"{indent}{key}:", *_lines(entry, indent + "  ")]
            continue
        line = f"{indent}{key}: {scalar(entry.value)}"
        if not entry.why:
            lines.append(line)
        elif len(line) + len(entry.why) + 3 <= _WIDTH:
            lines.append(f"{line} # {entry.why}")
        else:
            wrapped = textwrap.wrap(entry.why, _WIDTH - len(indent) - 2)
            lines += [*(f"{indent}# {part}" for part in wrapped), line]
    return lines


def scalar(value: object) -> str:
    """A value on one line, as YAML."""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()
