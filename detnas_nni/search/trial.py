"""One nnictl trial: `detnas trial -c detnas.yaml` evaluates NNI's candidate.

NNI 3.0 hands parameters out in the order in which trials ask, not to the trial that they were proposed for:
with `trialConcurrency` > 1, two of eight were seen swapped, and the web UI then shows a metric beside another
trial's parameters. So a trial asks NNI's manager for its own record and evaluates what stands there.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import nni

# NNI's NAS packages otherwise import pytorch-lightning at once, two seconds of every trial's start.
nni.set_default_framework("none")

from detnas_nni.architecture import Architecture  # noqa: E402
from detnas_nni.config import Config  # noqa: E402
from detnas_nni.errors import UsageError  # noqa: E402
from detnas_nni.search.candidate import CandidateEvaluation  # noqa: E402
from detnas_nni.search.evaluator import DetNASEvaluator, describe  # noqa: E402
from detnas_nni.search.outcome import Outcome, save_outcome  # noqa: E402

_log = logging.getLogger(__name__)

_TIMEOUT = 30  # seconds, for an answer from NNI's manager on the same machine


def run_trial(config: Config) -> None:
    """Evaluate this trial's candidate and report it.

    Raises UsageError outside of an NNI experiment, and whatever the evaluation raises, after the outcome is
    written down for the tuner.
    """
    parameters = nni.get_next_parameter()
    if not parameters:
        raise UsageError("this command is started by NNI, for a trial; see `nnictl create --config`")
    record = _own_record()
    if record is not None:
        parameters = record["parameters"]
        # What is reported from here on carries the id of what is evaluated.
        nni.trial._params = record
    architecture = Architecture.from_choices(config.space.name, parameters)
    _log.info("trial %s evaluates %s", nni.get_trial_id(), architecture)
    try:
        evaluator = DetNASEvaluator(CandidateEvaluation(config))
        result = evaluator.measure(architecture)
    except Exception as error:
        save_outcome(config.search_dir, architecture, Outcome(error=describe(error)))
        raise
    # Before NNI hears of it: the tuner reads the outcome at NNI's word.
    save_outcome(config.search_dir, architecture, Outcome(metrics=result.reported()))
    evaluator.report(result)


def _own_record() -> dict[str, Any] | None:
    """The parameters and their id that NNI's manager has on record for this trial; None out of its reach."""
    channel = os.environ.get("NNI_TRIAL_COMMAND_CHANNEL")
    if not channel:
        return None
    address = urlsplit(channel)
    url = f"{address.scheme}://{address.netloc}/api/v1/nni/trial-jobs/{nni.get_trial_id()}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            job = json.load(answer)
    except (urllib.error.URLError, ValueError) as error:
        # On a remote machine the channel does not lead to the manager's REST API.
        _log.warning("%s: %s; taking the parameters as NNI handed them out", url, error)
        return None
    return json.loads(job["hyperParameters"][0])
