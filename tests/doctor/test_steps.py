"""How far a run has come, what is next, and the disk."""

import re

import pytest
import torch

from detnas_nni.config import Detector
from detnas_nni.doctor import experiment
from detnas_nni.doctor.steps import PARAMETERS, examine_run
from detnas_nni.models import ClassifierSpace, DetectorSpace
from search_spaces import SEARCHED
from tests.doctor.findings import only, package, statuses
from tests.search.searching import tiny


def test_a_run_that_has_not_begun_needs_its_first_step(make_config, tmp_path):
    found = examine_run(make_config(tmp_path / "run"), "my.yaml")
    assert only(found, "pretrain").text.startswith("not begun: 4 iterations")
    assert only(found, "next step").text == "detnas pretrain -c my.yaml"
    assert not (tmp_path / "run").exists()


def test_a_run_whose_supernets_are_trained_needs_the_search(make_config, trained_run, tmp_path):
    config = make_config(trained_run)
    found = examine_run(config, "my.yaml")
    assert only(found, "finetune").text == f"finished: {trained_run}/finetune/supernet.pt"
    assert only(found, "next step").text == "detnas search -c my.yaml"
    beside = tmp_path / "experiment" / "search.yaml"
    beside.parent.mkdir()
    beside.touch()
    path = str(beside.with_name("detnas.yaml"))
    assert only(examine_run(config, path), "next step").text.endswith(f"or nnictl create --config {beside}")
    config.search_dir.mkdir()
    (config.search_dir / "best_architecture.json").touch()
    assert only(examine_run(config, "my.yaml"), "next step").text.startswith(
        "detnas retrain -c my.yaml --arch"
    )


def test_a_supernet_of_another_config_is_a_problem(make_config, supernets):
    found = only(examine_run(make_config(supernets, finetune={"lr": 0.5}), "my.yaml"), "finetune")
    assert found.status == "problem"
    assert "of another config" in found.text
    assert found.remedy == "detnas finetune -c my.yaml --fresh"


def test_a_trunk_without_a_start_is_a_problem(make_config, tmp_path):
    nowhere = make_config(tmp_path, data={"classification": None})
    assert only(examine_run(nowhere, "my.yaml"), "finetune.init").status == "problem"
    scratch = make_config(tmp_path, data={"classification": None}, finetune={"init": "scratch"})
    assert set(statuses(examine_run(scratch, "my.yaml"))) == {"finetune", "next step", "disk"}


def test_stages_that_are_not_there_cannot_be_frozen(make_config, tmp_path):
    for key, sections in {
        "finetune.freeze": lambda stages: {"finetune": {"freeze": stages}},
        "retrain.finetune.freeze": lambda stages: {"retrain": {"finetune": {"freeze": stages}}},
    }.items():
        right = only(examine_run(make_config(tmp_path, **sections(4)), "my.yaml"), key)
        wrong = only(examine_run(make_config(tmp_path, **sections(5)), "my.yaml"), key)
        assert (right.status, wrong.status) == ("ok", "problem")
        assert wrong.text.startswith(f"{key} is 5, but the trunk of 'tiny' has 4 stages")
        assert wrong.remedy == f"--set {key}=0"


def test_a_net_to_draw_around_has_to_be_of_the_space(make_config, tmp_path):
    net = tiny(1, 2).ops
    for section in ("finetune", "search"):
        right, wrong = (make_config(tmp_path, **{section: {"around": ops}}) for ops in (net, net[:-1]))
        assert only(examine_run(right, "my.yaml"), f"{section}.around").status == "ok"
        refused = only(examine_run(wrong, "my.yaml"), f"{section}.around")
        assert (refused.status, refused.remedy) == ("problem", f"--set {section}.around=null")
        assert f"has {len(net) - 1} values; space 'tiny' has {len(net)} blocks" in refused.text


REFUSED = {
    "search.constraint": (
        {"search": {"constraint": {"max_macs": 1000}}},
        "no architecture of space 'tiny' meets MACs <= 1,000",
    ),
    "search.strategy": ({"search": {"strategy": "nowhere:climb"}}, "cannot import 'nowhere'"),
    "pretrain.sampling": (
        {"pretrain": {"sampling": "fair", "steps": 1601}},
        "pretrain.steps is 1601; .* such as 1604",
    ),
    "finetune.sampling": (
        {"finetune": {"sampling": "fair", "steps": 7}},
        "finetune.steps is 7; .* such as 8",
    ),
    "space.options": ({"space": {"options": {"width": 1}}}, "'tiny' cannot be called with .*'width'"),
    "detector": ({"detector": {"name": "nowhere:boxes"}}, "detector.name: cannot import 'nowhere'"),
    "retrain.init": ({"retrain": {"init": "imagenet"}}, "'tiny', which has no published ImageNet weights"),
    "retrain.weights": ({"retrain": {"weights": "gone.pt"}}, "gone.pt: there are no weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_step_will_refuse_is_a_problem_and_the_only_one(name, make_config, tmp_path):
    sections, text = REFUSED[name]
    found = examine_run(make_config(tmp_path, **sections), "my.yaml")
    [problem] = [finding for finding in found if finding.status == "problem"]
    assert problem.name == name and re.search(text, problem.text) and problem.remedy


def test_a_strategy_of_ones_own_that_fails_is_a_problem_whatever_else_is_wrong(make_config, tmp_path):
    search = {"strategy": "operator:is_", "around": [1], "constraint": {"max_macs": 1}}
    found = examine_run(make_config(tmp_path, search=search), "my.yaml")
    assert {"search.strategy", "search.around", "search.constraint"} <= set(statuses(found))
    assert "returned bool, not an NNI Strategy" in only(found, "search.strategy").text


def test_of_a_trunk_that_cannot_be_built_nothing_more_is_asked(make_config, tmp_path):
    config = make_config(tmp_path, space={"name": "nowhere:trunk"}, finetune={"freeze": 1})
    problems = [finding for finding in examine_run(config, "my.yaml") if finding.status == "problem"]
    assert [problem.name for problem in problems] == ["space.name"]


def test_named_weights_are_opened(make_config, supernets, tmp_path):
    right = make_config(tmp_path, finetune={"weights": str(supernets / "pretrain" / "supernet.pt")})
    assert only(examine_run(right, "my.yaml"), "finetune.weights").status == "ok"
    wrong = make_config(tmp_path, finetune={"weights": str(supernets / "finetune" / "supernet.pt")})
    assert only(examine_run(wrong, "my.yaml"), "finetune.weights").status == "problem"
    missing = make_config(tmp_path, finetune={"weights": str(tmp_path / "none.pt")})
    assert "there are no weights" in only(examine_run(missing, "my.yaml"), "finetune.weights").text


def test_published_weights_that_are_missing_are_a_finding_of_their_own(make_config, trained_run, tmp_path):
    start = {"init": "imagenet", "weights": str(tmp_path / "gone.pth")}
    for run, state, step in (
        (tmp_path / "new", "not finished", "finetune"),
        (trained_run, "finished", "search"),
    ):
        found = examine_run(make_config(run, space={"name": "lite0"}, finetune=start), "my.yaml")
        assert only(found, "finetune.init").status == "problem"
        assert "gone.pth: there is no such file" in only(found, "finetune.init").text
        assert only(found, "finetune").text.startswith(f"{state}, in {run}/finetune")
        assert only(found, "next step").text == f"detnas {step} -c my.yaml"


def test_the_run_is_looked_at_in_a_process_of_its_own(write_config, tmp_path, packages_first, monkeypatch):
    path = write_config(tmp_path / "detnas.yaml", search={"strategy": "beside:climb"})
    (tmp_path / "beside.py").touch()
    monkeypatch.chdir(tmp_path)  # where the steps do not look for modules
    found = experiment.steps(path, ["pretrain.steps=77"])
    assert only(found, "pretrain").text.startswith("not begun: 77 iterations")
    assert "cannot import 'beside'" in only(found, "search.strategy").text
    package(packages_first, "torch", "raise ImportError('no torch')")
    [broken] = experiment.steps(path, [])
    assert broken.status == "warning"
    assert "no torch" in broken.text


def test_the_disk_is_held_against_checkpoints_to_come(make_config, tmp_path, monkeypatch):
    config = make_config(tmp_path / "run")
    monkeypatch.setitem(PARAMETERS, "tiny", 1e18)
    found = only(examine_run(config, "my.yaml"), "disk")
    assert found.status == "problem"
    assert "checkpoints take up to" in found.text


def test_each_checkpoint_that_is_kept_needs_its_room(make_config, tmp_path, monkeypatch):
    monkeypatch.setitem(PARAMETERS, "tiny", 1e9)
    settings = {"keep_checkpoints": 3}
    config = make_config(tmp_path / "run", pretrain=settings, finetune={**settings, "init": "scratch"})
    # float32: the weights, and of three checkpoints and a fourth being written weights and momentum.
    assert "take up to 36.0 GB" in only(examine_run(config, "my.yaml"), "disk").text


@pytest.mark.parametrize("space", SEARCHED)
def test_the_estimate_of_a_supernets_weights_is_above_the_truth(space):
    with torch.device("meta"):
        nets = (DetectorSpace(space, 80, Detector(), {}), ClassifierSpace(space, 1000, 0.2, {}))
    true = max(sum(parameter.numel() for parameter in net.parameters()) for net in nets)
    assert true <= PARAMETERS[space] <= 1.1 * true
