"""A search on two machines, by NNI's remote training service: each is an sshd of its own on loopback."""

import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml

from detnas_nni.config.reading import load_config
from detnas_nni.errors import EvaluationError
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.nnictl.files import TrialFiles
from detnas_nni.search.nnictl.follow import follow
from detnas_nni.search.nnictl.loopback import site_packages
from detnas_nni.search.session import search_in_process
from detnas_nni.training.weights import file_hash
from tests.search.nnictl.experiments import (
    Experiment,
    architecture_of,
    final_of,
    linked_run,
    wait_until,
    write_experiment,
)
from tests.search.nnictl.sshd import listening, machines

pytestmark = pytest.mark.slow

SEARCH = {"population": 6, "generations": 2, "parents": 3, "mutations": 2, "crossovers": 2, "retries": 0}

# Evaluations of some seconds, so that there is time to die in one.
SLOW = {"finetune_iterations": 40}


def write_remote(folder, write_config, pair, run_dir="run", **sections):
    """An experiment on both machines, in a folder that they share: its config, its code, its run."""
    file = write_experiment(
        folder, write_config, run_dir, command=f"cd {folder} && {{trial}}", concurrency=2, **sections
    )
    values = yaml.safe_load(file.read_text())
    values["nniManagerIp"] = "127.0.0.1"
    values["trainingService"] = {
        "platform": "remote",
        "machineList": [machine.entry() for machine in pair],
    }
    file.write_text(yaml.safe_dump(values))
    return file


def truth(folder, write_config, supernets, **sections):
    """What a search in process, with the same seed, evaluates."""
    run_dir = linked_run(folder, supernets)
    config = load_config(write_config(folder / "detnas.yaml", run_dir=str(run_dir), **sections))
    search_in_process(config)
    return results(config)


def results(config):
    return {evaluation.ops: evaluation.fitness for evaluation in journal(config).evaluations}


def journal(config):
    return Journal(journal_path(config.search_dir))


def machine_of(job):
    return job["envId"]


def installed():
    """The packages of this environment, and when each was."""
    return {path.name: path.stat().st_mtime_ns for path in site_packages().glob("*.dist-info")}


def expect_closed(experiment, pair):
    """Nothing listens on anything but loopback: managers, keepers, sshd."""
    for processes in (experiment.processes(), *(machine.processes() for machine in pair)):
        addresses = {address.rpartition(":")[0] for address in listening(processes)}
        assert addresses == {"127.0.0.1"}


def test_a_search_runs_on_two_machines_and_finds_what_a_search_in_process_finds(
    tmp_path, supernets, write_config
):
    before = installed()
    shared = tmp_path / "shared"
    linked_run(shared, supernets)
    with machines(tmp_path / "machines", first={}, second={}) as pair:
        file = write_remote(shared, write_config, pair, search=SEARCH)
        config = load_config(file.with_name("detnas.yaml"))
        best, said = config.search_dir / "best_architecture.json", TrialFiles(config.search_dir, {})
        with Experiment(file, tmp_path / "home") as experiment:
            wait_until(said.all_taken)
            expect_closed(experiment, pair)
            wait_until(best.exists)
            wait_until(lambda: all(job["status"] == "SUCCEEDED" for job in experiment.jobs()), 60)
            jobs = experiment.jobs()
        # On a busy machine the last of them end a moment after the command that stops them.
        wait_until(lambda: not any(process.alive for process in experiment.processes()), 30)
    assert not any(machine.processes() for machine in pair)
    print({machine_of(job): len([j for j in jobs if machine_of(j) == machine_of(job)]) for job in jobs})
    # Both machines evaluated.
    assert {machine_of(job) for job in jobs} == {"remote-worker1", "remote-worker2"}
    # The journal is what a search in process has, and NNI shows each metric beside its own parameters.
    expected = truth(tmp_path / "alone", write_config, supernets, search=SEARCH)
    assert results(config) == expected and len(jobs) == len(journal(config)) == 12
    assert {architecture_of(job).ops: final_of(job)["default"] for job in jobs} == expected
    # Every trial has checked the supernet.
    hashes = {taken.trial: taken.identity["supernet"] for taken in said.all_taken()}
    assert hashes == {job["trialJobId"]: file_hash(supernets / "finetune/supernet.pt") for job in jobs}
    assert installed() == before


def test_a_machine_dies_in_the_middle_and_the_search_goes_on_on_the_other_to_the_same_results(
    tmp_path, supernets, write_config
):
    """Without retries: the candidates that die with it are not to blame."""
    shared, sections = tmp_path / "shared", {"search": SEARCH, "evaluation": SLOW}
    linked_run(shared, supernets)
    with machines(tmp_path / "machines", first={}, second={}) as pair:
        file = write_remote(shared, write_config, pair, **sections)
        config = load_config(file.with_name("detnas.yaml"))
        best, said = config.search_dir / "best_architecture.json", TrialFiles(config.search_dir, {})

        def evaluating():
            """The first machine's trials that evaluate, after it has finished one."""
            first = {job["trialJobId"] for job in experiment.jobs() if machine_of(job) == "remote-worker1"}
            taken = [taken for taken in said.all_taken() if taken.trial in first]
            found = {taken.trial for taken in taken if not said.beat(taken.trial).ended}
            return found if found and len(found) < len(taken) else set()

        with Experiment(file, tmp_path / "home") as experiment:
            wait_until(evaluating)
            died = evaluating()
            pair[0].die()
            assert not best.exists() and died
            wait_until(best.exists)
            wait_until(lambda: "RUNNING" not in {job["status"] for job in experiment.jobs()}, 60)
            jobs = {job["trialJobId"]: job for job in experiment.jobs()}
            statuses = {job["status"] for name, job in jobs.items() if name not in died}
            assert not any(said.beat(name).ended for name in died)
    assert {jobs[name]["status"] for name in died} == {"USER_CANCELED"} and statuses == {"SUCCEEDED"}
    evaluated = [architecture_of(job).ops for job in jobs.values() if job["status"] == "SUCCEEDED"]
    assert results(config) == truth(tmp_path / "alone", write_config, supernets, **sections)
    # Every candidate exactly once, at the first try.
    assert sorted(evaluated) == sorted(results(config)) and len(journal(config)) == 12
    assert {evaluation.tries for evaluation in journal(config).evaluations} == {1}


def test_a_machine_that_hangs_holds_nni_up_for_good_and_following_says_so(tmp_path, supernets, write_config):
    """NNI waits for ever for its answer. Started again without it, the search goes on to the same results."""
    shared, sections = tmp_path / "shared", {"search": SEARCH, "evaluation": SLOW}
    linked_run(shared, supernets)
    with machines(tmp_path / "machines", first={}, second={}) as pair:
        file = write_remote(shared, write_config, pair, **sections)
        config = load_config(file.with_name("detnas.yaml"))
        said = TrialFiles(config.search_dir, {})
        with Experiment(file, tmp_path / "home") as experiment:
            wait_until(lambda: len(said.all_taken()) >= 2)
            pair[0].hang()
            reason = r"NNI has started no trials since trial .*remote-worker1.* was lost with its machine"
            with pytest.raises(EvaluationError, match=reason):
                follow(experiment.port)
        evaluated = results(config)
        assert 0 < len(evaluated) < 12
        file = write_remote(shared, write_config, pair[1:], **sections)
        with Experiment(file, tmp_path / "home") as experiment:
            follow(experiment.port)
    assert results(config) == truth(tmp_path / "alone", write_config, supernets, **sections)
    assert list(results(config))[: len(evaluated)] == list(evaluated)


@pytest.mark.parametrize("kind", ["missing", "another"])
def test_a_machine_without_this_supernet_ends_the_experiment_and_following_says_which(
    tmp_path, supernets, write_config, monkeypatch, kind
):
    """The folder is not shared after all: the second machine has one of its own at its place."""
    linked_run(tmp_path / "shared", supernets)
    supernet = tmp_path / "own/run/finetune/supernet.pt"
    message = f"{supernet}: there is no supernet"
    if kind == "another":
        shutil.copytree(supernets / "finetune", supernet.parent)
        change(supernet)
        message = f"computed with another supernet ({file_hash(supernet)}) than this"
    monkeypatch.setenv("RUNS", str(tmp_path / "shared"))
    variables = {"first": {"RUNS": tmp_path / "shared"}, "second": {"RUNS": tmp_path / "own"}}
    with machines(tmp_path / "machines", **variables) as pair:
        file = write_remote(tmp_path / "shared", write_config, pair, run_dir="${RUNS}/run", search=SEARCH)
        with Experiment(file, tmp_path / "home") as experiment, pytest.raises(EvaluationError) as raised:
            follow(experiment.port)
    error = str(raised.value)
    assert f"experiment {experiment.id} is ERROR" in error and message in error
    # Which machine that was, and where the trial's log is.
    assert "127.0.0.1:~/nni-experiments/" in error and "/remote-worker2/trials/" in error
    # No candidate is to blame.
    config = load_config(file.with_name("detnas.yaml"))
    assert all(evaluation.error is None for evaluation in journal(config).evaluations)


def test_a_killed_manager_leaves_nothing_on_the_machines(tmp_path, supernets, write_config):
    """Its guard is on another machine; keepers and trials end by themselves."""
    shared, endless = tmp_path / "shared", {"finetune_iterations": 10**9, "finetune_lr": 1e-9}
    linked_run(shared, supernets)
    with machines(tmp_path / "machines", first={}, second={}) as pair:
        file = write_remote(shared, write_config, pair, search=SEARCH, evaluation=endless)
        said = TrialFiles(load_config(file.with_name("detnas.yaml")).search_dir, {})
        idle = [set(machine.processes()) for machine in pair]
        with Experiment(file, tmp_path / "home") as experiment:
            wait_until(lambda: len(said.all_taken()) == 2)
            experiment.manager.send(signal.SIGKILL)
            wait_until(lambda: [set(machine.processes()) for machine in pair] == idle, 90)


def change(path: Path) -> None:
    """Weights of the same space and shapes, trained otherwise."""
    content = torch.load(path, weights_only=True)
    state = next(value for value in content.values() if isinstance(value, dict) and len(value) > 50)
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.mul_(1.01)
    torch.save(content, path)
