"""Watch an nnictl experiment from outside, through NNI's REST API, until its search has ended."""

from __future__ import annotations

import json
import re
import subprocess
import time
from enum import Enum, auto
from pathlib import Path
from typing import Any

from detnas_nni.errors import EvaluationError, UsageError
from detnas_nni.search.journal import Journal, JournalError, journal_path
from detnas_nni.search.lock import Owner, read_owner
from detnas_nni.search.nnictl.rest import ERRORS, RestApi
from detnas_nni.util.progress import ProgressBar, is_watched

_TIMEOUT = 10  # seconds for one answer
_PATIENCE = 60  # seconds for the manager to start answering, or to answer again

# The manager says DONE when maxTrialNumber trials were proposed. A search has no such number, since it
# retries failed candidates, and so leaves the manager at TUNER_NO_MORE_TRIAL for good.
_NO_MORE = ("DONE", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL")
_UNFINISHED = ("WAITING", "RUNNING", "UNKNOWN", "ADD_RESUMED")
# A tuner that waits for results says "no more trials", too, and takes it back at its next proposal.
_SETTLED = 10


def follow(port: int, *, every: float = 2.0, stop: bool = False) -> None:
    """Print each trial of the experiment on 127.0.0.1:`port` as it ends; return when the search has ended.

    On a terminal a bar below them shows the search's progress and the time left.

    Args:
        port: the web UI's.
        every: seconds between two checks.
        stop: stop the experiment's server at the end, even after an error or an interrupt.

    Raises UsageError if nothing answers there, EvaluationError if the experiment fails.
    """
    api = RestApi(f"http://127.0.0.1:{port}", timeout=_TIMEOUT)
    profile = _get(api, "experiment")
    print(f"experiment {profile['id']}: web UI at http://127.0.0.1:{port}", flush=True)
    try:
        with _SearchBar(Path(profile["logDir"]) / "log", profile["id"]) as bar:
            _follow(api, profile, every, bar)
    finally:
        if stop:
            subprocess.run(["nnictl", "stop", profile["id"]], check=False, stdout=subprocess.DEVNULL)
            print(f"stopped; `nnictl view {profile['id']}` opens the web UI again", flush=True)


def _follow(api: RestApi, profile: dict[str, Any], every: float, bar: _SearchBar) -> None:
    def get(path: str) -> Any:
        try:
            return _get(api, path)
        except UsageError as error:
            raise EvaluationError(
                f"experiment {profile['id']} is gone: NNI's manager no longer answers; "
                f"`nnictl resume {profile['id']}` resumes it ({error}; see {log / 'guard.log'})"
            ) from None

    limit = profile["params"].get("maxTrialNumber")
    log = Path(profile["logDir"]) / "log"
    shown: set[str] = set()
    quiet_since: float | None = None
    while True:
        status, jobs = get("check-status"), get("trial-jobs")
        for job in sorted(jobs, key=lambda job: job.get("endTime", 0)):
            if job["status"] not in _UNFINISHED and job["trialJobId"] not in shown:
                shown.add(job["trialJobId"])
                bar.write(_line(job, len(shown), limit))
        bar.look()
        busy = any(job["status"] in _UNFINISHED for job in jobs)
        if busy or status["status"] not in _NO_MORE:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        is_quiet = quiet_since is not None and time.monotonic() - quiet_since > _SETTLED
        match _stand(status["status"], busy, is_quiet, _has_ended(log, profile["id"])):
            case _Stand.ENDED:
                return
            case _Stand.BROKEN:
                reason = _reason(log) or " ".join(status.get("errors", []))
                raise EvaluationError(
                    f"experiment {profile['id']} is {status['status']}: {reason} ({log / 'dispatcher.log'})"
                )
            case _Stand.CUT:
                raise EvaluationError(
                    f"experiment {profile['id']} is DONE after maxTrialNumber {limit}, but its search has "
                    "not ended: leave maxTrialNumber out of the experiment's YAML and run `nnictl create` "
                    "again; the search then resumes"
                )
        time.sleep(every)


class _Stand(Enum):
    GOES_ON = auto()
    ENDED = auto()
    BROKEN = auto()
    CUT = auto()


def _stand(status: str, busy: bool, is_quiet: bool, ended: bool | None) -> _Stand:
    """How an experiment stands.

    | the manager's status   | trials | the search reports   | quiet for long | result  |
    |------------------------|--------|----------------------|----------------|---------|
    | ERROR, STOPPED         | any    | any                  | any            | BROKEN  |
    | any other              | none   | that it has ended    | any            | ENDED   |
    | no more trials         | none   | cannot be read       | yes            | ENDED   |
    | DONE                   | none   | that it has not      | yes            | CUT     |
    | else                   |        |                      |                | GOES_ON |

    Args:
        status: the manager's.
        busy: whether trials wait or run.
        is_quiet: whether none has waited or run, and the manager has asked for none, for long enough.
        ended: whether the search reports its end; None if that cannot be read.
    """
    if status in ("ERROR", "STOPPED", "STOPPING"):
        return _Stand.BROKEN
    if (ended and not busy) or (ended is None and is_quiet):
        return _Stand.ENDED
    return _Stand.CUT if is_quiet and status == "DONE" else _Stand.GOES_ON


def mark_folder(log: Path, search_dir: Path) -> None:
    """Leave the tuner's note, in the experiment's log folder, of where it searches; `follow` reads it."""
    (log / _MARK).write_text(str(search_dir), encoding="utf-8")


_MARK = "search_dir.txt"


def _has_ended(log: Path, experiment: str) -> bool | None:
    """Whether the search reports its end; None if that cannot be read, as from another machine."""
    search = _search(log, experiment)
    return None if search is None else search[1].ended


def _search(log: Path, experiment: str) -> tuple[Path, Owner] | None:
    """The folder of the experiment's search, and its owner's record; None if it cannot be read."""
    try:
        folder = Path((log / _MARK).read_text(encoding="utf-8"))
        owner = read_owner(folder)
    except OSError:
        return None
    return (folder, owner) if owner is not None and owner.experiment == experiment else None


class _SearchBar:
    """A bar below the trials: how many of the search's candidates are in its journal.

    It appears once the search has begun, but never if its folder cannot be read, as from another machine.
    """

    def __init__(self, log: Path, experiment: str) -> None:
        self._log = log
        self._experiment = experiment
        self._bar: ProgressBar | None = None

    def __enter__(self) -> _SearchBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text)

    def look(self) -> None:
        """Show the search's progress."""
        search = _search(self._log, self._experiment) if is_watched() else None
        if search is None or search[1].evaluations is None:
            return
        folder, total = search[0], search[1].evaluations
        try:
            journal = Journal(journal_path(folder))
        except (JournalError, OSError):
            return  # the search itself reports what is wrong with it
        if self._bar is None:
            self._bar = ProgressBar(total, folder.name, "candidate", done=len(journal), lines=False)
        best = journal.best()
        self._bar.to(len(journal), **({"best": f"{best[0].fitness:.4f}"} if best else {}))


def _reason(log: Path) -> str | None:
    """The last error that the tuner reported to NNI, which only writes it to its logs."""
    try:
        text = (log / "dispatcher.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.findall(r"Report error to NNI manager: (.*?)(?=\n\[\d{4}-|\Z)", text, re.DOTALL)
    return found[-1].strip() if found else None


def _line(job: dict[str, Any], number: int, limit: int | None) -> str:
    parameters = json.loads(job["hyperParameters"][0])["parameters"]
    seconds = (job.get("endTime", 0) - job.get("startTime", 0)) / 1000
    of = f"/{limit}" if limit else ""
    metrics = job.get("finalMetricData") or []
    # NNI keeps a metric as JSON in JSON.
    metric = json.loads(json.loads(metrics[0]["data"])) if metrics else None
    result = f"fitness {metric['default']:.4f}" if metric else "no result"
    choices = " ".join(str(choice) for choice in parameters.values())
    return f"  trial {number}{of}  {job['status'].lower()}  {result}  {seconds:.0f} s  {choices}"


def _get(api: RestApi, path: str) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return api.get(path)
        except ERRORS as error:
            if time.monotonic() >= deadline:
                raise UsageError(f"{api}: no experiment answers ({error}); is --port the web UI's?") from None
            time.sleep(0.5)
