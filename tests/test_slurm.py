"""The batch scripts for Slurm, run by a real one: cut by their time limit, they go on to the same end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from detnas_nni.search.journal import Journal
from tests.search.nnictl.experiments import free_port, write_experiment
from tests.slurm import ROOT, Cluster, Job

# Slurm looks for time limits every half minute, and a job that is queued again waits a while.
pytestmark = pytest.mark.slow

SCRIPTS = ROOT / "experiments/coco_fpn_300m/slurm"
MARGIN = 5  # minutes before the time limit at which the scripts have themselves asked to end


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def submit(cluster: Cluster, tmp_path: Path) -> Callable[..., Job]:
    """submit("pretrain", options…): a script of the experiment's, on the config in tmp_path."""

    def submit(step: str, *options: str, **variables: object) -> Job:
        variables = {"CONFIG": tmp_path / "detnas.yaml", "HOME": tmp_path / "home", **variables}
        (tmp_path / "home").mkdir(exist_ok=True)
        return cluster.submit(SCRIPTS / f"{step}.sbatch", tmp_path / f"{step}.log", *options, **variables)

    return submit


def cut_by_time_limit(job: Job, config: Path) -> None:
    """Let the time limit come in the middle of the job's work, and leave it time enough in its next turn.

    Its processes stand still meanwhile: Slurm looks at time limits every half minute; they could be done.
    """
    processes = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(config) in (process.info["cmdline"] or ())
    ]
    assert processes
    for process in processes:
        process.suspend()
    job.set_time_limit(MARGIN)
    job.wait_until(lambda: "is asked to end" in job.log)
    for process in processes:
        process.resume()
    job.wait_until(lambda: job.field("Restarts") == "1")
    job.set_time_limit(60)


def test_a_training_of_two_nodes_that_its_time_limit_cuts_ends_with_the_weights_of_an_uncut_one(
    submit: Callable[..., Job],
    write_config: Callable[..., Path],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {"pretrain": {"steps": 200, "checkpoint_every": 100_000, "log_every": 20}}
    write_config(tmp_path / "detnas.yaml", run_dir="cut", **settings)
    two = ("--ntasks-per-node=1", "--cpus-per-task=1", "--time=60")
    job = submit("pretrain", *two)
    job.wait_until(lambda: "step 20/200" in job.log)
    cut_by_time_limit(job, tmp_path / "detnas.yaml")
    assert job.end() == "COMPLETED", job.log
    [saved] = re.findall(r"SIGTERM: saved at step (\d+)", job.log)
    assert 20 <= int(saved) < 200
    assert f"resuming at step {saved} of 200" in job.log
    assert "2 processes" in job.log

    whole = write_config(tmp_path / "whole.yaml", run_dir="whole", **settings)
    uncut = submit("pretrain", *two, CONFIG=whole)
    assert uncut.end() == "COMPLETED", uncut.log
    first, second = (state_of(tmp_path / name / "pretrain/supernet.pt") for name in ("cut", "whole"))
    assert differing(first, second) == []


def test_a_search_that_its_time_limit_cuts_goes_on_with_what_it_has(
    submit: Callable[..., Job], write_config: Callable[..., Path], trained_run: Path, tmp_path: Path
) -> None:
    write_config(tmp_path / "detnas.yaml", search={"population": 8, "generations": 2})
    job = submit("search", "--cpus-per-task=1", "--time=60")
    journal = tmp_path / "run/search/journal.jsonl"
    job.wait_until(lambda: journal.exists() and len(Journal(journal)) >= 2)
    cut_by_time_limit(job, tmp_path / "detnas.yaml")
    before = [evaluation.id for evaluation in Journal(journal).evaluations]
    assert job.end() == "COMPLETED", job.log
    after = [evaluation.id for evaluation in Journal(journal).evaluations]
    assert 2 <= len(before) < len(after) == 16
    assert after[: len(before)] == before
    assert len(set(after)) == 16


def test_a_search_by_nnictl_that_its_time_limit_cuts_goes_on_in_another_experiment(
    submit: Callable[..., Job], write_config: Callable[..., Path], trained_run: Path, tmp_path: Path
) -> None:
    """A trial takes seconds, most of them to start: Slurm looks at the time limit before there are 16."""
    search = {"population": 8, "generations": 2}
    file = write_experiment(tmp_path, write_config, trained_run, concurrency=1, search=search)
    job = submit("search_nnictl", "--cpus-per-task=1", "--time=60", SEARCH=file, PORT=free_port())
    journal = tmp_path / "run/search/journal.jsonl"
    job.wait_until(lambda: journal.exists() and len(Journal(journal)) >= 2)
    job.set_time_limit(MARGIN)
    job.wait_until(lambda: job.field("Restarts") == "1")
    job.set_time_limit(60)
    before = [evaluation.ops for evaluation in Journal(journal).evaluations]
    assert job.end() == "COMPLETED", job.log
    after = [evaluation.ops for evaluation in Journal(journal).evaluations]
    assert 2 <= len(before) < len(after) == 16
    assert after[: len(before)] == before
    assert len(set(after)) == 16


def test_a_step_that_fails_is_not_queued_again(submit: Callable[..., Job], tmp_path: Path) -> None:
    job = submit("pretrain", "--ntasks-per-node=1", "--cpus-per-task=1")
    assert job.end() == "FAILED"
    assert job.field("Restarts") == "0", job.log
    assert "detnas.yaml: cannot be read" in job.log


def test_a_step_that_is_canceled_is_not_queued_again(
    submit: Callable[..., Job], write_config: Callable[..., Path], tmp_path: Path, cluster: Cluster
) -> None:
    write_config(tmp_path / "detnas.yaml", pretrain={"steps": 100_000, "checkpoint_every": 100_000})
    job = submit("pretrain", "--ntasks-per-node=1", "--cpus-per-task=1")
    job.wait_until(lambda: "steps/s" in job.log)
    cluster.says("scancel", job.number)
    assert job.end() == "CANCELLED"
    assert job.field("Restarts") == "0"
    [checkpoint] = (tmp_path / "run/pretrain/checkpoints").glob("step_*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] > 0
