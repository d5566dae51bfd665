"""`detnas stop`, and signals to a search in process: they end what is the search's, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from detnas_nni.config.reading import load_config
from detnas_nni.errors import UsageError
from detnas_nni.search.lock import Owner, read_owner, write_owner
from detnas_nni.search.nnictl.files import Taken, TrialFiles
from detnas_nni.search.nnictl.stop import stop
from detnas_nni.search.session import SearchSession
from detnas_nni.util.processes import Process, descendants
from tests.processes import sleeping, within
from tests.search.nnictl.experiments import Experiment, environment, linked_run, wait_until, write_experiment

ENDLESS = {
    "evaluation": {"finetune_iterations": 10**9, "finetune_lr": 1e-9},
    "hardware": {"workers": 1, "keep_decoded_gb": 0},  # or no loader would be left
}


class Search:
    """`detnas search` on a candidate that takes for ever, with a loader process."""

    def __init__(self, config_file, home):
        detnas = str(Path(sys.executable).with_name("detnas"))
        self.child = subprocess.Popen(
            [detnas, "search", "-c", str(config_file)],
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.process = Process.of(self.child.pid)
        folder = load_config(config_file).search_dir
        assert within(
            600,
            lambda: (
                self.child.poll() is not None
                or (read_owner(folder) is not None and descendants(self.process))
            ),
        )
        assert self.child.poll() is None, self.child.stdout.read()
        self.all = [self.process, *descendants(self.process)]

    def is_gone(self, seconds=300.0):
        return within(seconds, lambda: self.child.poll() is not None and not any(p.alive for p in self.all))


def files_of(session):
    return TrialFiles(session.folder, session.identity)


@pytest.fixture
def config_file(trained_run, write_config):
    return write_config(trained_run.parent / "detnas.yaml", **ENDLESS)


@pytest.fixture
def search(config_file, tmp_path):
    search = Search(config_file, tmp_path)
    yield search
    for process in search.all:
        process.send(signal.SIGKILL)
    search.child.wait()


def test_it_ends_a_search_in_process_with_its_loaders(search, config_file):
    config = load_config(config_file)
    [ended] = stop(config)
    assert f"process {search.child.pid} on " in ended and "`detnas search`" in ended
    assert search.is_gone(1)
    assert "interrupted; run the same command again to resume" in search.child.stdout.read()
    assert stop(config) == []
    with SearchSession(config):
        pass


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="SIGKILL"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_a_search_in_process_leaves_no_loader_behind(search, number):
    search.process.send(number)
    assert search.is_gone()


def test_where_nothing_runs_there_is_nothing_to_stop(trained_run, make_config):
    config = make_config(trained_run)
    assert stop(config) == []
    with SearchSession(config):
        pass
    write_owner(config.search_dir, replace(read_owner(config.search_dir), process=dead()))
    assert stop(config) == []


def dead() -> Process:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = Process.of(child.pid)
    child.wait()
    return process


def test_a_process_that_only_has_the_number_of_one_of_the_search_is_left_alone(trained_run, make_config):
    config = make_config(trained_run)
    with SearchSession(config) as session, sleeping() as child, sleeping() as other:
        recycled = replace(Process.of(child.pid), started="before/1")
        files_of(session).take(Taken("t", (0,) * 9, {}, replace(Process.of(other.pid), started="before/2")))
        owner = Owner("x", "nnictl create", "then", manager=recycled, guard=recycled, experiment="a1b2c3d4")
        write_owner(config.search_dir, replace(owner, process=recycled))
        assert stop(config) == []
        assert child.poll() is None and other.poll() is None


def test_a_trial_that_was_left_is_ended(trained_run, make_config):
    config = make_config(trained_run)
    with SearchSession(config) as session, sleeping() as child:
        files_of(session).take(Taken("t", (0,) * 9, session.identity, Process.of(child.pid)))
        write_owner(config.search_dir, replace(session.lock.owner, process=dead()))
        assert stop(config) == [f"{Process.of(child.pid)}, left over from it"]
        assert child.wait(5) == -signal.SIGTERM


def test_on_another_machine_than_the_searchs_it_says_where_to_go(trained_run, make_config):
    config = make_config(trained_run)
    with SearchSession(config) as session:
        elsewhere = replace(session.lock.owner, process=replace(Process.current(), host="gpu-7"))
        write_owner(config.search_dir, elsewhere)
        with pytest.raises(UsageError, match=rf"run/search: process {os.getpid()} on gpu-7 .* on another"):
            stop(config)


@pytest.mark.slow
def test_it_ends_an_experiment_with_its_manager_tuner_trials_loaders_and_guard(
    tmp_path, supernets, write_config, monkeypatch
):
    file = write_experiment(
        tmp_path,
        write_config,
        linked_run(tmp_path, supernets),
        command="detnas trial -c detnas.yaml; exit $?",  # behind a shell, which NNI's signals do not pass
        concurrency=2,
        **ENDLESS,
    )
    config = load_config(file.with_name("detnas.yaml"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Experiment(file, tmp_path / "home") as experiment:
        files = TrialFiles(config.search_dir, {})
        wait_until(lambda: len(files.all_taken()) == 2)
        # A loader, and the trial's heartbeat.
        wait_until(lambda: all(len(descendants(taken.process)) == 2 for taken in files.all_taken()))
        owner = experiment.owner(config.search_dir)
        everybody = {*experiment.processes(), owner.guard}
        assert len(everybody) >= 1 + 2 + 1 + 2 * 4
        assert f"experiment {experiment.id}, web UI on port {experiment.port}" in stop(config)[0]
        assert not any(process.alive for process in everybody)
        listed = json.loads((tmp_path / "home/nni-experiments/.experiment").read_text())
        assert listed[experiment.id]["status"] == "STOPPED"
