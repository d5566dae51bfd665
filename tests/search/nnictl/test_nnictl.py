"""The front door end to end: `nnictl create --config` runs a search, with trials in NNI's local service."""

import contextlib
import io
import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.doctor.sockets import ListeningSocket, family, listeners
from detnas_nni.errors import EvaluationError, UsageError
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.nnictl import follow as follow_module
from detnas_nni.search.nnictl.files import TrialFiles
from detnas_nni.search.nnictl.follow import follow
from detnas_nni.search.session import SearchSession, search_in_process
from detnas_nni.util.processes import Process, descendants
from search_spaces import search_space_json
from tests.processes import within
from tests.search.nnictl.experiments import (
    ROOT,
    Experiment,
    architecture_of,
    final_of,
    free_port,
    linked_run,
    parameters_of,
    wait_until,
    write_experiment,
)
from tests.search.searching import BLOCKS

TRIALS = 8

EXPERIMENTS = sorted(ROOT.glob("experiments/*/search*.yaml"))


@dataclass(frozen=True)
class Finished:
    """What an experiment left behind and what NNI said of it while its server ran."""

    file: Path
    config: Config
    followed: str
    jobs: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    shown: str
    listed: str
    listening: list[ListeningSocket]
    board: dict[str, Any]
    left: list[str]

    @property
    def journal(self) -> Journal:
        return Journal(journal_path(self.config.search_dir))

    def proposed(self) -> list[Architecture]:
        """What the REST API says that each trial's parameters are, in the order of the trials."""
        return [architecture_of(job) for job in self.jobs]


def followed(port: int) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        follow(port, every=0.5)
    return printed.getvalue()


def tensorboard_of(experiment: Experiment) -> dict[str, Any]:
    """What the TensorBoard shows that the web UI opens for two trials, and where it listens."""
    jobs = [job["trialJobId"] for job in experiment.jobs()[:2]]
    task = experiment.rest("tensorboard", {"trials": ",".join(jobs)})
    process = Process.of(task["pid"])
    address = f"http://127.0.0.1:{task['port']}/data/plugin/scalars/tags"

    def tags() -> dict[str, Any]:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)
        return {}

    try:
        wait_until(lambda: len(tags()) == 2, seconds=120)
        addresses = {listener.address for listener in listeners(family(task["pid"]))}
        return {"jobs": jobs, "tags": tags(), "addresses": addresses}
    finally:
        for found in (*descendants(process), process):
            found.send(signal.SIGKILL)


@pytest.fixture(scope="module")
def finished(supernets, write_config, tmp_path_factory) -> Iterator[Finished]:
    """One experiment of eight trials, four at a time, run to its end and then stopped."""
    folder = tmp_path_factory.mktemp("experiment")
    # Trials of differing length, which ask NNI for parameters in another order than they were started in.
    file = write_experiment(
        folder,
        write_config,
        linked_run(folder, supernets),
        command="sleep $((3 - NNI_TRIAL_SEQ_ID % 4)) && {trial}",
    )
    with Experiment(file, folder / "home") as experiment:
        wait_until(lambda: any(job["status"] == "RUNNING" for job in experiment.jobs()))
        listening = listeners(family(experiment.manager.pid))
        printed = followed(experiment.port)
        found = {
            "followed": printed,
            "jobs": experiment.jobs(),
            "metrics": experiment.rest("metric-data"),
            "shown": experiment.nnictl("experiment", "show", experiment.id),
            "listed": experiment.nnictl("trial", "ls", experiment.id),
            "listening": listening,
            "board": tensorboard_of(experiment),
        }
        processes = experiment.processes()
        experiment.nnictl("stop", experiment.id)
        within(30, lambda: not any(process.alive for process in processes))
        left = [str(process) for process in processes if process.alive]
    return Finished(file=file, config=load_config(folder / "detnas.yaml"), left=left, **found)


def test_every_candidate_is_in_the_journal_and_the_best_architecture_is_there(finished):
    journal = finished.journal
    assert len(journal) == TRIALS
    assert all(evaluation.metrics is not None for evaluation in journal.evaluations)
    best = json.loads((finished.config.search_dir / "best_architecture.json").read_text())
    assert best["metrics"] == journal.best()[0].metrics


def test_nni_shows_each_metric_beside_the_parameters_that_it_belongs_to(finished):
    """Without the trial's own look-up NNI 3.0 swaps parameters when more than one trial runs."""
    assert len(finished.jobs) == TRIALS
    assert {job["status"] for job in finished.jobs} == {"SUCCEEDED"}
    files = TrialFiles(finished.config.search_dir, {})
    for job in finished.jobs:
        ops = architecture_of(job).ops
        assert final_of(job) == finished.journal.find(ops).metrics
        assert files.taken(job["trialJobId"]).ops == ops
    sizes = {(e.cost["macs"], e.cost["params"]) for e in finished.journal.evaluations}
    assert len(sizes) > TRIALS // 2  # which stand among the metrics, or a swap would not be seen


def test_a_trial_has_one_readable_parameter_a_block(finished):
    for job in finished.jobs:
        parameters = parameters_of(job)
        assert list(parameters) == [f"layer_{block:02}" for block in range(BLOCKS)]
        assert all(re.fullmatch(r"(shufflenet|xception)_\dx\d", choice) for choice in parameters.values())


def test_each_trial_has_an_intermediate_curve_that_ends_at_its_fitness(finished):
    for job in finished.jobs:
        parts = [
            (metric["sequence"], json.loads(json.loads(metric["data"])))
            for metric in finished.metrics
            if metric["trialJobId"] == job["trialJobId"] and metric["type"] == "PERIODICAL"
        ]
        assert len(parts) == 2
        assert max(parts)[1]["default"] == final_of(job)["default"]


def test_the_tensorboard_that_the_web_ui_opens_shows_the_trials_scalars_on_loopback(finished):
    tags = finished.board["tags"]
    assert all(any(job in run for run in tags) for job in finished.board["jobs"])
    assert all({"fitness", "AP50", "MACs_M", "seconds"} <= set(of_run) for of_run in tags.values())
    assert finished.board["addresses"] == {"127.0.0.1"}


def test_following_prints_each_trial_once_as_it_ends(finished):
    first, *trials = finished.followed.splitlines()
    assert re.fullmatch(r"experiment \w{8}: web UI at http://127\.0\.0\.1:\d+", first)
    fitnesses = []
    for number, line in enumerate(trials, start=1):
        found = re.fullmatch(
            rf"  trial {number}  succeeded  fitness (\d\.\d+)  \d+ s  (\w+ ?){{{BLOCKS}}}", line
        )
        fitnesses.append(found[1])
    assert sorted(fitnesses) == sorted(f"{e.fitness:.4f}" for e in finished.journal.evaluations)


def test_nnictl_lists_the_experiment_and_its_trials(finished):
    assert "detnas-quickstart" in finished.shown
    for job in finished.jobs:
        assert job["trialJobId"] in finished.listed
    assert finished.listed.count("shufflenet") + finished.listed.count("xception") >= BLOCKS * TRIALS


def test_a_stop_leaves_nothing_behind(finished):
    assert finished.left == []


def test_while_a_search_runs_nothing_of_it_listens_but_the_server_and_that_on_loopback(finished):
    assert [listener.address for listener in finished.listening] == ["127.0.0.1"]


def test_the_same_seed_searches_the_same_through_both_doors(finished, tmp_path, supernets, write_config):
    """The paper's evolution waits for whole generations, so this holds at any concurrency."""
    write_experiment(tmp_path, write_config, linked_run(tmp_path, supernets))
    config = load_config(tmp_path / "detnas.yaml")
    best = json.loads(search_in_process(config).read_text())
    inside = Journal(journal_path(config.search_dir))
    assert {architecture.ops for architecture in finished.proposed()} == {e.ops for e in inside.evaluations}
    for evaluation in inside.evaluations:
        through_nnictl = finished.journal.find(evaluation.ops)
        assert through_nnictl.fitness == evaluation.fitness
        assert (through_nnictl.generation, through_nnictl.origin) == (
            evaluation.generation,
            evaluation.origin,
        )
    outside = json.loads((finished.config.search_dir / "best_architecture.json").read_text())
    assert (outside["ops"], outside["cost"]) == (best["ops"], best["cost"])


def test_a_second_experiment_on_a_finished_run_evaluates_nothing_again_and_is_seen_to_end(finished, tmp_path):
    before = (finished.config.search_dir / "journal.jsonl").read_bytes()
    with Experiment(finished.file, tmp_path / "home") as experiment:
        assert "trial" not in followed(experiment.port)
        assert experiment.jobs() == []
    assert (finished.config.search_dir / "journal.jsonl").read_bytes() == before


@pytest.mark.slow  # the tuner's refusal is in test_tuner.py, what following prints of one in the next test
def test_an_experiment_with_the_file_of_another_space_ends_with_the_reason(finished, tmp_path):
    values = yaml.safe_load(finished.file.read_text())
    values["searchSpaceFile"] = str(ROOT / "search_spaces/small.json")
    file = finished.file.with_name("wrong_space.yaml")
    file.write_text(yaml.safe_dump(values))
    with Experiment(file, tmp_path / "home") as wrong:
        found = rf"{wrong.id} is ERROR: searchSpaceFile does not hold the config's space .*dispatcher\.log"
        with pytest.raises(EvaluationError, match=found):
            followed(wrong.port)


def test_an_experiment_that_cannot_start_ends_with_the_reason_which_following_prints(finished, tmp_path):
    """Here a folder in which another process searches; test_tuner.py has a wrong space and other reasons."""
    with SearchSession(finished.config), Experiment(finished.file, tmp_path / "home") as second:
        found = (
            rf"{second.id} is ERROR: .*run/search: process \d+ .*`detnas search`.* searches here already"
            r".*dispatcher\.log"
        )
        with pytest.raises(EvaluationError, match=found):
            followed(second.port)


def test_following_a_port_without_an_experiment_names_the_address(monkeypatch):
    monkeypatch.setattr(follow_module, "_PATIENCE", 0.0)
    port = free_port()
    with pytest.raises(UsageError, match=rf"http://127\.0\.0\.1:{port}/.*is --port the web UI's"):
        follow(port)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_experiment_files_that_are_shipped_agree_with_their_config(file, monkeypatch):
    for variable in ("COCO", "IMAGENET", "VOC", "DETNAS_REAL_DATA"):
        monkeypatch.setenv(variable, "/data")
    values = yaml.safe_load(file.read_text())
    tuner = values["tuner"]
    arguments = tuner["classArgs"]
    config = load_config(file.parent / arguments["config"], arguments.get("overrides", []))
    # A candidate that fails takes another trial, so a search has no number of trials; it ends by itself.
    assert "maxTrialNumber" not in values
    space = json.loads((file.parent / values["searchSpaceFile"]).read_text())
    assert space == search_space_json(config.space.name)
    assert f"-c {arguments['config']}" in values["trialCommand"]
    for override in arguments.get("overrides", []):
        assert f"--set {override}" in values["trialCommand"]
    assert (file.parent / values["trialCodeDirectory"]).resolve() == file.parent
    assert (file.parent / tuner["codeDirectory"]).resolve() == file.parent
