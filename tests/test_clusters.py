"""The shipped files for clusters: NNI takes those for nnictl, and they search what the local one searches."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

ROOT = Path(__file__).parents[1]
LOCAL = ROOT / "experiments/coco_fpn_300m/search_detnas.yaml"
REMOTE = LOCAL.with_name("search_remote.yaml")
KUBERNETES = LOCAL.with_name("search_kubernetes.yaml")

BOTH = pytest.mark.parametrize("file", [REMOTE, KUBERNETES], ids=lambda file: file.stem)

# What depends on where the trials run.
_PLACE = {
    "experimentName",
    "trialCommand",
    "trialConcurrency",
    "trialGpuNumber",
    "nniManagerIp",
    "trainingService",
}


def read(file):
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@BOTH
def test_it_is_the_local_search_in_another_place(file):
    local, values = read(LOCAL), read(file)
    assert {key for key in local | values if local.get(key) != values.get(key)} <= _PLACE
    assert values["trialCommand"].endswith(local["trialCommand"])


@BOTH
def test_trials_run_in_the_shared_folder_with_the_data_that_the_config_asks_for(file):
    """NNI copies trialCodeDirectory elsewhere, where relative paths lead nowhere."""
    command = read(file)["trialCommand"]
    folder = re.match(r"cd (/\S+)/experiments/coco_fpn_300m && ", command)
    assert folder is not None
    assert set(re.findall(r"\b([A-Z]+)=/\S+", command)) == {"COCO", "IMAGENET"}
    assert f"{folder[1]}" in file.read_text().split("experimentName")[0]  # the comment says so


@BOTH
def test_nnis_own_config_classes_take_it(file, monkeypatch, tmp_path):
    key = tmp_path / ".ssh/detnas_rsa"
    key.parent.mkdir()
    key.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    config = ExperimentConfig.load(file)
    config.validate()
    assert config.training_service.platform == read(file)["trainingService"]["platform"]


def test_the_machines_have_as_many_gpus_as_there_are_trials():
    values = read(REMOTE)
    assert values["trialConcurrency"] == 8 * len(values["trainingService"]["machineList"])
    assert "eight GPUs each" in REMOTE.read_text()


@BOTH
def test_it_says_how_to_call_it_and_where_to_read_on(file):
    comment = file.read_text(encoding="utf-8").partition("experimentName")[0]
    assert f"nnictl create --config {file.relative_to(ROOT)}" in comment
    assert "docs/clusters.md" in comment and "runs/coco_fpn_300m/search" in comment
    assert ("NOT RUN" in comment) == (file == KUBERNETES)
    assert file.name in (ROOT / "docs/clusters.md").read_text(encoding="utf-8")


SLURM = sorted(LOCAL.parent.glob("slurm/*.sbatch"))


def test_every_step_that_takes_gpus_has_a_script_for_slurm():
    assert [file.stem for file in SLURM] == ["finetune", "pretrain", "retrain", "search", "search_nnictl"]


@pytest.mark.parametrize("file", SLURM, ids=lambda file: file.stem)
def test_a_script_for_slurm_is_bash_and_says_how_to_call_it_and_where_to_read_on(file):
    text = file.read_text(encoding="utf-8")
    comment = text.partition("#SBATCH")[0]
    assert re.search(rf"^#   (\w+=\S+ )*sbatch {file.relative_to(ROOT)}$", comment, re.MULTILINE)
    assert "docs/clusters.md" in comment
    assert file.name in (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", file, file.with_name("common.sh")], check=True)


@pytest.mark.parametrize("file", SLURM, ids=lambda file: file.stem)
def test_a_script_for_slurm_is_asked_to_end_and_queued_again(file):
    """Without --requeue a job whose node dies is lost; without B: the signal goes to the step's processes."""
    options = re.findall(r"^#SBATCH --(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"signal=B:TERM@300", "requeue", "open-mode=append"} <= set(options)
