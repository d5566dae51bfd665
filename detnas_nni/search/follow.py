"""Watch an nnictl experiment from outside, through NNI's REST API, until its search has ended."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

from detnas_nni.errors import EvaluationError, UsageError

_TIMEOUT = 10  # seconds for one answer
_PATIENCE = 60  # seconds for the manager to start answering

# The manager says DONE when maxTrialNumber trials were proposed. A search that needs fewer, because its
# journal knew the others, leaves it at TUNER_NO_MORE_TRIAL for good.
_NO_MORE = ("DONE", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL")
_UNFINISHED = ("WAITING", "RUNNING", "UNKNOWN")
# A tuner that waits for results says "no more trials", too, and takes it back at its next proposal.
_SETTLED = 5


def follow(port: int, *, every: float = 2.0, stop: bool = False) -> None:
    """Print each trial of the experiment on 127.0.0.1:`port` as it ends; return when the search has ended.

    Args:
        port: the web UI's.
        every: seconds between two looks.
        stop: stop the experiment's server in the end, also after an error or an interrupt.

    Raises UsageError if nothing answers there, EvaluationError if the experiment fails.
    """
    profile = _get(port, "experiment", patience=_PATIENCE)
    print(f"experiment {profile['id']}: web UI at http://127.0.0.1:{port}", flush=True)
    try:
        _follow(port, profile, every)
    finally:
        if stop:
            subprocess.run(["nnictl", "stop", profile["id"]], check=False, stdout=subprocess.DEVNULL)
            print(f"stopped; `nnictl view {profile['id']}` opens the web UI again", flush=True)


def _follow(port: int, profile: dict[str, Any], every: float) -> None:
    limit = profile["params"].get("maxTrialNumber")
    shown: set[str] = set()
    quiet_since: float | None = None
    while True:
        status = _get(port, "check-status")
        jobs = _get(port, "trial-jobs")
        for job in sorted(jobs, key=lambda job: job.get("endTime", 0)):
            if job["status"] not in _UNFINISHED and job["trialJobId"] not in shown:
                shown.add(job["trialJobId"])
                print(_line(job, len(shown), limit), flush=True)
        if status["status"] in ("ERROR", "STOPPED", "STOPPING"):
            errors = " ".join(status.get("errors", []))
            log = f"{profile['logDir']}/log/dispatcher.log"
            raise EvaluationError(f"experiment {profile['id']} is {status['status']}: {errors} ({log})")
        busy = any(job["status"] in _UNFINISHED for job in jobs)
        if status["status"] == "DONE" and not busy:
            return
        if busy or status["status"] not in _NO_MORE:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > _SETTLED:
            return
        time.sleep(every)


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


def _get(port: int, path: str, patience: float = 0.0) -> Any:
    url = f"http://127.0.0.1:{port}/api/v1/nni/{path}"
    deadline = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() >= deadline:
                raise UsageError(f"{url}: no experiment answers ({error}); is --port the web UI's?") from None
            time.sleep(0.5)
