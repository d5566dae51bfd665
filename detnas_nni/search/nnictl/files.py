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
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detnas_nni.search.nnictl.heartbeat import Beat, read_beat
from detnas_nni.search.outcome import Outcome
from detnas_nni.search.outcomes import Failure
from detnas_nni.util.files import write_json
from detnas_nni.util.processes import Process

_log = logging.getLogger(__name__)

Ops = tuple[int, ...]
Identity = Mapping[str, str]
"""What a result depends on beside the architecture: hashes of the config and of the supernet."""

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


class TrialFiles:
    """The files of a search's trials, in the search's folder.

    Args:
        folder: the search's.
        identity: of the search, or of what the trial computes with. Outcomes of another one do not count.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.identity = dict(identity)
        self._folder = folder

    def is_shared(self) -> bool:
        """Whether this is the folder that the search's tuner writes to, seen from a trial."""
        return (self._folder / "search.json").exists()

    def propose(self, trial: str, record: dict[str, Any]) -> None:
        """Write down NNI's record of a trial: `parameter_id` and `parameters`."""
        write_json(self._path("proposals", trial), record)

    def proposal(self, trial: str) -> dict[str, Any] | None:
        return self._read("proposals", trial)

    def take(self, taken: Taken) -> None:
        """Write down what a trial says of itself, in place of what it said before."""
        error = None if taken.error is None else {"text": taken.error, "fatal": taken.error.fatal}
        write_json(self._path("trials", taken.trial), {**asdict(taken), "error": error})

    def taken(self, trial: str) -> Taken | None:
        values = self._read("trials", trial)
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
        found = (self.taken(path.stem) for path in sorted((self._folder / "trials").glob("*.json")))
        return [taken for taken in found if taken is not None]

    def heartbeat_path(self, trial: str) -> Path:
        """Where a trial's heartbeat is heard."""
        return self._folder / "heartbeats" / trial

    def beat(self, trial: str) -> Beat | None:
        """A trial's last one; None if it has never beaten here."""
        return read_beat(self.heartbeat_path(trial))

    def forget_beats(self) -> None:
        """Of trials that ran for an earlier tuner; one that runs still beats again."""
        shutil.rmtree(self._folder / "heartbeats", ignore_errors=True)

    def finish(self, ops: Ops, outcome: Outcome) -> None:
        """Write down what became of an architecture, other than a failure."""
        values = {"metrics": outcome.metrics, "parts": outcome.parts, "stopped": outcome.stopped}
        write_json(self._path("outcomes", _name(ops)), {"identity": self.identity, **values})

    def outcome(self, ops: Ops) -> Outcome | None:
        """What became of an architecture, if a trial with this config and this supernet has said so."""
        values = self._read("outcomes", _name(ops))
        if values is None or values["identity"] != self.identity:
            return None
        return Outcome(values["metrics"], parts=tuple(values["parts"]), stopped=values["stopped"])

    def _path(self, kind: str, name: str) -> Path:
        return self._folder / kind / f"{name}.json"

    def _read(self, kind: str, name: str) -> dict[str, Any] | None:
        path = self._path(kind, name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            _log.warning("%s: damaged, and left out: %s", path, error)
            return None


def _name(ops: Ops) -> str:
    return ",".join(map(str, ops))
