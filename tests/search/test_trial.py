"""A trial by itself: what it evaluates, what it reports, what it leaves behind when it fails."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nni
import pytest
from nni.runtime.trial_command_channel import (
    get_default_trial_command_channel,
    set_default_trial_command_channel,
)
from nni.runtime.trial_command_channel.base import TrialCommandChannel
from nni.runtime.trial_command_channel.standalone import StandaloneTrialCommandChannel
from searching import tiny

from detnas_nni.errors import ArchitectureError, EvaluationError, UsageError
from detnas_nni.search.candidate import CandidateEvaluation
from detnas_nni.search.outcome import load_outcome
from detnas_nni.search.trial import run_trial

MINE = tiny(1, 2, 3, 0)
ANOTHERS = tiny(3)


class Channel(TrialCommandChannel):
    """What NNI gives a trial, in place of its pipe to the manager: parameters in, metrics out."""

    def __init__(self, parameters) -> None:
        self.parameters = parameters
        self.sent: list[tuple[str, int, dict]] = []
        self.before_final = lambda: None

    def receive_parameter(self):
        return {"parameter_id": 7, "parameters": self.parameters}

    def send_metric(self, type, parameter_id, trial_job_id, sequence, value):
        if type == "FINAL":
            self.before_final()
        self.sent.append((type, parameter_id, value))

    def finals(self):
        return [(number, value) for kind, number, value in self.sent if kind == "FINAL"]


@pytest.fixture
def channel(monkeypatch) -> Iterator[Channel]:
    before = get_default_trial_command_channel()
    channel = Channel(ANOTHERS.choices)
    set_default_trial_command_channel(channel)
    # NNI keeps a trial's state in its module; a process has one trial.
    monkeypatch.setattr(nni.trial, "_params", None)
    monkeypatch.setattr(nni.trial, "_intermediate_seq", 0)
    monkeypatch.delenv("NNI_TRIAL_COMMAND_CHANNEL", raising=False)
    yield channel
    set_default_trial_command_channel(before)


@pytest.fixture
def manager(monkeypatch) -> Iterator[list[str]]:
    """The manager's REST API: its record of this trial says MINE, under id 3. Gives the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            record = json.dumps({"parameter_id": 3, "parameters": MINE.choices})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"hyperParameters": [record]}).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://localhost:{server.server_port}/env/local-env/{nni.get_trial_id()}"
    monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", address)
    yield asked
    server.shutdown()


def without_seconds(metrics):
    return {key: value for key, value in metrics.items() if key != "seconds"}


def test_a_trial_evaluates_what_the_manager_has_on_record_and_not_what_it_was_handed(
    trained_run, make_config, channel, manager
):
    config = make_config(trained_run)
    run_trial(config)
    assert manager == [f"/api/v1/nni/trial-jobs/{nni.get_trial_id()}"]
    expected = without_seconds(CandidateEvaluation(config).evaluate(MINE).reported())
    [(parameter_id, final)] = channel.finals()
    assert parameter_id == 3
    assert without_seconds(final) == expected
    assert without_seconds(load_outcome(config.search_dir, MINE).metrics) == expected
    assert load_outcome(config.search_dir, ANOTHERS) is None


@pytest.mark.parametrize("address", [None, "http://localhost:1/env/remote/trial"], ids=["none", "no answer"])
def test_out_of_the_managers_reach_a_trial_takes_what_it_was_handed(
    trained_run, make_config, channel, monkeypatch, address
):
    if address is not None:
        monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", address)
    config = make_config(trained_run, evaluation={"task": "classification"})
    run_trial(config)
    [(parameter_id, final)] = channel.finals()
    assert parameter_id == 7
    assert load_outcome(config.search_dir, ANOTHERS).metrics == final


def test_the_outcome_is_written_before_nni_hears_of_the_result(trained_run, make_config, channel):
    """The tuner reads it as soon as NNI brings the metric."""
    config = make_config(trained_run, evaluation={"task": "classification"})
    written = []
    channel.before_final = lambda: written.append(load_outcome(config.search_dir, ANOTHERS))
    run_trial(config)
    assert written[0].metrics == channel.finals()[0][1]


def test_a_trial_that_fails_leaves_its_reason_and_reports_nothing(trained_run, make_config, channel):
    config = make_config(trained_run, evaluation={"finetune_iterations": 8, "finetune_lr": 1e30})
    with pytest.raises(EvaluationError):
        run_trial(config)
    assert channel.finals() == []
    error = load_outcome(config.search_dir, ANOTHERS).error
    assert error.startswith("EvaluationError: the loss is not finite in the fine-tuning")


def test_a_trial_without_a_supernet_says_so_to_the_tuner_too(make_config, tmp_path, channel):
    config = make_config(tmp_path / "run")
    with pytest.raises(Exception, match="there are no weights"):
        run_trial(config)
    assert "there are no weights" in load_outcome(config.search_dir, ANOTHERS).error


def test_parameters_of_another_space_are_refused(trained_run, make_config, channel):
    channel.parameters = {"layer_00": "shufflenet_3x3"}
    with pytest.raises(ArchitectureError, match="lacks the label 'layer_01'"):
        run_trial(make_config(trained_run))


@pytest.mark.filterwarnings("ignore:.*Running trial code without runtime")
def test_outside_of_an_experiment_it_says_who_starts_it(trained_run, make_config, channel):
    set_default_trial_command_channel(StandaloneTrialCommandChannel())  # NNI's own, where it is not there
    with pytest.raises(UsageError, match="started by NNI, for a trial; see `nnictl create"):
        run_trial(make_config(trained_run))
