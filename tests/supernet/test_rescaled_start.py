"""`finetune.rescale`: whatever a training starts from, it starts at one scale."""

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
from detnas_nni.supernet.steps import finetune
from detnas_nni.training.jobs import DetectionJob
from detnas_nni.training.runs import finetune_run
from detnas_nni.training.weights import Weights, load_weights

# A step so small that it rounds away: what was trained is what the training started from.
STANDING = {"steps": 1, "lr": 1e-30, "weight_decay": 0.0}
NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))


def convolutions(weights: Weights) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.trunk_state.items() if tensor.dim() == 4}


def assert_rescaled(found: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
    """The directions of the start, at the scale of weights with a standard deviation of 1 / fan_in."""
    assert found.keys() == start.keys() and found
    for name, tensor in found.items():
        norm = (len(tensor) / tensor[0].numel()) ** 0.5
        torch.testing.assert_close(tensor, start[name] * norm / start[name].norm(), rtol=1e-4, atol=1e-6)
    # The test would show nothing if the start had this scale already.
    assert any(not torch.allclose(found[name], start[name], rtol=1e-2) for name in start)


@pytest.mark.parametrize("init", ["pretrain", "scratch"])
def test_the_supernet_starts_rescaled_whatever_it_starts_from(
    init: str, pretrained: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    def started(folder: str, **section: Any) -> dict[str, Tensor]:
        run_dir = shutil.copytree(pretrained, tmp_path / folder)
        settings = {**STANDING, "init": init, **section}
        return convolutions(load_weights(finetune(make_config(run_dir, finetune=settings))))

    assert_rescaled(started("rescaled", rescale=True), started("as it is"))


@pytest.mark.parametrize("start", ["supernet", "pretrain", "scratch"])
def test_the_final_net_starts_rescaled_whatever_it_starts_from(
    start: str, trained_run: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    NET.save(tmp_path / "net.json")
    file = trained_run / "pretrain/supernet.pt"
    given = {"weights": str(file)} if start == "pretrain" else {"init": start}

    def started(**section: Any) -> Weights:
        config = make_config(trained_run, retrain={"finetune": {**STANDING, **section}, **given})
        (results,) = retrain(config, [tmp_path / "net.json"], fresh=True)
        return load_weights(results.parent / "detector/net.pt")

    found, as_it_is = started(rescale=True), started()
    assert_rescaled(convolutions(found), convolutions(as_it_is))
    # The detector around the trunk is not touched.
    head = "detector.roi_heads.box_head.0.0.weight"
    assert torch.equal(found.state[head], as_it_is.state[head])


def test_a_trunk_with_nothing_to_rescale_is_refused(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(pretrained, finetune={**STANDING, "rescale": True})
    job = DetectionJob(config, config.finetune)
    model = job.build()
    model.detector.backbone.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())  # no BN at all
    with pytest.raises(ConfigError, match=r"finetune\.rescale is true, but in the trunk of 'tiny' no BN"):
        job.start_from(None, model)


def test_a_run_of_before_the_key_was_there_goes_on_and_one_with_another_value_does_not(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    def identity(**section: bool) -> str:
        return finetune_run(make_config(pretrained, finetune=section)).fingerprint

    assert identity() == identity(rescale=False) != identity(rescale=True)
    finetune(make_config(pretrained, finetune=STANDING))
    with pytest.raises(CheckpointError, match="of another config"):
        finetune(make_config(pretrained, finetune={**STANDING, "rescale": True}))
