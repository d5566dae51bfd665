"""The batch scripts for Slurm, run as they are by a real slurmctld and slurmd of this machine."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from detnas_nni.config.reading import load_config
from detnas_nni.search.journal import Journal
from detnas_nni.search.session import search_in_process
from detnas_nni.training.weights import load_weights
from tests.slurm import Cluster, cluster, missing

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "experiments/coco_fpn_300m/slurm"
BATCH = sorted(file for file in SCRIPTS.glob("*.sh") if file.name != "step.sh")

STEPS = 60
LONG = 900  # seconds that a job may take on a busy machine

# Python finds the trunk, and the processes find each other on this machine.
VARIABLES = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "GLOO_SOCKET_IFNAME": "lo"}

HERE = ("--nodes=1", "--cpus-per-task=1")

needs_slurm = pytest.mark.skipif(
    bool(missing()),
    reason=f"Slurm is not here ({', '.join(missing())} not found): apt-get install slurm-wlm munge",
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as here:
        yield here


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the batch scripts, to submit them in; less the GPUs, which slurmd would look for."""
    folder = shutil.copytree(SCRIPTS, tmp_path / "place/experiments/coco_fpn_300m/slurm")
    for script in folder.glob("*.sh"):
        script.write_text(re.sub(r"#SBATCH --gpus.*\n", "", script.read_text(encoding="utf-8")))
    return tmp_path / "place"


def submit(slurm: Cluster, place: Path, script: str, *options: str) -> str:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    file = f"experiments/coco_fpn_300m/slurm/{script}"
    variables = {"PATH": path, **VARIABLES}
    return slurm("sbatch", "--parsable", *HERE, *options, file, cwd=place, **variables).strip()


def wait_until(slurm: Cluster, job: str, place: Path, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        state = slurm.job(job)["JobState"]
        log = "".join(file.read_text() for file in place.glob("*.log"))
        assert state not in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"), f"{state}\n{log}"
        assert time.monotonic() < deadline, f"{state}\n{log}"
        time.sleep(0.5)


@pytest.mark.parametrize("script", BATCH, ids=lambda file: file.stem)
def test_a_script_says_how_to_call_it_and_comes_again(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert f"sbatch {script.relative_to(ROOT)}" in text
    assert {"--requeue", "--open-mode=append"} <= set(re.findall(r"^#SBATCH (\S+)", text, re.MULTILINE))
    assert re.search(r"^#SBATCH --signal=(B:)?TERM@300 ", text, re.MULTILINE)
    assert script.name in (ROOT / "docs/clusters.md").read_text(encoding="utf-8")


@needs_slurm
@pytest.mark.slow  # it waits for a time limit, which Slurm looks at every half minute
def test_a_training_of_two_tasks_that_its_time_limit_cuts_ends_as_an_uncut_one(
    slurm: Cluster, place: Path, write_config: Callable[..., Path]
) -> None:
    settings = {
        "space": {"name": "unhurried:trunk"},
        "pretrain": {"steps": STEPS, "checkpoint_every": 1, "batch_size": 8},
        "evaluation": {"task": "classification"},
    }
    file = write_config(place / "experiments/coco_fpn_300m/detnas.yaml", **settings)
    folder = file.parent / "run/pretrain"
    job = submit(slurm, place, "pretrain.sh", "--ntasks-per-node=2", "--time=60")
    wait_until(slurm, job, place, lambda: any(folder.glob("checkpoints/step_*.ckpt")))
    # Less than what the script's --signal asks for is left, so Slurm sends it at its next look.
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=5")
    wait_until(slurm, job, place, lambda: slurm.job(job)["JobState"] == "PENDING")
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    wait_until(slurm, job, place, lambda: slurm.job(job)["JobState"] == "COMPLETED")

    assert slurm.job(job)["Restarts"] == "1"
    [log] = place.glob("detnas-pretrain-*.log")
    [saved] = re.findall(r"SIGTERM: saved at step (\d+)", log.read_text())
    assert f"resuming at step {saved} of {STEPS}" in log.read_text()
    uncut = write_config(place / "uncut/detnas.yaml", **settings, hardware={"devices": 2})
    command = [sys.executable, "-m", "detnas_nni.cli", "pretrain", "-c", uncut]
    subprocess.run(command, env=os.environ | VARIABLES, check=True, capture_output=True)
    cut_weights, weights = (
        load_weights(run / "supernet.pt").state for run in (folder, uncut.parent / "run/pretrain")
    )
    assert cut_weights.keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in cut_weights.items())


@needs_slurm
@pytest.mark.slow
def test_a_search_that_is_cut_goes_on_after_what_it_has(
    slurm: Cluster, place: Path, write_config: Callable[..., Path], supernets: Path
) -> None:
    search = {"population": 4, "generations": 8}
    file = write_config(place / "experiments/coco_fpn_300m/detnas.yaml", search=search)
    shutil.copytree(supernets, file.parent / "run")
    journal = file.parent / "run/search/journal.jsonl"
    job = submit(slurm, place, "search.sh", "--time=60")
    wait_until(slurm, job, place, lambda: journal.is_file() and bool(journal.read_text()))
    slurm("scancel", "--signal=TERM", job)  # as before a time limit
    wait_until(slurm, job, place, lambda: slurm.job(job)["Restarts"] == "1")
    before = [evaluation.ops for evaluation in Journal(journal).evaluations]
    wait_until(slurm, job, place, lambda: slurm.job(job)["JobState"] == "COMPLETED")

    alone = write_config(place / "alone/detnas.yaml", search=search)
    shutil.copytree(supernets, alone.parent / "run")
    search_in_process(load_config(alone))
    cut, uncut = (Journal(config.parent / "run/search/journal.jsonl").evaluations for config in (file, alone))
    assert 0 < len(before) < len(cut) == 32
    assert [evaluation.ops for evaluation in cut[: len(before)]] == before
    assert [(one.ops, one.metrics) for one in cut] == [(one.ops, one.metrics) for one in uncut]
