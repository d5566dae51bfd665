"""What the tuner and its trials tell each other through the search's folder, which they share.

NNI carries a trial's metric beside the parameters that it *believes* the trial had; of a trial that fails it
carries nothing. So a trial writes down which architecture it takes, before it evaluates it, and what came of
it; and the tuner writes down which trial each proposal went to. Each file is whole or not there:

    proposals/TRIAL.json    the tuner's: what it proposed for a trial, under NNI's id of the trial
    trials/TRIAL.json       the trial's: what it has taken, which process it is, and the error if it failed,
                            or that it was told to end
    outcomes/OPS.json       the trial's: the metrics of an architecture that was evaluated to the end, or
                            that it was given up on a part of the split
    heartbeats/TRIAL        the trial's: that it runs, or has ended

Where they share no folder there is a failed trial's standard error (`say_why`, `read_why`): NNI says of a
failed trial that it failed, but it keeps the trial's output, and brings it from other machines.
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
    """What a trial says of itself."""

    trial: str
    ops: Ops | None
    """what it evaluates; None if it failed before it knew"""
    identity: Identity
    process: Process
    error: Failure | None = None
    interrupted: bool = False
    """whether it was told to end: by an assessor of NNI's, by a user in the web UI, or with its experiment"""


class TrialFiles(OutcomeFiles):
    """The files of a search's trials, in the search's folder; arguments as of `OutcomeFiles`."""

    def is_shared(self) -> bool:
        """Whether this is the folder that the search's tuner writes to, seen from a trial."""
        return (self._folder / SEARCH).exists()

    def propose(self, trial: str, record: dict[str, Any]) -> None:
        """Write down NNI's record of a trial: `parameter_id` and `parameters`."""
        write_json(self._path(PROPOSALS, trial), record)

    def proposal(self, trial: str) -> dict[str, Any] | None:
        return self._read(PROPOSALS, trial)

    def take(self, taken: Taken) -> None:
        """Write down what a trial says of itself, in place of what it said before."""
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
        """What all trials say of themselves."""
        found = (self.taken(path.stem) for path in sorted((self._folder / TRIALS).glob("*.json")))
        return [taken for taken in found if taken is not None]

    def heartbeat_path(self, trial: str) -> Path:
        """Where a trial's heartbeat is heard."""
        return self._folder / HEARTBEATS / trial

    def beat(self, trial: str) -> Beat | None:
        """A trial's last one; None if it has never beaten here."""
        return read_beat(self.heartbeat_path(trial))

    def forget_beats(self) -> None:
        """Of trials that ran for an earlier tuner; one that runs still beats again."""
        shutil.rmtree(self._folder / HEARTBEATS, ignore_errors=True)


_MARK = "detnas trial failed: "
_LONGEST = 300  # characters of a line that nobody wrote for this


def say_why(failure: Failure) -> None:
    """Write down, in a trial, why it fails."""
    print(_MARK + json.dumps({"text": failure, "fatal": failure.fatal}), file=sys.stderr, flush=True)


def read_why(output: str) -> Failure:
    """Why a trial has failed, by its own word; or what it printed last, which may be the reason."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(_MARK):
            values = json.loads(line.removeprefix(_MARK))
            return Failure(values["text"], fatal=values["fatal"])
    return Failure(f"{NO_RESULT}; it printed last: {lines[-1][:_LONGEST]}") if lines else NO_RESULT
