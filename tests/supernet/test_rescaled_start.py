"""`finetune.rescale`: a training that starts from trained weights starts at the scale of fresh ones."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.finished.retrain import retrain
from detnas_nni.supernet.inherit import weights_of_path
from detnas_nni.supernet.steps import finetune
from detnas_nni.training.jobs import DetectionJob
from detnas_nni.training.runs import finetune_run
from detnas_nni.training.weights import Weights, load_weights

# A step so small that it rounds away: what was trained is what the training started from.
STANDING = {"steps": 1, "lr": 1e-30, "weight_decay": 0.0}
NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))


@pytest.fixture
def pretrained(supernets: Path, tmp_path: Path) -> Path:
    """A run's folder with the classification supernet alone."""
    shutil.copytree(supernets / "pretrain", tmp_path / "run/pretrain")
    return tmp_path / "run"


def convolutions(weights: Weights) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.trunk_state.items() if tensor.dim() == 4}


def assert_turned_alike_and_scaled(
    found: Mapping[str, Tensor], start: Mapping[str, Tensor], drawn: Mapping[str, Tensor]
) -> None:
    """The directions of the start, the norms of the drawn weights."""
    assert found.keys() == start.keys() == drawn.keys() and found
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.norm(), drawn[name].norm(), rtol=1e-4, atol=0)
        scaled = start[name] * (drawn[name].norm() / start[name].norm())
        torch.testing.assert_close(tensor, scaled, rtol=1e-4, atol=1e-6)
    # The test would show nothing if the start had the scale of drawn weights already.
    assert any(abs(start[name].norm() / drawn[name].norm() - 1) > 1e-3 for name in start)


def test_the_supernet_starts_with_the_pretrained_directions_at_the_drawn_scale(
    pretrained: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    start = load_weights(pretrained / "pretrain/supernet.pt")
    found = load_weights(finetune(make_config(pretrained, finetune={**STANDING, "rescale": True})))
    scratch = make_config(tmp_path / "scratch", finetune={**STANDING, "init": "scratch"})
    drawn = load_weights(finetune(scratch))
    assert_turned_alike_and_scaled(convolutions(found), convolutions(start), convolutions(drawn))


@pytest.mark.parametrize("start", ["supernet", "pretrain"])
def test_the_final_net_starts_with_the_supernets_directions_at_the_drawn_scale(
    start: str, trained_run: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    NET.save(tmp_path / "net.json")
    file = trained_run / ("finetune" if start == "supernet" else "pretrain") / "supernet.pt"

    def started(run_dir: Path, **section: Any) -> Weights:
        settings = {"finetune": {**STANDING, "rescale": True}, **section}
        (results,) = retrain(make_config(run_dir, retrain=settings), [tmp_path / "net.json"])
        return load_weights(results.parent / "detector/net.pt")

    given = {"init": "supernet"} if start == "supernet" else {"weights": str(file)}
    found, drawn = started(trained_run, **given), started(trained_run, init="scratch")
    expected = weights_of_path(load_weights(file), NET)
    assert_turned_alike_and_scaled(convolutions(found), convolutions(expected), convolutions(drawn))
    # The detector around the trunk is not touched.
    head = "detector.roi_heads.box_head.0.0.weight"
    if start == "supernet":
        assert torch.equal(found.state[head], expected.state[head])


def test_a_trunk_with_nothing_to_rescale_is_refused(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(pretrained, finetune={**STANDING, "rescale": True})
    job = DetectionJob(config, config.finetune)
    model = job.build()
    model.detector.backbone.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())  # no BN at all
    with pytest.raises(ConfigError, match=r"finetune\.rescale is true, but in the trunk of 'tiny' no BN"):
        job.start_from(load_weights(pretrained / "pretrain/supernet.pt"), model)


def test_a_run_of_before_the_key_was_there_goes_on_and_one_with_another_value_does_not(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    def identity(**section: bool) -> str:
        return finetune_run(make_config(pretrained, finetune=section)).fingerprint

    assert identity() == identity(rescale=False) != identity(rescale=True)
    finetune(make_config(pretrained, finetune=STANDING))
    with pytest.raises(CheckpointError, match="of another config"):
        finetune(make_config(pretrained, finetune={**STANDING, "rescale": True}))
