"""Step 2, on real images: both detectors, where the trunk comes from, and what is refused at its start."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError, ConfigError, DataError, DetNASError
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.models import DetectorSpace
from detnas_nni.supernet.inherit import weights_of_path
from detnas_nni.supernet.steps import finetune, pretrain
from detnas_nni.training.weights import file_hash, load_weights, save_weights
from search_spaces import layout

# A step so small that it rounds away: what was trained is what the training started from.
STANDING = {"steps": 1, "lr": 1e-30, "weight_decay": 0.0}


@pytest.fixture
def data(shapes: Path, tmp_path: Path) -> Path:
    """A copy of the images and annotations, to be damaged."""
    return shutil.copytree(shapes, tmp_path / "data")


def weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions, which no zero keeps from standing still."""
    return {name: tensor for name, tensor in state.items() if tensor.dim() == 4}


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_the_checkpoint_is_the_whole_supernet_with_its_description(
    name: str, pretrained: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(pretrained, detector={"name": name}, finetune={"steps": 2})
    supernet = load_weights(finetune(config))
    assert (supernet.info.kind, supernet.info.space, supernet.info.steps) == (name, "tiny", 2)
    assert len(supernet.info.classes) == 6
    space = DetectorSpace("tiny", 6, config.detector)
    space.load_state_dict(supernet.state)
    assert list(supernet.trunk_state) == list(space.trunk.state_dict())
    assert all(torch.isfinite(tensor).all() for tensor in supernet.state.values())


def test_the_trunk_starts_from_the_pretrained_supernet(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    before = load_weights(pretrained / "pretrain/supernet.pt").trunk_state
    after = load_weights(finetune(make_config(pretrained, finetune=STANDING))).trunk_state
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in weights(before).items())


def test_the_trunk_may_start_from_scratch_without_a_pretrained_supernet(
    supernets: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    # With the same seed, candidates that pre-training did not draw would stand where they start.
    settings = {**STANDING, "init": "scratch"}
    config = make_config(tmp_path / "run", seed=1, finetune=settings, data={"classification": None})
    after = load_weights(finetune(config)).trunk_state
    before = load_weights(supernets / "pretrain/supernet.pt").trunk_state
    assert not any(torch.equal(after[name], tensor) for name, tensor in weights(before).items())


def test_the_trunk_may_start_from_another_supernet_than_the_runs_own(
    pretrained: Path, supernets: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    own = load_weights(supernets / "pretrain/supernet.pt")
    other = tmp_path / "other.pt"
    doubled = {
        name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in own.state.items()
    }
    # Like the authors' weights: without class names, and trained by another config.
    classes = tuple(map(str, range(6)))
    save_weights(other, replace(own.info, classes=classes, fingerprint="of another", seed=7), doubled)
    for run_dir in (pretrained, tmp_path / "without its own"):
        config = make_config(run_dir, finetune={**STANDING, "weights": str(other)})
        after = load_weights(finetune(config)).trunk_state
        expected = weights(load_weights(other).trunk_state)
        assert all(torch.equal(after[name], tensor) for name, tensor in expected.items())


def test_a_single_net_is_no_supernet_to_start_from(
    supernets: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    path = Architecture("tiny", (1,) * len(layout("tiny")))
    single = weights_of_path(load_weights(supernets / "pretrain/supernet.pt"), path)
    save_weights(tmp_path / "net.pt", single.info, single.state)
    config = make_config(tmp_path / "run", finetune={"weights": str(tmp_path / "net.pt")})
    with pytest.raises(
        CheckpointError, match=rf"net\.pt: weights of the single net {path}; a supernet's are"
    ):
        finetune(config)
    assert not (tmp_path / "run").exists()


def test_the_pretrained_supernet_stays_as_it_is(pretrained: Path, make_config: Callable[..., Config]) -> None:
    before = file_hash(pretrained / "pretrain/supernet.pt")
    finetune(make_config(pretrained, finetune={"steps": 1}))
    assert file_hash(pretrained / "pretrain/supernet.pt") == before


@pytest.mark.parametrize(
    "sections",
    [
        {"finetune": {"lr": 0.02}},
        {"finetune": {"momentum": 0.5}},
        {"finetune": {"bn_momentum": 0.5}},
        {"finetune": {"batch_size": 3}},
        {"finetune": {"milestones": [2]}},
        {"finetune": {"gamma": 0.5}},
        {"finetune": {"warmup_steps": 0}},
        {"finetune": {"warmup_factor": 0.5}},
        {"finetune": {"weight_decay": 0.5}},
        {"finetune": {"bias_lr_factor": 1.0}},
        {"finetune": {"bias_weight_decay": 0.5}},
        {"data": {"detection": {"flip": 0.0}}},
        {"detector": {"box_samples": 8}},
    ],
    ids=lambda sections: ".".join(key for section in sections.values() for key in section),
)
def test_a_setting_changes_the_weights(
    sections: dict[str, Any],
    pretrained: Path,
    make_config: Callable[..., Config],
    supernets: Path,
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    fine_tuning = {"checkpoint_every": 100, **sections.get("finetune", {})}
    path = finetune(make_config(pretrained, **{**sections, "finetune": fine_tuning}))
    assert differing(state_of(path), state_of(supernets / "finetune/supernet.pt"))


def test_a_missing_pretrained_supernet_is_named(make_config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"run/pretrain/supernet\.pt: there are no weights; run the step"
    ):
        finetune(make_config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"space": {"name": "small"}}, "whose space is 'tiny', but the config says 'small'"),
        (
            {"space": {"options": {"shuffle": "even_odd"}}},
            "whose options is {}, but the config says {'shuffle': 'even_odd'}",
        ),
    ],
    ids=["space", "options"],
)
def test_a_pretrained_supernet_of_another_space_is_refused(
    sections: dict, message: str, pretrained: Path, make_config: Callable[..., Config]
) -> None:
    with pytest.raises(CheckpointError) as raised:
        finetune(make_config(pretrained, **sections))
    assert f"{pretrained}/pretrain/supernet.pt: weights of a supernet {message}; train some" in str(
        raised.value
    )
    assert not (pretrained / "finetune").exists()


def test_a_detector_where_a_classifier_belongs_is_refused(
    pretrained: Path, supernets: Path, make_config: Callable[..., Config]
) -> None:
    shutil.copy(supernets / "finetune/supernet.pt", pretrained / "pretrain/supernet.pt")
    with pytest.raises(
        CheckpointError, match=r"whose kind is 'faster_rcnn', but the config says 'classifier'"
    ):
        finetune(make_config(pretrained))


def test_a_pretrained_supernet_that_lacks_a_tensor_is_refused(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    path = pretrained / "pretrain/supernet.pt"
    supernet = load_weights(path)
    state = {name: tensor.clone() for name, tensor in supernet.state.items() if "stem.conv" not in name}
    save_weights(path, supernet.info, state)
    with pytest.raises(CheckpointError, match=r"supernet\.pt: the weights do not fit .*stem\.conv"):
        finetune(make_config(pretrained))


def test_a_damaged_pretrained_supernet_is_refused(
    pretrained: Path, make_config: Callable[..., Config]
) -> None:
    path = pretrained / "pretrain/supernet.pt"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"pretrain/supernet\.pt: cannot be read as a checkpoint"):
        finetune(make_config(pretrained))


def test_a_truncated_image_is_left_out_and_reported(
    data: Path, make_config: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = sorted((data / "detection/train").iterdir())
    for image in images[:6]:
        image.write_bytes(image.read_bytes()[:300])
    sections = {"data_dir": data, "finetune": {"init": "scratch", "steps": 12}}
    config = make_config(tmp_path / "run", **sections, data={"max_bad_images": 6})
    with caplog.at_level(logging.WARNING):
        path = finetune(config)
    assert load_weights(path).info.steps == 12
    # Twelve batches of two go through the 24 images once: each bad one is met, and told of once.
    told = [line for line in caplog.messages if "is left out" in line]
    assert sorted(line.split(":")[0] for line in told) == [str(image) for image in images[:6]]
    with pytest.raises(DataError, match=r"3 bad image\(s\) in .*train\.json.*, 2 allowed: .*max_bad_images"):
        finetune(make_config(tmp_path / "run", **sections, data={"max_bad_images": 2}), fresh=True)


@pytest.fixture
def refused(data: Path, make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., str]:
    """refused(…): the message with which a training is refused before anything is written."""

    def message(**sections: Any) -> str:
        config = make_config(tmp_path / "run", data_dir=data, finetune={"init": "scratch"}, **sections)
        with pytest.raises((DataError, ConfigError)) as raised:
            finetune(config)
        assert not (tmp_path / "run").exists()
        return str(raised.value)

    return message


def test_bad_annotations_are_found_before_anything_is_written(
    refused: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    assert "no `data.detection`" in refused(data={"detection": None})
    annotations = data / "detection/train.json"
    whole = json.loads(annotations.read_text())

    def refused_with(**changes: Any) -> str:
        annotations.write_text(json.dumps({**whole, **changes}))
        return refused()

    first, *others = whole["annotations"]
    for message in (
        refused(data={"detection": {"train": {"annotations": f"{tmp_path}/gone.json"}}}),
        refused(data={"detection": {"classes": ["circle", "unicorn"]}}),
        refused_with(images=[]),
        refused_with(images=[{**whole["images"][0], "file_name": "gone.jpg"}, *whole["images"][1:]]),
        refused_with(images=[{**whole["images"][0], "file_name": "../../x.jpg"}, *whole["images"][1:]]),
        refused_with(annotations=[{**first, "category_id": 99}, *others]),
        refused_with(annotations=[{**first, "bbox": [900, 900, 5, 5]}, *others]),
    ):
        assert ".json" in message
        assert "Traceback" not in message
    annotations.write_text("{")
    assert f"{annotations}: " in refused()


def test_what_is_wrong_with_the_search_or_the_test_split_is_found_too(
    refused: Callable[..., str], data: Path
) -> None:
    for split in ("search", "test"):
        (data / f"detection/{split}.json").rename(data / "away.json")
        assert f"detection/{split}.json" in refused()
        (data / "away.json").rename(data / f"detection/{split}.json")


def test_a_split_that_shares_an_image_with_another_is_refused(
    refused: Callable[..., str], data: Path
) -> None:
    train = {"images": f"{data}/detection/train", "annotations": f"{data}/detection/train.json"}
    assert "share 24 image file(s)" in refused(data={"detection": {"test": train}})


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_evaluating_a_candidate_changes_no_tensor_of_the_supernet(
    task: str, supernets: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(
        supernets, evaluation={"task": task, "finetune_iterations": 2, "finetune_lr": 0.1}, detector={}
    )
    evaluation = CandidateEvaluation(config)
    path = evaluation.supernet.path
    before = {name: tensor.clone() for name, tensor in evaluation.supernet.state.items()}
    on_disk = file_hash(path)
    for op in (0, 3):
        architecture = Architecture("tiny", (op,) * len(layout("tiny")))
        evaluation.evaluate(architecture)
        net = evaluation.net(architecture)
        with torch.no_grad():
            for tensor in net.state_dict().values():
                tensor.fill_(1)
    after = evaluation.supernet.state
    assert [name for name, tensor in before.items() if not torch.equal(after[name], tensor)] == []
    assert file_hash(path) == on_disk


@pytest.mark.parametrize(
    ("search", "refusal"),
    [
        ({"constraint": {"max_macs": 1000}}, "no architecture of space 'tiny' meets MACs <= 1,000"),
        ({"strategy": "nowhere:climb"}, "search.strategy: cannot import 'nowhere'"),
        ({"around": [1, 2]}, "search.around: .* has 2 values; space 'tiny' has 9 blocks"),
    ],
)
def test_what_the_search_will_refuse_is_refused_before_the_supernet_is_trained(
    search: dict[str, Any], refusal: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", search=search, finetune={"init": "scratch"})
    for train in (finetune, pretrain):
        with pytest.raises(DetNASError, match=refusal):
            train(config)
    assert not config.run_dir.exists()


def test_latency_may_be_measured_after_the_training(
    make_config: Callable[..., Config], pretrained: Path, tmp_path: Path
) -> None:
    constraint = {"latency_table": str(tmp_path / "later.json"), "max_latency_ms": 1}
    assert finetune(make_config(pretrained, search={"constraint": constraint})).is_file()
