"""What the tests of a tuner behind NNI's dispatcher share: its trials, and what it makes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.nnictl.files import Taken, TrialFiles
from detnas_nni.search.outcomes import Failure, Outcome
from detnas_nni.util.processes import Process
from tests.search.nnictl.manager import Proposed
from tests.search.searching import Ops, likeness


def ops_of(trial: Proposed) -> Ops:
    return Architecture.from_choices("tiny", trial.choices).ops


def metrics_of(trial: Proposed) -> dict[str, float]:
    return {"default": likeness(ops_of(trial)), "AP50": 0.5}


def journal_of(config: Config) -> Journal:
    return Journal(journal_path(config.search_dir))


def best_of(config: Config) -> Path:
    return config.search_dir / "best_architecture.json"


def evaluated_as_proposed(journal: Journal) -> bool:
    return all(e.fitness == likeness(e.ops) for e in journal.evaluations if e.metrics is not None)


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


class Trials:
    """What trials leave in the search's folder, which they share with the tuner."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def files(self) -> TrialFiles:
        # The identity is there when the tuner has opened the folder, and so before any trial.
        identity = json.loads((self._config.search_dir / "search.json").read_text())
        return TrialFiles(self._config.search_dir, identity)

    def take(
        self,
        trial: Proposed,
        of: Proposed | None = None,
        error: Failure | None = None,
        interrupted: bool = False,
        **identity: str,
    ) -> None:
        """A trial begins with its own candidate, or with another's; and fails, or is told to end."""
        files = self.files
        identity = files.identity | identity
        ops, process = ops_of(of or trial), Process.current()
        files.take(Taken(trial.job, ops, identity, process, error, interrupted))

    def finish(self, trial: Proposed, of: Proposed | None = None) -> None:
        """A trial ends its evaluation; that of another's candidate if it was handed that one."""
        self.take(trial, of)
        self.files.finish(ops_of(of or trial), Outcome(metrics_of(of or trial)))
