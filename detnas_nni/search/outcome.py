"""What a trial says of the architecture that it evaluated, under that architecture's own name.

NNI carries a trial's metric beside the parameters that it *believes* the trial had; a failed trial it
carries nothing of. So a trial leaves a file in the search's folder, and the tuner credits the architecture
that the file is named after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.architecture import Architecture
from detnas_nni.files import write_json


@dataclass(frozen=True)
class Outcome:
    """The metrics of one trial, or the error that it ended with."""

    metrics: dict[str, float] | None = None
    error: str | None = None


def save_outcome(folder: Path, architecture: Architecture, outcome: Outcome) -> None:
    """Write a trial's outcome into the search's folder."""
    content = {"ops": list(architecture.ops), "metrics": outcome.metrics, "error": outcome.error}
    write_json(_path(folder, architecture), content)


def load_outcome(folder: Path, architecture: Architecture) -> Outcome | None:
    """The outcome of an architecture's trial, if it left one."""
    try:
        content = json.loads(_path(folder, architecture).read_text())
    except FileNotFoundError:
        return None
    return Outcome(content["metrics"], content["error"])


def _path(folder: Path, architecture: Architecture) -> Path:
    return folder / "outcomes" / f"{architecture}.json"
