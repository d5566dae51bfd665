"""How the page writes numbers, tables and links to raw lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.evidence.lines import Line
from detnas_nni.audit.statistics import Estimate

NOT_RUN = "Not run yet."

SIGNIFICANT = 0.05
"""The p-value below which a test reports a difference."""

_EXACT = 9  # digits in which all machines agree

FOLDER = "evidence"
"""Folder of the raw lines, relative to the page."""


def number(value: float | None, digits: int = 3) -> str:
    """Rounded, so that machines whose last bits differ write the same."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float) -> str:
    text = number(value)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def p_value(p: float) -> str:
    """Such as `p 0.013`."""
    return "p < 0.001" if p < 0.0005 else f"p {number(p)}"


def counted(number_of: int, thing: str) -> str:
    """Such as `1 supernet`, `3 supernets`."""
    return f"{number_of} {thing}{'' if number_of == 1 else 's'}"


def interval(estimate: Estimate) -> str:
    """Such as `[0.412, 0.731]`."""
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def estimated(estimate: Estimate) -> str:
    """Such as `0.583 [0.412, 0.731]`."""
    return f"{number(estimate.value)} {interval(estimate)}"


def difference(estimate: Estimate) -> str:
    """The same for a difference, with its sign."""
    return f"{signed(estimate.value)} {interval(estimate)}"


def compared(
    estimate: Estimate, above: str, below: str, unknown: str = "cannot tell", *, p: float | None = None
) -> str:
    """What a difference means: something only if 0 is outside its interval and its test agrees.

    A bootstrap of few pairs is too narrow; their test, which cannot come below 2 / 2^n, is not.
    """
    low, high = (round(end, _EXACT) for end in (estimate.low, estimate.high))
    if p is not None and round(p, _EXACT) >= SIGNIFICANT:
        return unknown
    if low > 0:
        return above
    return below if high < 0 else unknown


def linked(line: Line, text: str) -> str:
    """A number that links to its raw line."""
    return f"[{text}]({FOLDER}/{line.file}#L{line.number})"


def raw(kind: str, *keys: str) -> str:
    """The raw lines of a number made from many: the file, and the beginning of their keys."""
    return " ".join([f"[{kind}]({FOLDER}/{kind}.jsonl)", ", ".join(f"`{key}`" for key in keys)]).strip()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def folded(title: str, text: str) -> str:
    """A section that readers can unfold to see every number."""
    return f"<details><summary>{title}</summary>\n\n{text}\n</details>\n"
