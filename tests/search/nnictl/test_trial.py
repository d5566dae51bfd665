"""A trial by itself: what it evaluates, what it reports, what it leaves behind when it fails."""

import json
import shutil
import signal
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

from detnas_nni.config.reading import load_config
from detnas_nni.cost.table import cost_table
from detnas_nni.errors import ArchitectureError, CheckpointError, EvaluationError, UsageError
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.search.journal import Evaluation, search_identity
from detnas_nni.search.nnictl import trial as trial_module
from detnas_nni.search.nnictl.files import TrialFiles, read_why
from detnas_nni.search.nnictl.trial import run_trial
from detnas_nni.search.outcomes import Outcome
from detnas_nni.search.session import SearchSession
from detnas_nni.training.weights import file_hash
from detnas_nni.util.processes import Process, descendants
from tests.processes import within
from tests.search.nnictl.trial_service import TrialService
from tests.search.searching import tiny

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
            job = {"trialJobId": nni.get_trial_id(), "status": "RUNNING", "hyperParameters": [record]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(job).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://localhost:{server.server_port}/env/local-env/{nni.get_trial_id()}"
    monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", address)
    yield asked
    server.shutdown()


def files_of(config) -> TrialFiles:
    supernet = config.run_dir / (
        "finetune/supernet.pt" if config.evaluation.task == "detection" else "pretrain/supernet.pt"
    )
    return TrialFiles(config.search_dir, search_identity(config, file_hash(supernet)))


def outcome_of(config, architecture):
    """The metrics that are left of an architecture."""
    outcome = files_of(config).outcome(architecture.ops)
    return None if outcome is None else outcome.metrics


def in_a_search(config):
    """A config whose search a tuner has begun, in the folder that both share."""
    SearchSession(config).close()
    return config


def my_word(config):
    """What the trial says of itself."""
    return TrialFiles(config.search_dir, {}).taken(nni.get_trial_id())


def without_seconds(metrics):
    return {key: value for key, value in metrics.items() if key != "seconds"}


def test_a_trial_evaluates_what_the_manager_has_on_record_and_not_what_it_was_handed(
    trained_run, make_config, channel, manager
):
    config = in_a_search(make_config(trained_run))
    run_trial(config)
    assert manager == [f"/api/v1/nni/trial-jobs/{nni.get_trial_id()}"]
    expected = without_seconds(CandidateEvaluation(config).evaluate(MINE).reported())
    [(parameter_id, final)] = channel.finals()
    assert parameter_id == 3
    assert without_seconds(final) == expected
    assert without_seconds(outcome_of(config, MINE)) == expected
    assert outcome_of(config, ANOTHERS) is None


@pytest.mark.parametrize("address", [None, "http://localhost:1/env/remote/trial"], ids=["none", "no answer"])
def test_out_of_the_managers_and_the_tuners_reach_a_trial_takes_what_it_was_handed(
    trained_run, make_config, channel, monkeypatch, address
):
    if address is not None:
        monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", address)
    config = make_config(trained_run, evaluation={"task": "classification"})
    run_trial(config)
    [(parameter_id, final)] = channel.finals()
    assert parameter_id == 7
    # What it is a result of cannot be read in the folder.
    assert json.loads(final.pop("identity")) == files_of(config).identity
    assert outcome_of(config, ANOTHERS) == final
    assert my_word(config).ops == ANOTHERS.ops


def test_out_of_the_managers_reach_a_trial_finds_its_proposal_in_the_folder(
    trained_run, make_config, channel, monkeypatch
):
    monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", "http://localhost:1/env/remote/trial")
    config = make_config(trained_run, evaluation={"task": "classification"})
    record = {"parameter_id": 3, "parameters": MINE.choices}
    with SearchSession(config):
        # The tuner writes it down when NNI says which trial it went to, and that may be later.
        later = threading.Timer(1.0, files_of(config).propose, (nni.get_trial_id(), record))
        later.start()
        run_trial(config)
    [(parameter_id, final)] = channel.finals()
    assert parameter_id == 3
    assert outcome_of(config, MINE) == final
    assert outcome_of(config, ANOTHERS) is None


def test_a_tuner_that_says_nothing_is_not_waited_for_forever(trained_run, make_config, channel, monkeypatch):
    monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", "http://localhost:1/env/remote/trial")
    monkeypatch.setattr(trial_module, "_PATIENCE", 0.6)
    config = make_config(trained_run, evaluation={"task": "classification"})
    with SearchSession(config):
        run_trial(config)
    assert channel.finals()[0][0] == 7
    assert outcome_of(config, ANOTHERS) is not None


def test_a_trial_says_what_it_evaluates_with_which_supernet_and_who_it_is_before_it_begins(
    trained_run, make_config, channel, monkeypatch
):
    config = make_config(trained_run, evaluation={"task": "classification"})
    said = []
    evaluate = CandidateEvaluation.evaluate

    def looks(self, *arguments, **options):
        said.append(my_word(config))
        return evaluate(self, *arguments, **options)

    monkeypatch.setattr(CandidateEvaluation, "evaluate", looks)
    run_trial(config)
    [taken] = said
    assert (taken.ops, taken.process, taken.error) == (ANOTHERS.ops, Process.current(), None)
    assert taken.identity == {
        "config": search_identity(config, "")["config"],
        "supernet": file_hash(trained_run / "pretrain/supernet.pt"),
    }


def test_what_was_evaluated_before_is_reported_and_not_evaluated_again(
    trained_run, make_config, channel, monkeypatch
):
    """NNI starts trials again after a resume, some of which had ended while no tuner lived."""
    config = in_a_search(make_config(trained_run, evaluation={"task": "classification"}))
    files_of(config).finish(ANOTHERS.ops, Outcome({"default": 0.625, "MACs_M": 20.0}))
    monkeypatch.setattr(CandidateEvaluation, "evaluate", None)
    run_trial(config)
    assert channel.finals() == [(7, {"default": 0.625, "MACs_M": 20.0})]


def test_in_a_search_for_a_front_nni_also_hears_by_how_many_it_is_beaten_and_the_journal_does_not(
    trained_run, make_config, channel, monkeypatch
):
    config = make_config(trained_run, evaluation={"task": "classification"}, search={"strategy": "pareto"})
    table = cost_table("tiny")
    with SearchSession(config) as session:
        for architecture, fitness in ((tiny(0), 0.7), (tiny(1), 0.8), (tiny(2), 0.3)):
            session.journal.append(
                Evaluation(
                    id=len(session.journal),
                    ops=architecture.ops,
                    choices=architecture.choices,
                    cost=table.cost(architecture).to_dict(),
                    metrics={"default": fitness},
                    generation=0,
                    origin="random",
                    seconds=1.0,
                    finished_at="2030-01-01T00:00:00+00:00",
                )
            )
    files_of(config).finish(ANOTHERS.ops, Outcome({"default": 0.625, "MACs_M": 20.0}))
    monkeypatch.setattr(CandidateEvaluation, "evaluate", None)
    run_trial(config)
    expected = sum(table.cost(tiny(op)).macs <= table.cost(ANOTHERS).macs for op in (0, 1))
    assert expected > 0
    assert channel.finals() == [(7, {"default": 0.625, "MACs_M": 20.0, "beaten_by": expected})]
    assert outcome_of(config, ANOTHERS) == {"default": 0.625, "MACs_M": 20.0}


def test_a_result_with_another_supernet_is_not_taken_for_this_ones(trained_run, make_config, channel):
    config = in_a_search(make_config(trained_run, evaluation={"task": "classification"}))
    files = files_of(config)
    TrialFiles(config.search_dir, files.identity | {"supernet": "another"}).finish(
        ANOTHERS.ops, Outcome({"default": 0.99})
    )
    run_trial(config)
    assert channel.finals()[0][1]["default"] != 0.99
    assert outcome_of(config, ANOTHERS) == channel.finals()[0][1]


def test_the_outcome_is_written_before_nni_hears_of_the_result(trained_run, make_config, channel):
    """The tuner reads it as soon as NNI brings the metric."""
    config = in_a_search(make_config(trained_run, evaluation={"task": "classification"}))
    written = []
    channel.before_final = lambda: written.append(outcome_of(config, ANOTHERS))
    run_trial(config)
    assert written[0] == channel.finals()[0][1]


def test_a_trial_that_fails_leaves_its_reason_and_reports_nothing(trained_run, make_config, channel):
    config = make_config(trained_run, evaluation={"finetune_iterations": 8, "finetune_lr": 1e30})
    with pytest.raises(EvaluationError):
        run_trial(config)
    assert channel.finals() == []
    taken = my_word(config)
    assert taken.ops == ANOTHERS.ops and not taken.error.fatal
    assert taken.error.startswith(f"EvaluationError: the loss of {ANOTHERS} is nan at step ")
    assert taken.error.endswith(" of 8 of its fine-tuning; lower evaluation.finetune_lr")


def test_a_trial_without_a_supernet_says_so_to_the_tuner_too(make_config, tmp_path, channel):
    config = make_config(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"finetune/supernet\.pt: there is no supernet"):
        run_trial(config)
    taken = my_word(config)
    assert taken.ops == ANOTHERS.ops and taken.error.fatal
    assert "there is no supernet" in taken.error


@pytest.mark.parametrize("shared", [True, False])
def test_where_the_tuner_cannot_read_its_word_a_trial_prints_why_it_fails(
    trained_run, make_config, channel, capfd, shared
):
    config = make_config(trained_run)
    if shared:
        in_a_search(config)
    (trained_run / "finetune/supernet.pt").unlink()
    with pytest.raises(CheckpointError):
        run_trial(config)
    printed = read_why(capfd.readouterr().err)
    assert printed.fatal is not shared
    assert shared or "there is no supernet" in printed


def test_data_that_cannot_be_read_are_no_fault_of_the_candidate(trained_run, make_config, channel, shapes):
    data = shutil.copytree(shapes, trained_run / "data")
    config = make_config(trained_run, data_dir=data)
    (data / "detection/search.json").write_text("{")
    with pytest.raises(Exception, match=r"search\.json"):
        run_trial(config)
    assert my_word(config).error.startswith("DataError: ") and my_word(config).error.fatal


def test_parameters_of_another_space_are_refused(trained_run, make_config, channel):
    channel.parameters = {"layer_00": "shufflenet_3x3"}
    config = make_config(trained_run)
    with pytest.raises(ArchitectureError, match="lacks the label 'layer_01'"):
        run_trial(config)
    assert my_word(config).ops is None and "layer_01" in my_word(config).error


@pytest.mark.filterwarnings("ignore:.*Running trial code without runtime")
def test_outside_of_an_experiment_it_says_who_starts_it(trained_run, make_config, channel):
    set_default_trial_command_channel(StandaloneTrialCommandChannel())  # NNI's own, where it is not there
    with pytest.raises(UsageError, match="started by NNI, for a trial; see `nnictl create"):
        run_trial(make_config(trained_run))


# A trial's process.


@pytest.fixture
def endless(trained_run, write_config):
    """The config of trials that do not come to an end."""
    return write_config(
        trained_run.parent / "detnas.yaml",
        evaluation={"finetune_iterations": 10**9, "finetune_lr": 1e-9},
        hardware={"workers": 1, "keep_decoded_gb": 0},  # or no loader would be left
    )


def started(service, config_file, *options):
    """A trial that evaluates, its loader's processes, and the files of its search."""
    service.handed["a1b2c"] = service.records["a1b2c"]
    trial = service.start("a1b2c", config_file, *options)
    # Beside the loader's there is the process that is the trial's heartbeat.
    assert within(120, lambda: trial.poll() is not None or len(descendants(Process.of(trial.pid))) == 2)
    assert trial.poll() is None, trial.stdout.read()
    loaders = descendants(Process.of(trial.pid))
    return trial, loaders, TrialFiles(load_config(config_file).search_dir, {})


MY_RECORD = {"a1b2c": {"parameter_id": 7, "parameters": MINE.choices}}


def test_a_trial_that_takes_too_long_is_ended_with_its_loaders_and_says_so(endless):
    with TrialService(MY_RECORD) as service:
        trial, loaders, files = started(service, endless, "--set", "search.max_trial_seconds=8")
        assert trial.wait(60) == 1
        assert within(10, lambda: not any(loader.alive for loader in loaders))
    taken = files.taken("a1b2c")
    assert taken.ops == MINE.ops and not taken.error.fatal
    assert taken.error.startswith("EvaluationError: it took longer than search.max_trial_seconds (8 s) (")
    assert service.finals("a1b2c") == []


def test_a_trial_that_is_killed_has_said_what_it_had_taken_and_leaves_no_loader_behind(endless):
    with TrialService(MY_RECORD) as service:
        trial, loaders, files = started(service, endless)
        trial.send_signal(signal.SIGKILL)
        trial.wait()
        assert within(30, lambda: not any(loader.alive for loader in loaders))
    taken = files.taken("a1b2c")
    assert (taken.ops, taken.error) == (MINE.ops, None)
    assert files.beat("a1b2c").ended
    assert taken.process.pid == trial.pid and not taken.process.alive
