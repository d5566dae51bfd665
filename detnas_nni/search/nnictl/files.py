"""What the tuner and its trials tell each other through the search's folder, which they share.

NNI passes on a trial's metric with the parameters that it *believes* the trial had; for a trial that fails it
passes on nothing. So a trial records which architecture it takes, before it evaluates it, and the outcome;
and the tuner records which trial each proposal went to. Each file is either complete or not there:

    proposals/TRIAL.json    by the tuner: what it proposed for a trial, under NNI's id of the trial
    trials/TRIAL.json       by the trial: what it has taken, which process it is, and the error if it failed,
                            or that it was told to end
    outcomes/OPS.json       by the trial: the metrics of an architecture that was evaluated to the end, or
                            that it was given up on a part of the split
    heartbeats/TRIAL        by the trial: that it runs, or has ended

If they share no folder, a failed trial's standard error has to do (`say_why`, `read_why`): NNI only reports
that a trial failed, but it keeps the trial's output, and fetches it from other machines.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Ops
from detnas_nni.config.run_folder import HEARTBEATS, PROPOSALS, SEARCH, TRIALS
from detnas_nni.search.nnictl.heartbeat import Beat, read_beat
from detnas_nni.search.outcomes import NO_RESULT, Failure, Identity, OutcomeFiles
from detnas_nni.util.files import write_json
from detnas_nni.util.processes import Process

_log = logging.getLogger(__name__)

BEATEN_BY = "beaten_by"
"""The metric of a trial, for the web UI, that says how many evaluated candidates beat it in all objectives; 0
while it is on the front."""

IDENTITY = "identity"
"""The identity's key among the metrics that NNI carries to a tuner whose folder the trial does not share."""


@dataclass(frozen=True)
class Taken:
    """What a trial reports about itself."""

    trial: str
    ops: Ops | None
    """what it evaluates; None if it failed before it knew"""
    identity: Identity
    process: Process
    error: Failure | None = None
    interrupted: bool = False
    """whether it was told to end: by an assessor of NNI's, by a user in the web UI, or with its experiment"""


class TrialFiles(OutcomeFiles):
    """The files of a search's trials, in the search's folder; arguments as for `OutcomeFiles`."""

    def is_shared(self) -> bool:
        """Asked by a trial: whether this is the folder that the search's tuner writes to."""
        return (self._folder / SEARCH).exists()

    def propose(self, trial: str, record: dict[str, Any]) -> None:
        """Record NNI's entry of a trial: `parameter_id` and `parameters`."""
        write_json(self._path(PROPOSALS, trial), record)

    def proposal(self, trial: str) -> dict[str, Any] | None:
        return self._read(PROPOSALS, trial)

    def take(self, taken: Taken) -> None:
        """Record what a trial reports about itself, replacing its earlier report."""
        error = None if taken.error is None else {"text": taken.error, "fatal": taken.error.fatal}
        write_json(self._path(TRIALS, taken.trial), {**asdict(taken), "error": error})

    def taken(self, trial: str) -> Taken | None:
        values = self._read(TRIALS, trial)
        if values is None:
            return None
        ops, error = values["ops"], values["error"]
        return Taken(
            trial=trial,
            ops=None if ops is None else tuple(ops),
            identity=values["identity"],
            process=Process(**values["process"]),
            error=None if error is None else Failure(error["text"], fatal=error["fatal"]),
            interrupted=values["interrupted"],
        )

    def all_taken(self) -> list[Taken]:
        """What all trials report about themselves."""
        found = (self.taken(path.stem) for path in sorted((self._folder / TRIALS).glob("*.json")))
        return [taken for taken in found if taken is not None]

    def heartbeat_path(self, trial: str) -> Path:
        """The file of a trial's heartbeat."""
        return self._folder / HEARTBEATS / trial

    def beat(self, trial: str) -> Beat | None:
        """A trial's last heartbeat; None if there was none here."""
        return read_beat(self.heartbeat_path(trial))

    def forget_beats(self) -> None:
        """Delete heartbeats of trials that ran for an earlier tuner; one still running beats again."""
        shutil.rmtree(self._folder / HEARTBEATS, ignore_errors=True)


_MARK = "detnas trial failed: "
_LONGEST = 300  # characters kept of a line that was not written for this purpose


def say_why(failure: Failure) -> None:
    """Print, in a trial, why it fails."""
    print(_MARK + json.dumps({"text": failure, "fatal": failure.fatal}), file=sys.stderr, flush=True)


def read_why(output: str) -> Failure:
    """Why a trial failed, as it reported; or else what it printed last, which may be the reason."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(_MARK):
            values = json.loads(line.removeprefix(_MARK))
            return Failure(values["text"], fatal=values["fatal"])
    return Failure(f"{NO_RESULT}; it printed last: {lines[-1][:_LONGEST]}") if lines else NO_RESULT
