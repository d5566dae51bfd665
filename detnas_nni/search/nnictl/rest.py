"""NNI's manager, asked through its REST API."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ERRORS = (urllib.error.URLError, OSError, ValueError, KeyError, IndexError)
"""What a request may raise: no answer, or an answer that is not this API's."""

_UNFINISHED = ("WAITING", "RUNNING", "UNKNOWN", "ADD_RESUMED")


@dataclass(frozen=True)
class Trial:
    """A trial as the manager has it on record."""

    id: str
    status: str
    record: dict[str, Any]
    """what the tuner proposed for it: `parameter_id` and `parameters`"""
    log: str = ""
    """where its log is: a folder, on another machine as HOST:FOLDER"""

    @property
    def ended(self) -> bool:
        return self.status not in _UNFINISHED

    @classmethod
    def of(cls, job: dict[str, Any]) -> Trial | None:
        """From the API's answer; None while it has no parameters yet."""
        records = job.get("hyperParameters")
        if not records:
            return None
        return Trial(job["trialJobId"], job["status"], json.loads(records[0]), job.get("logPath") or "")

    def __str__(self) -> str:
        return f"trial {self.id}" + (f" ({self.log})" if self.log else "")


class RestApi:
    """The API at `http://HOST:PORT/PREFIX`. Its methods raise one of `ERRORS`."""

    def __init__(self, address: str, timeout: float = 30.0) -> None:
        self._root = f"{address}/api/v1/nni"
        self._timeout = timeout

    @classmethod
    def of_tuner(cls) -> RestApi | None:
        """The manager of the tuner that this process is; None outside NNI."""
        # ws://localhost:PORT/PREFIX/tuner
        channel = os.environ.get("NNI_TUNER_COMMAND_CHANNEL")
        return None if not channel else cls(_address(channel, channel.rpartition("/")[0]))

    @classmethod
    def of_trial(cls) -> RestApi | None:
        """The manager of the trial that this process is; None outside NNI.

        On a machine other than the manager's nothing answers: the channel leads to NNI's daemon there.
        """
        # http://localhost:PORT/PREFIX/env/ENVIRONMENT/TRIAL
        channel = os.environ.get("NNI_TRIAL_COMMAND_CHANNEL")
        return None if not channel else cls(_address(channel, channel.partition("/env/")[0]))

    def __str__(self) -> str:
        return self._root

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._root}/{path}", timeout=self._timeout) as answer:
            return json.load(answer)

    def is_stopping(self) -> bool:
        """Whether the manager is ending the experiment, and so its trials."""
        return self.get("check-status")["status"] in ("STOPPING", "STOPPED")

    def trials(self) -> list[Trial]:
        """All trials that the manager has handed to its training service."""
        found = (Trial.of(job) for job in self.get("trial-jobs"))
        return [trial for trial in found if trial is not None]

    def trial(self, trial_id: str) -> Trial:
        """One trial; KeyError if the manager has none with that id, or no parameters for it."""
        trial = Trial.of(self.get(f"trial-jobs/{trial_id}"))
        if trial is None or trial.id != trial_id:
            raise KeyError(trial_id)
        return trial

    def intermediate_results(self, trial_id: str) -> tuple[float, ...]:
        """The fitness that a trial has reported on growing parts of the split, in their order."""
        reported = self.get(f"metric-data/{trial_id}?type=PERIODICAL")
        by_part = sorted(reported, key=lambda metric: metric["sequence"])
        # NNI keeps a metric as JSON in JSON.
        return tuple(json.loads(json.loads(metric["data"]))["default"] for metric in by_part)

    def cancel(self, trial_id: str) -> None:
        """End a trial. If its machine does not answer, neither does the manager."""
        request = urllib.request.Request(f"{self._root}/trial-jobs/{trial_id}", method="DELETE")
        with urllib.request.urlopen(request, timeout=self._timeout):
            pass

    def stderr(self, trial_id: str) -> str:
        """What a trial has written to its standard error, on any machine."""
        path = f"{self._root}/trial-file/{trial_id}/stderr"
        with urllib.request.urlopen(path, timeout=self._timeout) as answer:
            return answer.read().decode(errors="replace")


def _address(channel: str, up_to: str) -> str:
    return f"http://{urlsplit(channel).netloc}{urlsplit(up_to).path}"
