"""One nnictl trial: `detnas trial -c detnas.yaml` evaluates NNI's candidate.

NNI 3.0 hands out parameters in the order in which trials ask, not to the trial that they were proposed for:
with `trialConcurrency` > 1, two of eight were seen swapped, and the web UI then shows a metric beside another
trial's parameters. So a trial looks up what was proposed for it and evaluates that; and it records what it
evaluates before it begins, so that the tuner never has to guess.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nni

# NNI's NAS packages otherwise import pytorch-lightning at once, two seconds of every trial's start.
nni.set_default_framework("none")

from detnas_nni.architecture import Architecture, Ops  # noqa: E402
from detnas_nni.config import Config  # noqa: E402
from detnas_nni.config.run_folder import DECODED  # noqa: E402
from detnas_nni.cost.limits import candidate_costs  # noqa: E402
from detnas_nni.errors import UsageError  # noqa: E402
from detnas_nni.evaluation.candidate import CandidateEvaluation  # noqa: E402
from detnas_nni.search.evaluator import DetNASEvaluator, Race  # noqa: E402
from detnas_nni.search.front import objective_costs, point  # noqa: E402
from detnas_nni.search.journal import Journal, journal_path, search_identity  # noqa: E402
from detnas_nni.search.nnictl.files import BEATEN_BY, IDENTITY, Taken, TrialFiles, say_why  # noqa: E402
from detnas_nni.search.nnictl.heartbeat import heartbeat  # noqa: E402
from detnas_nni.search.nnictl.liveness import Watchdog  # noqa: E402
from detnas_nni.search.nnictl.rest import ERRORS, RestApi  # noqa: E402
from detnas_nni.search.nondominated import dominates  # noqa: E402
from detnas_nni.search.outcomes import (  # noqa: E402
    Failure,
    Outcome,
    describe,
)
from detnas_nni.training.runs import supernet_weights  # noqa: E402
from detnas_nni.training.weights import file_hash  # noqa: E402
from detnas_nni.util.processes import Process, die_with_parent, lifeline  # noqa: E402

_log = logging.getLogger(__name__)

# Seconds to wait for the tuner's file if the manager cannot be asked. It is written within two, but NFS may
# claim for a minute that a file is not there.
_PATIENCE = 120.0


def run_trial(config: Config) -> None:
    """Evaluate this trial's candidate and report it.

    Raises UsageError outside an NNI experiment, and whatever the evaluation raises, once that is recorded for
    the tuner.
    """
    ancestors = lifeline()
    if ancestors:
        die_with_parent()
    watchdog = Watchdog(ancestors)
    parameters = nni.get_next_parameter()
    if not parameters:
        raise UsageError("this command is started by NNI, for a trial; see `nnictl create --config`")
    files = TrialFiles(config.search_dir, {})
    try:
        with heartbeat(files.heartbeat_path(nni.get_trial_id())):
            _run(config, parameters, files, watchdog)
    except KeyboardInterrupt:
        # NNI has stopped this trial. If it exits with a status of its own, NNI counts it as failed.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)


def _run(config: Config, parameters: dict[str, Any], files: TrialFiles, watchdog: Watchdog) -> None:
    ops = None

    def failed(failure: Failure) -> None:
        files.take(_taken(files, ops, failure))
        if not files.is_shared():
            say_why(failure)

    try:
        record = _own_record(files)
        if record is not None:
            parameters = record["parameters"]
            # Reports from here on carry the id of what is evaluated.
            nni.trial._params = record
        architecture = Architecture.from_choices(config.space.name, parameters)
        ops = architecture.ops
        files.identity = search_identity(config, file_hash(supernet_weights(config)))
        files.take(_taken(files, ops))
        with watchdog.limit(config.search.max_trial_seconds, on_late=lambda text: failed(Failure(text))):
            _evaluate(config, architecture, files)
    except KeyboardInterrupt:
        files.take(replace(_taken(files, ops), interrupted=True))
        raise
    except Exception as error:
        failed(describe(error))
        raise


def _evaluate(config: Config, architecture: Architecture, files: TrialFiles) -> None:
    known = files.outcome(architecture.ops)
    if known is not None:
        # NNI restarts trials that ran when its manager was killed. Some had already finished.
        _log.info("trial %s: %s was evaluated before", nni.get_trial_id(), architecture)
        _report(known, config, architecture, files)
        return
    race = None
    if config.search.racing is not None:
        race = Race(config.search, Journal(journal_path(config.search_dir)).evaluations)
    _log.info("trial %s evaluates %s", nni.get_trial_id(), architecture)
    evaluation = CandidateEvaluation(config, decoded=config.search_dir / DECODED)
    outcome = Outcome.of(DetNASEvaluator(evaluation, race).measure(architecture))
    # Before NNI is told: the tuner reads the outcome when NNI reports the trial.
    files.finish(architecture.ops, outcome)
    write_board(outcome.metrics or {}, outcome.parts)
    _report(outcome, config, architecture, files)


def _report(outcome: Outcome, config: Config, architecture: Architecture, files: TrialFiles) -> None:
    """Report the final result to NNI, if there is one; to a tuner without the shared folder, with identity.

    In a search for a front the web UI also shows how many others beat a candidate when it ended. The tuner
    takes a result from the shared folder, so this number, which depends on the order in which trials end,
    stays out of the journal.
    """
    if outcome.metrics is None:
        return
    if not files.is_shared():
        nni.report_final_result({**outcome.metrics, IDENTITY: json.dumps(files.identity)})
    elif config.search.strategy == "pareto":
        beaten = beaten_by(config, architecture, outcome.metrics["default"])
        nni.report_final_result({**outcome.metrics, BEATEN_BY: beaten})
    else:
        nni.report_final_result(outcome.metrics)


def beaten_by(config: Config, architecture: Architecture, fitness: float) -> int:
    """How many candidates in the journal are nowhere worse and somewhere better."""
    objectives = config.search.objectives
    own = (-fitness, *objective_costs(candidate_costs(config), objectives, architecture.ops))
    evaluations = Journal(journal_path(config.search_dir)).evaluations
    finished = (e for e in evaluations if e.fitness is not None)
    return sum(dominates(point(e, objectives), own) for e in finished)


def _taken(files: TrialFiles, ops: Ops | None, error: Failure | None = None) -> Taken:
    return Taken(nni.get_trial_id(), ops, files.identity, Process.current(), error)


def _own_record(files: TrialFiles) -> dict[str, Any] | None:
    """What was proposed for this trial, with its id, by NNI's manager or the tuner; None if neither knows."""
    trial, manager = nni.get_trial_id(), RestApi.of_trial()
    if manager is None:
        return None
    try:
        return manager.trial(trial).record
    except ERRORS as error:
        # On another machine the channel does not lead to the manager's REST API.
        _log.info("NNI's manager cannot be asked (%s); waiting for the tuner's file", error)
    deadline = time.monotonic() + _PATIENCE
    while files.is_shared() and time.monotonic() < deadline:
        record = files.proposal(trial)
        if record is not None:
            return record
        time.sleep(0.5)
    _log.warning("what was proposed for this trial is unknown; taking the parameters as NNI handed them out")
    return None


def write_board(metrics: dict[str, float], parts: Sequence[float]) -> Path | None:
    """Write a candidate's fitness on the parts of the split, and its final metrics, where NNI's web UI looks.

    The step is the share of the search split in percent. Returns the folder; None outside NNI's local
    service.
    """
    folder = _board_folder()
    if folder is None:
        return None
    # Imported here, after the evaluation, to keep a trial's start-up short.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    scalars = [("fitness", value, 100 * n // len(parts)) for n, value in enumerate(parts, start=1)]
    scalars += [(name, value, 100) for name, value in metrics.items() if name != "default"]
    for name, value, step in scalars:
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        writer.add_event(Event(step=step, summary=summary))
    writer.close()
    return folder


def _board_folder() -> Path | None:
    """NNI 3.0 runs a trial in EXPERIMENT/environments/NAME/trials/ID, but looks for its TensorBoard files in
    EXPERIMENT/trials/ID/output, where nothing puts them."""
    own = os.environ.get("NNI_OUTPUT_DIR")
    if not own:
        return None
    trial = Path(own)
    if trial.parent.name != "trials" or trial.parents[2].name != "environments":
        return None
    return trial.parents[3] / "trials" / trial.name / "output" / "tensorboard"
