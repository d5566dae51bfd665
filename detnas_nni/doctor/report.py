"""The doctor's findings as text, a line each and then what mends them, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from detnas_nni.doctor.finding import Finding, Status

_MARKS: dict[Status, str] = {"ok": "✓", "warning": "!", "problem": "✗"}
_PLAIN_MARKS: dict[Status, str] = {"ok": "+", "warning": "!", "problem": "x"}

_WORST_FIRST: tuple[Status, ...] = ("problem", "warning")


def as_text(findings: Sequence[Finding], encoding: str) -> str:
    """The report, in characters that a terminal of this encoding shows."""
    marks = _MARKS if _can_show("".join(_MARKS.values()), encoding) else _PLAIN_MARKS
    width = max(len(finding.name) for finding in findings)
    lines = [
        f"{marks[finding.status]} {finding.name:<{width}}  {_one_line(finding.text)}" for finding in findings
    ]
    lines.append("")
    for status in reversed(_WORST_FIRST):  # the worst stands last, above the prompt
        lines.extend(
            f"{marks[status]} {finding.name}: mend it by: {_one_line(finding.remedy)}"
            for finding in findings
            if finding.status == status and finding.remedy
        )
    lines.append(_count(findings))
    return "\n".join(lines).encode(encoding, "backslashreplace").decode(encoding)


def as_json(findings: Sequence[Finding]) -> str:
    """`{"status": the worst one, "findings": [{"name", "status", "text", "remedy"}]}`."""
    return json.dumps(
        {"status": worst(findings), "findings": [asdict(finding) for finding in findings]}, indent=2
    )


def worst(findings: Sequence[Finding]) -> Status:
    """The worst status among the findings."""
    statuses = {finding.status for finding in findings}
    return next((status for status in _WORST_FIRST if status in statuses), "ok")


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _count(findings: Sequence[Finding]) -> str:
    said = []
    for status in _WORST_FIRST:
        number = sum(finding.status == status for finding in findings)
        if number:
            said.append(f"{number} {status}{'s' if number > 1 else ''}")
    return ", ".join(said) if said else "nothing is wrong"


def _one_line(text: str) -> str:
    return " ".join(text.split())
