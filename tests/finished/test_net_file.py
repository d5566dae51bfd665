"""A finished net's file: rebuilt as it was, never run as code, refused by name where it is damaged."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detnas_nni.config.reading import load_config
from detnas_nni.errors import CheckpointError
from detnas_nni.evaluation.candidate import measure_weights
from detnas_nni.finished.exporting import export
from detnas_nni.finished.nets import FinishedDetector
from detnas_nni.finished.sources import detection_splits, load_net, open_net, save_net
from tests.finished.conftest import Trained


@pytest.fixture
def exported(faster_rcnn: Trained, tmp_path: Path) -> Path:
    return export(faster_rcnn.config, faster_rcnn.weights, form="torch", out=tmp_path / "detector.pt")


@pytest.fixture
def changed(exported: Path) -> Callable[..., Path]:
    """changed(description={key: value}, state={name: tensor}): the file with other values."""

    def change(description: dict[str, Any] | None = None, state: dict[str, Any] | None = None) -> Path:
        content = torch.load(exported, weights_only=True)
        values = {**json.loads(content["finished_net"]), **(description or {})}
        torch.save(
            {"finished_net": json.dumps(values), "state": {**content["state"], **(state or {})}}, exported
        )
        return exported

    return change


def test_the_net_in_it_is_the_trained_one(exported: Path, faster_rcnn: Trained, photos: list[Tensor]) -> None:
    net = load_net(exported)
    assert not net.training
    with torch.no_grad():
        (found,) = net([photos[0]])
    expected = faster_rcnn.detections(photos[0])
    assert len(expected["boxes"]) > 0
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("space.name=small", "whose space is 'tiny', but the config says 'small'"),
        ("space.options={shuffle: even_odd}", "whose options is"),
        ("detector.name=retinanet", "whose detector is 'faster_rcnn', but"),
    ],
)
def test_with_a_config_it_has_to_be_of_that_config(
    change: str, message: str, exported: Path, faster_rcnn: Trained
) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_net(exported, config=load_config(faster_rcnn.yaml, [change]))


def test_with_a_config_it_has_that_configs_settings_and_the_datas_ids(
    exported: Path, changed: Callable[..., Path], faster_rcnn: Trained
) -> None:
    splits = detection_splits(faster_rcnn.config)
    changed(description={"category_ids": [1, 2, 3, 4, 5, 6]})  # as exported where the data was not at hand
    stricter = load_config(faster_rcnn.yaml, ["detector.score_threshold=0.9"])
    net = open_net(exported, config=stricter, splits=splits)
    assert isinstance(net, FinishedDetector)
    assert net.description.detector.score_threshold == net.net.detector.roi_heads.score_thresh == 0.9
    assert net.category_ids == (0, 1, 3, 4, 7, 8, 11)
    changed(description={"names": ["a", "b", "c", "d", "e", "f"]})
    with pytest.raises(CheckpointError, match=r"whose classes is \('a', .* but the config says \('circle'"):
        open_net(exported, config=stricter, splits=splits)


def test_torch_loads_it_without_running_code(exported: Path) -> None:
    content = torch.load(exported, weights_only=True)
    assert set(content) == {"finished_net", "state"}
    assert all(isinstance(tensor, Tensor) for tensor in content["state"].values())


def test_it_can_be_trained_on(exported: Path, photos: list[Tensor], tmp_path: Path) -> None:
    net = load_net(exported).train()
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]]), "labels": torch.tensor([1])}]
    sum(net([photos[0]], targets).values()).backward()
    stem = net.net.trunk.stem.conv.weight
    assert stem.grad.abs().sum() > 0
    with torch.no_grad():
        stem -= 0.1
    save_net(net, tmp_path / "again.pt")
    assert torch.equal(load_net(tmp_path / "again.pt").net.trunk.stem.conv.weight, stem)
    # And the file that it came from is as it was.
    assert not torch.equal(load_net(exported).net.trunk.stem.conv.weight, stem)


def refusal(file: Path) -> str:
    with pytest.raises(CheckpointError, match=re.escape(str(file))) as refused:
        load_net(file)
    return str(refused.value)


def test_a_truncated_file_is_refused(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:-5000])
    assert "cannot be read as a checkpoint" in refusal(exported)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    for name, write in (("a.pt", lambda file: torch.save({"finished_net": Bomb()}, file)), ("b.pt", None)):
        file = tmp_path / name
        write(file) if write else file.write_bytes(pickle.dumps(Bomb()))
        assert "cannot be read as a checkpoint" in refusal(file)
    assert not (tmp_path / "exploded").exists()


def test_a_tensor_that_is_missing_or_of_another_shape_is_named(changed: Callable[..., Path]) -> None:
    name = "detector.backbone.trunk.stem.conv.weight"
    message = refusal(changed(state={name: torch.zeros(3, 3)}))
    assert f"{name} is float32 (3, 3) in them, and float32 (" in message
    assert "a value in its state is str" in refusal(changed(state={name: "x"}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ops": [0] * 8}, "8 values; space 'tiny' has 9 blocks"),
        ({"ops": "x"}, "description is damaged: ops: "),
        ({"space": "huge"}, "unknown search space 'huge'"),
        ({"format": 2}, "description is damaged: format: "),
        ({"detector": None}, "a detector has settings and classes"),
        ({"category_ids": [1]}, "1 category ids of 6 classes"),
        ({"options": {"width": 8}}, "its net cannot be built: 'tiny' cannot be called with the options"),
        ({"detector": {"fpn_channels": 10**5}}, "fit the net that the file describes"),
        ({"detector": {"fpn_channels": 10**9}}, "its net cannot be built: Storage size"),
        ({"space": "stranger:Trunk"}, r"a net of the space 'stranger:Trunk', which names code"),
    ],
)
def test_a_description_that_cannot_be_is_refused(
    values: dict[str, Any], message: str, changed: Callable[..., Path]
) -> None:
    """One of a net of terabytes, too, which takes neither time nor memory."""
    assert message in refusal(changed(description=values))


def test_to_a_step_it_is_no_weights_but_names_those_that_it_is_of(
    exported: Path, faster_rcnn: Trained
) -> None:
    message = (
        rf"^{exported}: a finished net, .* name the weights .* such as RUN_DIR/retrain/NAME/detector/net\.pt$"
    )
    with pytest.raises(CheckpointError, match=message):
        measure_weights(faster_rcnn.config, exported, "test")
    assert faster_rcnn.weights.match("retrain/*/detector/net.pt")


def test_weights_of_a_training_are_no_finished_net(faster_rcnn: Trained) -> None:
    assert "not a finished net as `detnas export --weights` writes it" in refusal(faster_rcnn.weights)
