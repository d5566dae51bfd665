"""`load_detector` and `load_backbone`: what a person does who has two files and a photo."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detnas_nni import load_backbone, load_detector
from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError
from detnas_nni.finished.exporting import export
from detnas_nni.finished.retrain import retrain
from detnas_nni.training.weights import load_weights, save_weights
from tests.finished.conftest import Trained

REPOSITORY = Path(__file__).parents[2]


def example_of_the_readme() -> str:
    section = (
        (REPOSITORY / "README.md").read_text().partition("## The finished net\n")[2].partition("\n## ")[0]
    )
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return code


def test_the_example_of_the_readme_runs(
    faster_rcnn: Trained, shapes: Path, tmp_path: Path, photos: list[Tensor]
) -> None:
    shutil.copy(faster_rcnn.architecture, tmp_path / "best_architecture.json")
    shutil.copy(faster_rcnn.weights, tmp_path / "net.pt")
    shutil.copy(min((shapes / "detection/test").iterdir()), tmp_path / "photo.jpg")
    code = (
        f"{example_of_the_readme()}\nprint([tuple(c.shape[1:]) for c in (c2, c3, c4, c5)], backbone.strides)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    *lines, features = run.stdout.splitlines()
    expected = faster_rcnn.detections(photos[0])
    assert len(lines) == len(expected["boxes"]) > 0
    name, score, *_ = lines[0].split()
    assert name == load_weights(faster_rcnn.weights).info.classes[expected["labels"][0] - 1]
    assert score == f"{expected['scores'][0]:.2f}"
    assert features.endswith("[4, 8, 16, 32]")


def test_two_files_give_a_detector_that_finds_what_the_trained_net_does(
    trained: Trained, photos: list[Tensor]
) -> None:
    detector = load_detector(trained.architecture, trained.weights)
    with torch.no_grad():
        as_bytes = [detector([photo])[0] for photo in photos]  # a batch pads its images
        as_floats = detector([photo / 255 for photo in photos[:1]])
    for found, photo in zip(as_bytes, photos, strict=True):
        expected = trained.detections(photo)
        for key, values in expected.items():
            torch.testing.assert_close(found[key], values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(as_floats[0]["scores"], as_bytes[0]["scores"], rtol=1e-3, atol=1e-3)
    assert detector.classes == ("__background__", "circle", "square", "triangle", "star", "ring", "cross")


def test_a_backbone_gives_its_features_whichever_file_it_comes_from(
    faster_rcnn: Trained, photos: list[Tensor], tmp_path: Path
) -> None:
    detector = export(faster_rcnn.config, faster_rcnn.weights, form="torch", out=tmp_path / "d.pt")
    backbone = export(
        faster_rcnn.config, faster_rcnn.weights, form="torch", part="backbone", out=tmp_path / "b.pt"
    )
    images = photos[0][None]
    with torch.no_grad():
        expected = faster_rcnn.net.trunk(images[:, [2, 1, 0]].to(torch.float32)).values()
        for files in ((faster_rcnn.architecture, faster_rcnn.weights), (detector,), (backbone,)):
            net = load_backbone(*files)
            assert (net.out_channels, net.strides, net.training) == ([24, 48, 96, 192], [4, 8, 16, 32], False)
            assert not any(module.training for module in net.modules())
            assert all(map(torch.equal, net.features(images), expected))
            assert all(map(torch.equal, net(images), expected))
    with pytest.raises(CheckpointError, match=r"b\.pt: only a backbone; a detector is needed"):
        load_detector(backbone)


def test_another_architecture_is_refused(faster_rcnn: Trained, tmp_path: Path) -> None:
    Architecture("tiny", (3,) * 9).save(tmp_path / "other.json")
    exported = export(faster_rcnn.config, faster_rcnn.weights, form="torch", out=tmp_path / "d.pt")
    for weights in (faster_rcnn.weights, exported):
        with pytest.raises(CheckpointError, match=r"of the architecture 0,1,2,3,.* of tiny.* 3,3,3,3"):
            load_detector(tmp_path / "other.json", weights)


def test_old_weights_without_settings_need_the_config(faster_rcnn: Trained, tmp_path: Path) -> None:
    weights = load_weights(faster_rcnn.weights)
    old = tmp_path / "old.pt"
    save_weights(old, replace(weights.info, detector=None), weights.state)
    with pytest.raises(CheckpointError, match=r"old\.pt: has no detector settings.*config="):
        load_detector(faster_rcnn.architecture, old)
    load_detector(faster_rcnn.architecture, old, config=faster_rcnn.yaml)
    load_backbone(faster_rcnn.architecture, old)


def test_settings_that_cannot_be_are_refused(faster_rcnn: Trained, tmp_path: Path) -> None:
    weights = load_weights(faster_rcnn.weights)
    damaged = tmp_path / "net.pt"
    save_weights(damaged, replace(weights.info, detector={"fpn_channels": -1}), weights.state)
    with pytest.raises(CheckpointError, match=r"net\.pt: fpn_channels: .*greater than or equal to 1"):
        load_detector(faster_rcnn.architecture, damaged)


def test_a_supernet_is_refused_with_what_to_do(faster_rcnn: Trained, supernets: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights of a supernet.*detnas export -c CONFIG"):
        load_detector(faster_rcnn.architecture, supernets / "finetune/supernet.pt")


def test_a_trunk_of_ones_own_is_loaded_by_who_names_it(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "tests/search_spaces")
    config = make_config(tmp_path / "run", space={"name": "foreign:mobile"}, finetune={"steps": 1})
    config = config.model_copy(update={"retrain": config.retrain.model_copy(update={"init": "scratch"})})
    Architecture("foreign:mobile", (0, 2)).save(tmp_path / "net.json")
    with pytest.raises(Exception, match="which names code"):
        load_backbone(tmp_path / "net.json", tmp_path / "gone.pt")
    (results,) = retrain(config, [tmp_path / "net.json"])
    weights = results.parent / "detector/net.pt"
    with pytest.raises(
        CheckpointError, match=r"net\.pt: a net of the space 'foreign:mobile', which names code"
    ):
        load_detector(weights)
    assert load_backbone(weights, trusted=["foreign:mobile"]).strides == [4, 8]
    path = export(config, weights, form="onnx", part="backbone")
    assert path == tmp_path / "run/export/backbone.onnx"


def test_the_package_itself_stays_light() -> None:
    program = "import sys, detnas_nni; assert not {'torch', 'nni', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY)
    with pytest.raises(ImportError, match="cannot import name 'load_trunk'"):
        from detnas_nni import load_trunk  # noqa: F401
