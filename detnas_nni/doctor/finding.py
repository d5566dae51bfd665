"""What a check finds, as text or as JSON; and how it runs another process, since a package may crash."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

PATIENCE = 60.0  # seconds for one process to answer

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    A problem would make a step fail; a warning may slow it, stop it later, or is a security risk.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""
    """the command or edit that fixes it; empty if there is nothing to fix"""


@dataclass(frozen=True)
class Answer:
    """A process's output. Its exit status is negative if a signal ended it."""

    status: int
    lines: tuple[str, ...]
    """of its standard output"""
    error: str
    """the last line of its standard error, in which Python names the exception"""


class NoAnswerError(Exception):
    """A process took too long, more often due to a busy machine or slow disk than to what it examines."""


def ask(command: Sequence[str], **environment: str) -> Answer:
    """Run a command, with these environment variables on top of this process's own.

    Raises:
        NoAnswerError: it did not end within `PATIENCE`, and was killed.
    """
    # Warnings would be taken for the error; more than one thread starts slower.
    env = os.environ | {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"} | environment
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"{command[0]} did not answer within {PATIENCE:g} s") from None
    except OSError as error:
        return Answer(-1, (), str(error))
    said = done.stderr.strip().splitlines()
    error = said[-1].strip() if said else f"it ended with status {done.returncode} without output"
    return Answer(done.returncode, tuple(done.stdout.splitlines()), error)


def pip_install(*requirements: str) -> str:
    """The command that installs these into this environment."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


_MARKS: dict[Status, str] = {"ok": "✓", "warning": "!", "problem": "✗"}
_PLAIN_MARKS: dict[Status, str] = {"ok": "+", "warning": "!", "problem": "x"}

_WORST_FIRST: tuple[Status, ...] = ("problem", "warning")


def as_text(findings: Sequence[Finding], encoding: str) -> str:
    """The report, in characters that a terminal with this encoding can show."""
    marks = _MARKS if _can_show("".join(_MARKS.values()), encoding) else _PLAIN_MARKS
    width = max(len(finding.name) for finding in findings)
    lines = [
        f"{marks[finding.status]} {finding.name:<{width}}  {_one_line(finding.text)}" for finding in findings
    ]
    lines.append("")
    for status in reversed(_WORST_FIRST):  # the worst comes last, above the prompt
        lines.extend(
            f"{marks[status]} {finding.name}: to fix: {_one_line(finding.remedy)}"
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
