"""Real finished nets: each detector trained on its own for some steps, on generated images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from nni.nas.space import model_context
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.data.images import read_image
from detnas_nni.finished.retrain import retrain
from detnas_nni.models import DetectorSpace
from detnas_nni.training.weights import load_weights, save_weights

NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))
LEAST = {"faster_rcnn": 0.0, "retinanet": 0.02}
"""Score from which detections are kept: something is found in every image, whatever the training gave."""


@dataclass(frozen=True)
class Trained:
    """A net that `detnas retrain` left behind."""

    yaml: Path
    architecture: Path
    weights: Path

    @property
    def config(self) -> Config:
        return load_config(self.yaml)

    @cached_property
    def net(self) -> DetectorSpace:
        """The models of the trainings, without anything of what is tested."""
        weights = load_weights(self.weights)
        with model_context(NET.choices):
            net = DetectorSpace("tiny", len(weights.info.classes), self.config.detector).eval()
        net.load_state_dict(weights.state)
        return net

    @torch.no_grad()
    def detections(self, image: Tensor) -> dict[str, Tensor]:
        """Of an RGB uint8 image."""
        return self.net([image[[2, 1, 0]].to(torch.float32)])[0]


LONG = {"steps": 60, "milestones": [1000], "bn_momentum": 0.3, "checkpoint_every": 100}


@pytest.fixture(scope="session")
def trained_nets(
    write_config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """By the detector's name. Not to be written to."""
    nets = {}
    for name, lr in (("faster_rcnn", 0.04), ("retinanet", 0.01)):
        folder = tmp_path_factory.mktemp(name)
        NET.save(folder / "best_architecture.json")
        yaml = write_config(
            folder / "detnas.yaml",
            detector={"name": name, "score_threshold": LEAST[name]},
            finetune={**LONG, "lr": lr},
            retrain={"init": "scratch"},
        )
        (results,) = retrain(load_config(yaml), [folder / "best_architecture.json"])
        weights = results.parent / "detector/net.pt"
        if name == "retinanet":
            _sharpen(weights)
        nets[name] = Trained(yaml, folder / "best_architecture.json", weights)
    return nets


def _sharpen(weights: Path) -> None:
    """Let a RetinaNet tell anchors apart: so early its heads' narrow layers pass nothing on (N(0, 0.01))."""
    loaded = load_weights(weights)
    state = {
        name: tensor * 12 if name.startswith("detector.head") and tensor.dim() == 4 else tensor
        for name, tensor in loaded.state.items()
    }
    save_weights(weights, loaded.info, state)


@pytest.fixture(params=["faster_rcnn", "retinanet"])
def trained(request: pytest.FixtureRequest, trained_nets: dict[str, Trained]) -> Trained:
    """Each detector."""
    return trained_nets[request.param]


@pytest.fixture
def faster_rcnn(trained_nets: dict[str, Trained]) -> Trained:
    return trained_nets["faster_rcnn"]


@pytest.fixture(scope="session")
def photos(shapes: Path) -> list[Tensor]:
    """The images of the test split, RGB uint8, of many sizes."""
    return [read_image(file) for file in sorted((shapes / "detection/test").iterdir())]
