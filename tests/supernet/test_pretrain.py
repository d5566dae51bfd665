"""Step 1, on real images: what it writes, that its settings reach it, and what it refuses at its start."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.cost.table import cost_table
from detnas_nni.data.drawing import SHAPES
from detnas_nni.errors import ConfigError, ConstraintError, DataError
from detnas_nni.models import ClassifierSpace
from detnas_nni.supernet.steps import pretrain
from detnas_nni.training.weights import load_weights
from search_spaces import CANDIDATES, layout


@pytest.fixture
def data(shapes: Path, tmp_path: Path) -> Path:
    """A copy of the images, to be damaged."""
    return shutil.copytree(shapes, tmp_path / "data")


def test_the_checkpoint_is_the_whole_supernet_with_its_description(
    supernets: Path, make_config: Callable[..., Config]
) -> None:
    supernet = load_weights(supernets / "pretrain/supernet.pt")
    assert (supernet.info.kind, supernet.info.space, supernet.info.steps) == ("classifier", "tiny", 4)
    assert supernet.info.classes == tuple(sorted(SHAPES[:6]))
    assert supernet.info.options == {}
    space = ClassifierSpace("tiny", 6)
    space.load_state_dict(supernet.state)
    assert list(supernet.trunk_state) == list(space.trunk.state_dict())
    assert all(torch.isfinite(tensor).all() for tensor in supernet.state.values())


def test_the_images_held_out_for_a_search_are_not_trained_on(
    make_config: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        pretrain(make_config(tmp_path / "run", data={"classification": {"holdout": 20}}))
    assert "pretrain: 40 images of 6 classes, 4 steps" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.04},
        {"momentum": 0.5},
        {"bn_momentum": 0.5},
        {"batch_size": 7},
        {"warmup_steps": 2},
        {"weight_decay": 0.5},
        {"label_smoothing": 0.0},
        {"dropout": 0.0},
        {"color_jitter": 0.0},
        {"crop_min_scale": 0.9},
    ],
    ids=lambda settings: "".join(settings),
)
def test_a_setting_changes_the_weights(
    settings: dict[str, Any],
    make_config: Callable[..., Config],
    tmp_path: Path,
    supernets: Path,
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    path = pretrain(make_config(tmp_path / "run", pretrain=settings))
    assert differing(state_of(path), state_of(supernets / "pretrain/supernet.pt"))


@pytest.mark.parametrize("seed", range(3))
def test_a_path_keeps_to_the_bin_of_macs_in_the_classifiers_convention(
    seed: int, make_config: Callable[..., Config], tmp_path: Path, searched_blocks: list[str]
) -> None:
    table = cost_table("tiny")
    some = Architecture("tiny", (0,) * len(layout("tiny")))
    low = table.classifier_cost(some, 6).macs
    # Narrower than what the classifier adds: a path that is in it by its backbone alone is not in it.
    high = low + (low - table.cost(some).macs) // 2
    settings = {"steps": 1, "macs_bins": [[low, high]]}
    state = load_weights(pretrain(make_config(tmp_path / "run", seed=seed, pretrain=settings))).state
    trained = {name for name in state if name.endswith("batches_tracked") and state[name] == 1}
    ops = [
        op
        for block in searched_blocks
        for op, candidate in enumerate(CANDIDATES)
        if any(f".{block}.{candidate}." in name for name in trained)
    ]
    assert low <= table.classifier_cost(Architecture("tiny", tuple(ops)), 6).macs < high


def test_bins_that_cannot_be_reached_are_refused_at_the_start(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", pretrain={"macs_bins": [[1, 2]]})
    with pytest.raises(ConstraintError, match=r"pretrain\.macs_bins: none of .* between 1 and 2 MACs"):
        pretrain(config)
    assert not config.run_dir.exists()


def test_a_truncated_image_is_left_out_and_reported(
    data: Path, make_config: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for image in sorted((data / "classification/train/circle").iterdir())[:8]:
        image.write_bytes(image.read_bytes()[:200])
    sections = {"data_dir": data, "pretrain": {"steps": 6}}
    config = make_config(tmp_path / "run", **sections, data={"max_bad_images": 8})
    with caplog.at_level(logging.WARNING):
        path = pretrain(config)
    assert load_weights(path).info.steps == 6
    reported = [line for line in caplog.messages if "circle" in line and "left out" in line]
    assert 1 < len(reported) <= 8
    with pytest.raises(DataError, match=r"circle/.*\.jpg: .*2 bad image\(s\).*1 allowed.*max_bad_images"):
        pretrain(make_config(tmp_path / "run", **sections, data={"max_bad_images": 1}), fresh=True)


def test_bad_data_is_found_before_anything_is_written(
    data: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    def error(**sections: Any) -> str:
        with pytest.raises((DataError, ConfigError)) as raised:
            pretrain(make_config(tmp_path / "run", data_dir=data, **sections))
        assert not (tmp_path / "run").exists()
        return str(raised.value)

    train = data / "classification/train"
    assert "no `data.classification`" in error(data={"classification": None})
    assert f"{tmp_path}/gone: the folder cannot be read" in error(
        data={"classification": {"train": f"{tmp_path}/gone"}}
    )
    assert "data.classification.holdout: 60 images" in error(data={"classification": {"holdout": 60}})
    shutil.rmtree(train / "circle")
    (train / "circle").mkdir()
    assert f"{train / 'circle'}: has no image" in error()
