"""`finetune.freeze`: the first stages stay, to the bit, as the training found them; the others do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.finished.retrain import retrain
from detnas_nni.search.journal import search_identity
from detnas_nni.supernet.inherit import weights_of_path
from detnas_nni.supernet.steps import finetune
from detnas_nni.training.jobs import DetectionJob
from detnas_nni.training.weights import load_weights
from search_spaces import layout

FROZEN = ("stem.", "stages.stage1.", "stages.stage2.")
# Weight decay that moves whatever it reaches, at every step.
FREEZE = {"freeze": 2, "weight_decay": 0.1, "bias_weight_decay": 0.1, "steps": 6, "checkpoint_every": 1}
PATH = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))


def frozen(state: dict[str, Tensor]) -> set[str]:
    return {name for name in state if name.startswith(FROZEN)}


def test_frozen_stages_stay_to_the_bit_and_the_others_change(
    pretrained: Path, make_config: Callable[..., Config], differing: Callable[..., list[str]]
) -> None:
    before = load_weights(pretrained / "pretrain/supernet.pt").trunk_state
    after = load_weights(finetune(make_config(pretrained, finetune=FREEZE))).trunk_state
    changed = set(differing(before, after))
    assert frozen(before) and not changed & frozen(before)
    assert {name for name in frozen(before) if name.endswith("num_batches_tracked")}
    # Of the others those stay alone that no path has drawn.
    drawn = {name for name in changed if name.endswith(("conv.weight", "running_mean"))}
    assert any(name.startswith("stages.stage3.") for name in drawn)
    assert any(name.endswith("running_mean") for name in drawn)


def test_frozen_parameters_are_not_the_optimisers(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(pretrained, finetune=FREEZE)
    job = DetectionJob(config, config.finetune)
    model = job.build()
    optimised = {id(parameter) for group in job.parameter_groups(model) for parameter in group["params"]}
    named = {name: id(parameter) for name, parameter in model.named_parameters()}
    prefixes = tuple(job.trunk_prefix + name for name in FROZEN)
    assert optimised == {number for name, number in named.items() if not name.startswith(prefixes)}


def test_a_frozen_training_that_is_gone_on_with_ends_as_if_it_had_never_stopped(
    pretrained: Path,
    make_config: Callable[..., Config],
    cut_at: Callable[..., Any],
    differing: Callable[..., list[str]],
) -> None:
    config = make_config(pretrained, finetune={**FREEZE, "average_last": 2})
    whole = load_weights(finetune(config)).state
    with cut_at(4):
        finetune(config, fresh=True)
    resumed = load_weights(finetune(config))
    assert differing(whole, resumed.state) == []
    before = load_weights(pretrained / "pretrain/supernet.pt").trunk_state
    assert not set(differing(before, resumed.trunk_state)) & frozen(before)
    with pytest.raises(CheckpointError, match="of another config"):
        finetune(make_config(pretrained, finetune={**FREEZE, "freeze": 1, "average_last": 2}))


def test_a_candidate_keeps_the_statistics_that_its_frozen_stages_were_trained_beside(
    pretrained: Path, make_config: Callable[..., Config], differing: Callable[..., list[str]]
) -> None:
    config = make_config(pretrained, finetune=FREEZE)
    supernet = load_weights(finetune(config))
    evaluation = CandidateEvaluation(config)
    found = evaluation.calibrated_net(PATH).trunk.state_dict()
    inherited = weights_of_path(supernet, PATH).trunk_state
    changed = set(differing(inherited, found))
    assert changed and not changed & frozen(inherited)
    statistics = {name for name in inherited if name.endswith("running_mean")}
    assert statistics - frozen(inherited) <= changed
    assert 0 <= evaluation.evaluate(PATH).metrics["default"] <= 1


def test_the_final_net_keeps_the_supernets_frozen_stages(
    trained_run: Path, make_config: Callable[..., Config], tmp_path: Path, differing: Callable[..., list[str]]
) -> None:
    config = make_config(trained_run, retrain={"init": "supernet", "finetune": {"freeze": 2, "steps": 3}})
    assert len(layout("tiny")) == len(PATH.ops)
    PATH.save(tmp_path / "net.json")
    (results,) = retrain(config, [tmp_path / "net.json"])
    before = weights_of_path(load_weights(trained_run / "finetune/supernet.pt"), PATH).trunk_state
    after = load_weights(results.parent / "detector/net.pt").trunk_state
    # All that is not frozen, but for a bias that gets no gradient before a BN.
    changed = set(differing(before, after))
    assert not changed & frozen(before)
    assert {name for name in before if name.endswith("running_mean")} - frozen(before) <= changed


def test_a_wrong_number_is_refused_before_anything_is_written(
    pretrained: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.freeze is 5, but the trunk of 'tiny' has 4 stages"):
        finetune(make_config(pretrained, finetune={"freeze": 5}))
    assert not (pretrained / "finetune").exists()
    PATH.save(tmp_path / "net.json")
    with pytest.raises(ConfigError, match=r"retrain\.finetune\.freeze is 9, but the trunk of 'tiny'"):
        retrain(make_config(pretrained, retrain={"finetune": {"freeze": 9}}), [tmp_path / "net.json"])
    assert not (pretrained / "retrain").exists()


def test_a_search_of_before_the_key_was_there_is_the_same_search(
    tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    def identity(**finetune: int) -> dict[str, str]:
        return search_identity(make_config(tmp_path / "run", finetune=finetune), "hash")

    assert identity() == identity(freeze=0) != identity(freeze=1) != identity(freeze=2)
