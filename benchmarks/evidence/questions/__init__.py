"""The questions of the study, one module each: from raw lines to numbers, a figure and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """The page's answer to one question.

    Attributes:
        title: its heading.
        summary: a sentence for the top of the page.
        body: Markdown.
        images: file name to SVG.
    """

    title: str
    summary: str
    body: str
    images: Mapping[str, str] = field(default_factory=dict)
