"""What a check finds, and how a check asks another process, so that a package that crashes stops nothing."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PATIENCE = 60.0  # seconds for one process to answer

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    A problem is what a step would fail of; a warning is what may slow it, stop it later, or lets others in.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""
    """the command or the edit that mends it; empty where nothing is to be mended"""


@dataclass(frozen=True)
class Answer:
    """What a process has said. Its exit status is negative where a signal ended it."""

    status: int
    lines: tuple[str, ...]
    """of its standard output"""
    error: str
    """the last line of its standard error, where Python names the exception"""


class NoAnswerError(Exception):
    """A process took too long: of a busy machine or a slow disk more often than of what it was to look at."""


def ask(command: Sequence[str], **environment: str) -> Answer:
    """Run a command, with these environment variables on top of this process's own.

    Raises:
        NoAnswerError: it has not ended within `PATIENCE`, and was killed.
    """
    # Warnings would stand where the error is looked for; more threads than one start slower.
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
    error = said[-1].strip() if said else f"it ended with status {done.returncode} and without a word"
    return Answer(done.returncode, tuple(done.stdout.splitlines()), error)


def pip_install(*requirements: str) -> str:
    """The command that installs these into this environment."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])
