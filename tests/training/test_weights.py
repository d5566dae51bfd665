"""A file of weights: whole or not there, never run as code, and of what the config says."""

import pickle
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from detnas_nni.architecture import Architecture
from detnas_nni.errors import CheckpointError
from detnas_nni.training.tensors import check_fit, fill, load_tensors
from detnas_nni.training.weights import Weights, WeightsInfo, file_hash, load_weights, save_weights
from search_spaces import layout

INFO = WeightsInfo(
    kind="retinanet",
    space="tiny",
    options={"shuffle": "even_odd"},
    classes=("circle", "square"),
    steps=12,
    seed=3,
    fingerprint="0123456789abcdef",
    trunk_prefix="detector.backbone.trunk.",
)
NET = Architecture("tiny", tuple(index % 4 for index in range(len(layout("tiny")))))
SINGLE = replace(INFO, ops=NET.ops)
STATE = {
    "detector.backbone.trunk.stem.weight": torch.arange(6.0).reshape(2, 3),
    "detector.backbone.trunk.stem.count": torch.tensor(7),
    "detector.head.weight": torch.ones(2),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "supernet.pt"
    save_weights(path, INFO, STATE)
    return path


def test_what_is_saved_is_loaded(path: Path) -> None:
    supernet = load_weights(path)
    assert supernet.info == INFO
    assert supernet.path == path
    assert supernet.state.keys() == STATE.keys()
    assert all(torch.equal(supernet.state[name], tensor) for name, tensor in STATE.items())
    assert [file.name for file in path.parent.iterdir()] == ["supernet.pt"]


def test_the_trunks_part_goes_by_its_own_names(path: Path) -> None:
    trunk = load_weights(path).trunk_state
    assert set(trunk) == {"stem.weight", "stem.count"}
    assert torch.equal(trunk["stem.weight"], STATE["detector.backbone.trunk.stem.weight"])


def test_writing_to_a_loaded_tensor_does_not_reach_the_file(path: Path) -> None:
    before = file_hash(path)
    load_weights(path).state["detector.head.weight"].zero_()
    assert file_hash(path) == before
    assert torch.equal(load_weights(path).state["detector.head.weight"], torch.ones(2))


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_weights(path, INFO, {"weight": lambda: None})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_supernet_of_another_config_is_refused_by_file_field_and_both_values(path: Path) -> None:
    supernet = load_weights(path)
    supernet.expect(kind="retinanet", space="tiny", classes=("circle", "square"))
    supernet.expect(options={"shuffle": "even_odd"})
    for field, value, message in (
        ("kind", "faster_rcnn", "whose kind is 'retinanet', but the config says 'faster_rcnn'"),
        ("space", "small", "whose space is 'tiny', but the config says 'small'"),
        ("options", {}, "whose options is {'shuffle': 'even_odd'}, but the config says {}"),
        (
            "classes",
            ("square", "circle"),
            "whose classes is circle, square, but the config says square, circle",
        ),
    ):
        with pytest.raises(
            CheckpointError, match=re.escape(f"{path}: weights of a supernet {message}; train some")
        ):
            supernet.expect(**{field: value})


def weights(info: WeightsInfo) -> Weights:
    return Weights(Path("run/net.pt"), info, STATE)


def test_a_single_nets_weights_name_its_architecture(tmp_path: Path) -> None:
    save_weights(tmp_path / "net.pt", SINGLE, STATE)
    assert load_weights(tmp_path / "net.pt").info == SINGLE
    assert load_weights(tmp_path / "net.pt").info.architecture == NET
    assert INFO.architecture is None


def test_a_single_net_where_a_supernet_belongs_is_refused_and_the_other_way_round() -> None:
    weights(INFO).expect_supernet(kind="retinanet")
    weights(SINGLE).expect_single()
    with pytest.raises(
        CheckpointError, match=rf"^run/net\.pt: weights of the single net {NET}; a supernet's"
    ):
        weights(SINGLE).expect_supernet(kind="retinanet")
    with pytest.raises(
        CheckpointError, match=r"^run/net\.pt: weights of a supernet; a single net's are needed"
    ):
        weights(INFO).expect_single()


def test_a_supernet_of_another_kind_is_no_better_for_being_a_supernet() -> None:
    with pytest.raises(CheckpointError, match="weights of a supernet whose kind is 'retinanet'"):
        weights(INFO).expect_supernet(kind="classifier")
    with pytest.raises(CheckpointError, match="weights of a single net whose kind is 'retinanet'"):
        weights(SINGLE).expect(kind="classifier")


def test_a_single_net_of_another_architecture_is_refused_by_both() -> None:
    weights(SINGLE).expect_single(NET)
    other = Architecture("tiny", (0,) * len(NET.ops))
    with pytest.raises(
        CheckpointError, match=f"of the architecture {NET} of tiny; those of {other} of tiny are needed"
    ):
        weights(SINGLE).expect_single(other)


def test_classes_without_names_count_by_their_number_alone() -> None:
    numbered = weights(replace(INFO, classes=("0", "1", "2")))
    numbered.expect(classes=("circle", "square", "star"))
    with pytest.raises(
        CheckpointError, match="whose classes is 0, 1, 2, but the config says circle, square;"
    ):
        numbered.expect(classes=("circle", "square"))
    with pytest.raises(CheckpointError, match="whose classes is 1, 2"):
        weights(replace(INFO, classes=("1", "2"))).expect(classes=("circle", "square"))


def test_weights_fit_a_net_by_every_name_shape_and_type(path: Path) -> None:
    net = torch.nn.Module()
    net.detector = torch.nn.Module()
    net.detector.head = torch.nn.Linear(2, 1, bias=False)
    for state, message in (
        (load_weights(path).state, r"trunk\.stem\.count is int64 \(\) in them, and missing there"),
        ({}, r"detector\.head\.weight is missing in them, and float32 \(1, 2\) there"),
        ({"detector.head.weight": torch.ones(2)}, r"is float32 \(2,\) in them, and float32 \(1, 2\) there"),
        ({"detector.head.weight": torch.ones(1, 2).half()}, r"is float16 \(1, 2\) in them"),
    ):
        with pytest.raises(CheckpointError, match=rf"^{path}: the weights do not fit a net: .*{message}"):
            fill(net, state, path, "a net")
    check_fit(net, {"detector.head.weight": torch.ones(1, 2)}, path, "a net")


@pytest.mark.parametrize("assign", [False, True])
def test_weights_that_fill_a_net_are_copied(path: Path, assign: bool) -> None:
    net, state = torch.nn.Linear(2, 1), {"weight": torch.ones(1, 2), "bias": torch.ones(1)}
    fill(net, state, path, assign=assign)
    with torch.no_grad():
        net.weight.zero_()
    assert torch.equal(state["weight"], torch.ones(1, 2)) and torch.equal(net.bias, torch.ones(1))


def test_a_missing_checkpoint_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"gone\.pt: there are no weights; run the step that trains them"
    ):
        load_weights(tmp_path / "gone.pt")


def damaged(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut in half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("weights")
    elif kind == "zeros":
        path.write_bytes(bytes(len(content)))
    elif kind == "no zip at its end":
        path.write_bytes(content[:-30])


@pytest.mark.parametrize("kind", ["empty", "cut in half", "text", "zeros", "no zip at its end"])
def test_a_damaged_file_is_refused(path: Path, kind: str) -> None:
    damaged(path, kind)
    with pytest.raises(CheckpointError) as raised:
        load_weights(path)
    assert str(raised.value).startswith(f"{path}: cannot be read as a checkpoint: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dict of tensors, found list"),
        ({"weight": torch.ones(1)}, "not a file of weights of format 1"),
        ({"format": 2, "info": asdict(INFO), "state": STATE}, "not a file of weights of format 1"),
        ({"format": 1, "info": asdict(INFO), "state": 3}, "not a file of weights of format 1"),
        ({"format": 1, "state": STATE}, "description of the weights is damaged"),
        (
            {"format": 1, "info": {"kind": "classifier"}, "state": STATE},
            "description of the weights is damaged",
        ),
        (
            {"format": 1, "info": {**asdict(INFO), "epoch": 3}, "state": STATE},
            "description of the weights is damaged",
        ),
        ({"format": 1, "info": None, "state": STATE}, "description of the weights is damaged"),
        (
            {"format": 1, "info": {**asdict(INFO), "ops": [0, 1]}, "state": STATE},
            "description of the weights is damaged: .*tiny",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_weights(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        load_weights(tmp_path)
    with pytest.raises(CheckpointError):
        load_tensors(tmp_path)


def test_the_hash_is_of_the_content(path: Path, tmp_path: Path) -> None:
    first = file_hash(path)
    (tmp_path / "copy.pt").write_bytes(path.read_bytes())
    assert file_hash(tmp_path / "copy.pt") == first
    save_weights(path, replace(INFO, seed=4), STATE)
    assert file_hash(path) != first
    assert re.fullmatch("[0-9a-f]{64}", first)
