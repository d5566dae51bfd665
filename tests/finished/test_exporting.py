"""Exported files compute what the trained net does, on images of any size, and say what they are."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nni.nas.space import model_context
from torch import Tensor
from torchvision.transforms.v2 import functional

from detnas_nni.architecture import Architecture
from detnas_nni.cli import main
from detnas_nni.errors import CheckpointError, EvaluationError, UsageError
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.finished import tracing
from detnas_nni.finished.api import load_backbone, load_detector
from detnas_nni.finished.exporting import METADATA, export
from search_spaces.trunk import TrunkSpace
from tests.finished.conftest import NET, Trained

CLASSES = ["__background__", "circle", "square", "triangle", "star", "ring", "cross"]
Run = Callable[[Tensor], Sequence[Tensor]]


def run_onnx(file: Path) -> Run:
    session = onnxruntime.InferenceSession(str(file))
    (given,) = session.get_inputs()
    return lambda image: [torch.from_numpy(out) for out in session.run(None, {given.name: image.numpy()})]


def run_torchscript(file: Path) -> Run:
    net = torch.jit.load(str(file))
    return lambda image: net(image)


RUNNERS = {"onnx": run_onnx, "torchscript": run_torchscript}
graphs = pytest.mark.parametrize("form", RUNNERS)


def in_one_order(boxes: Tensor, labels: Tensor, scores: Tensor) -> np.ndarray:
    """One row a detection, in an order that near-equal scores do not change."""
    rows = torch.cat([labels[:, None], boxes, scores[:, None]], dim=1).numpy().astype(np.float64)
    return rows[np.lexsort(rows[:, :5].round(1).T[::-1])]


def assert_same_detections(found: Sequence[Tensor], expected: dict[str, Tensor]) -> None:
    wanted = in_one_order(expected["boxes"], expected["labels"], expected["scores"])
    rows = in_one_order(*found)
    assert rows.shape == wanted.shape
    np.testing.assert_allclose(rows[:, :5], wanted[:, :5], rtol=0, atol=0.05)
    np.testing.assert_allclose(rows[:, 5], wanted[:, 5], rtol=0, atol=1e-3)


@graphs
def test_an_exported_detector_finds_what_the_net_does_in_images_of_any_size(
    form: str, trained: Trained, photos: list[Tensor], tmp_path: Path
) -> None:
    run = RUNNERS[form](export(trained.config, trained.weights, form=form, out=tmp_path / "net"))
    sizes = [(96, 125), (97, 64), (61, 118), (200, 150), (40, 33)]
    images = [*photos, *(functional.resize(photos[0], list(size)) for size in sizes)]
    found = 0
    for image in images:
        expected = trained.detections(image)
        assert_same_detections(run(image / 255), expected)
        found += len(expected["boxes"])
    assert found > 10 * len(images)


@graphs
def test_an_exported_detector_takes_an_image_in_which_nothing_is(
    form: str, trained_nets: dict[str, Trained], tmp_path: Path
) -> None:
    net = trained_nets["faster_rcnn"]
    settings = net.config.detector.model_copy(update={"score_threshold": 0.99})
    config = net.config.model_copy(update={"detector": settings})
    run = RUNNERS[form](export(config, net.weights, form=form, out=tmp_path / "net"))
    boxes, labels, scores = run(torch.zeros(3, 50, 60))
    assert (boxes.shape, labels.shape, scores.shape) == ((0, 4), (0,), (0,))


@graphs
def test_an_exported_backbone_gives_the_trunks_features(form: str, trained: Trained, tmp_path: Path) -> None:
    path = export(trained.config, trained.weights, form=form, part="backbone", out=tmp_path / "net")
    with model_context(NET.choices):
        trunk = TrunkSpace("tiny").eval()
    prefix = "detector.backbone."
    state = torch.load(trained.weights, weights_only=True)["state"]
    trunk.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(f"{prefix}trunk")}
    )
    run = RUNNERS[form](path)
    for shape in ((1, 3, 64, 96), (3, 3, 75, 131)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = trunk(images[:, [2, 1, 0]] * 255).values()
        for found, wanted in zip(run(images), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_an_onnx_file_of_one_size_takes_that_size_alone(
    faster_rcnn: Trained, photos: list[Tensor], tmp_path: Path
) -> None:
    path = export(
        faster_rcnn.config, faster_rcnn.weights, form="onnx", size=(70, 90), out=tmp_path / "a.onnx"
    )
    session = onnxruntime.InferenceSession(str(path))
    assert session.get_inputs()[0].shape == [3, 70, 90]
    image = functional.resize(photos[1], [70, 90])
    assert_same_detections(run_onnx(path)(image / 255), faster_rcnn.detections(image))
    with pytest.raises(Exception, match=r"invalid dimensions|Got invalid"):
        run_onnx(path)(photos[1] / 255)


# What a file says of itself.


def expect_detector(values: dict[str, str]) -> None:
    assert json.loads(values["classes"]) == CLASSES
    assert json.loads(values["category_ids"]) == [0, 1, 3, 4, 7, 8, 11]
    assert "RGB, float32, 0 to 1" in values["preprocessing"]
    description = json.loads(values["description"])
    assert (description["space"], tuple(description["ops"])) == ("tiny", NET.ops)


def test_classes_and_preprocessing_stand_in_the_onnx_metadata(faster_rcnn: Trained, tmp_path: Path) -> None:
    path = export(faster_rcnn.config, faster_rcnn.weights, form="onnx", out=tmp_path / "a.onnx")
    expect_detector({entry.key: entry.value for entry in onnx.load(str(path)).metadata_props})
    session = onnxruntime.InferenceSession(str(path))
    assert [given.name for given in session.get_inputs()] == ["image"]
    assert [output.name for output in session.get_outputs()] == ["boxes", "labels", "scores"]
    part = export(
        faster_rcnn.config, faster_rcnn.weights, form="onnx", part="backbone", out=tmp_path / "b.onnx"
    )
    values = {entry.key: entry.value for entry in onnx.load(str(part)).metadata_props}
    assert json.loads(values["strides"]) == [4, 8, 16, 32]
    assert json.loads(values["outputs"]) == ["C2", "C3", "C4", "C5"]


def test_they_stand_in_a_torchscript_file_too(faster_rcnn: Trained, tmp_path: Path) -> None:
    path = export(faster_rcnn.config, faster_rcnn.weights, form="torchscript", out=tmp_path / "a.ts")
    extra = {METADATA: ""}
    torch.jit.load(str(path), _extra_files=extra)
    values = json.loads(extra[METADATA])
    expect_detector(values)
    assert values["device"] == "cpu"


# What is refused.


@graphs
def test_a_file_that_computes_something_else_is_not_written(
    form: str, faster_rcnn: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if folding were wrong."""
    fold = tracing.fold_batch_norm

    def fold_wrongly(net: torch.nn.Module) -> int:
        folded = fold(net)
        net.detector.net.trunk.stem.conv.bias += 20
        return folded

    monkeypatch.setattr(tracing, "fold_batch_norm", fold_wrongly)
    path = tmp_path / "net"
    path.write_text("the one before")
    for part, message in (("detector", "has no counterpart of the detection"), ("backbone", "feature map 0")):
        if part == "backbone":
            monkeypatch.setattr(
                tracing, "fold_batch_norm", lambda net: net.backbone.trunk.stem.conv.bias.add_(20)
            )
        with pytest.raises(EvaluationError, match=f"does not compute the same as the net.*{message}"):
            export(faster_rcnn.config, faster_rcnn.weights, form=form, part=part, out=path)
    assert path.read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages_onnx_says_what_to_install(
    package: str, faster_rcnn: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what makes Python's import fail
    with pytest.raises(UsageError, match=rf"needs the package {package} .*pip install 'detnas-nni\[onnx\]'"):
        export(faster_rcnn.config, faster_rcnn.weights, form="onnx", out=tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("--weights {weights} --rank 2", "--rank is for the search's architectures"),
        ("--format onnx", "--format is for a finished net, which --weights names"),
        ("--weights {weights} --size 64 64", "--size is for ONNX"),
        ("--weights {supernet}", "weights of a supernet; name its candidate with --arch"),
    ],
)
def test_a_wrong_call_ends_with_2(
    call: str,
    message: str,
    faster_rcnn: Trained,
    supernets: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    supernet = supernets / "finetune/supernet.pt"
    arguments = call.format(weights=faster_rcnn.weights, supernet=supernet).split()
    assert main(["export", "-c", str(faster_rcnn.yaml), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_classifiers_weights_are_a_backbones_and_no_detectors(
    make_config: Callable[..., object], supernets: Path, faster_rcnn: Trained, tmp_path: Path
) -> None:
    config = make_config(supernets, evaluation={"task": "classification"})
    supernet = supernets / "pretrain/supernet.pt"
    with pytest.raises(CheckpointError, match=r"weights of a classifier.*--part backbone"):
        export(config, supernet, form="torch", architecture=faster_rcnn.architecture)
    path = export(
        config,
        supernet,
        form="torch",
        part="backbone",
        architecture=faster_rcnn.architecture,
        out=tmp_path / "b.pt",
    )
    assert load_backbone(path).out_channels == [24, 48, 96, 192]


def test_another_architecture_than_the_weights_is_refused(faster_rcnn: Trained, tmp_path: Path) -> None:
    Architecture("tiny", (3,) * 9).save(tmp_path / "other.json")
    with pytest.raises(CheckpointError, match=r"net\.pt: weights of the architecture 0,1,2,3,0,1,2,3,0"):
        export(faster_rcnn.config, faster_rcnn.weights, form="torch", architecture=tmp_path / "other.json")


# A candidate that nobody has trained.


def test_a_supernets_candidate_is_exported_as_the_search_measures_it(
    make_config: Callable[..., object],
    supernets: Path,
    faster_rcnn: Trained,
    photos: list[Tensor],
    tmp_path: Path,
) -> None:
    config = make_config(supernets, detector={"score_threshold": 0.0})
    path = export(
        config,
        supernets / "finetune/supernet.pt",
        form="torch",
        architecture=faster_rcnn.architecture,
        out=tmp_path / "a.pt",
    )
    evaluation = CandidateEvaluation(config)
    measured = evaluation.calibrated_net(NET)
    with torch.no_grad():
        (expected,) = measured([photos[0][[2, 1, 0]].to(torch.float32)])
        (found,) = load_detector(path)([photos[0]])
    assert len(expected["boxes"]) > 0
    for key, values in expected.items():
        torch.testing.assert_close(found[key], values)
    assert load_detector(path).description.provenance["of"].startswith("candidate with inherited weights")
    # The statistics are the candidate's, not the supernet's.
    norm = "detector.backbone.trunk.stem.bn.running_mean"
    assert not torch.equal(load_detector(path).net.state_dict()[norm], evaluation.supernet.state[norm])
