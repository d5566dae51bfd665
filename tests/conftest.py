"""Real parts for every test, and small ones: generated images, a config on them, trained supernets."""

import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.data.shapes import generate_shapes
from tests.varied import SEED, THREADS

pytest_plugins = ["tests.trainings"]

# What a shell starts in the background (`make test &`) ignores Ctrl-C, and so would all commands that tests
# start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set; tests that change a file change it in a copy."""
    out = tmp_path_factory.mktemp("shapes") / "data"
    generate_shapes(
        out,
        classification_train=60,
        classification_val=24,
        detection_train=24,
        detection_search=12,
        detection_test=12,
        classification_size=32,
        detection_size=(64, 80),
    )
    return out


@pytest.fixture(scope="session")
def write_config(shapes: Path) -> Callable[..., Path]:
    """write_config(path, data_dir=…, pretrain={…}, …): a YAML file of a small experiment, and its path.

    The run's folder is `run` beside the file unless `run_dir` is given. A section's keys replace those of
    the small experiment one by one, at any depth; None takes a key out.
    """

    def write(path: Path, *, data_dir: Path = shapes, **sections: Any) -> Path:
        values = _merged(_small_experiment(data_dir), {"run_dir": "run", **sections})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def make_config(
    write_config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Config]:
    """make_config(run_dir, …): the config that `write_config` would write, read."""

    def make(run_dir: Path, **sections: Any) -> Config:
        folder = tmp_path_factory.mktemp("config")
        return load_config(write_config(folder / "detnas.yaml", run_dir=str(run_dir), **sections))

    return make


@pytest.fixture(scope="session")
def supernets(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with both supernets of `make_config`, trained for some steps. Not to be written to."""
    from detnas_nni.supernet.steps import finetune, pretrain

    run_dir = tmp_path_factory.mktemp("supernets") / "run"
    config = make_config(run_dir)
    pretrain(config)
    finetune(config)
    return run_dir


@pytest.fixture
def trained_run(supernets: Path, tmp_path: Path) -> Path:
    """A copy of `supernets` at `tmp_path / "run"`, to write to."""
    return shutil.copytree(supernets, tmp_path / "run")


def _small_experiment(data: Path) -> dict[str, Any]:
    """Every value that decides how long a test takes; seconds on one core for a whole pipeline."""
    detection = {
        split: {"images": f"{data}/detection/{split}", "annotations": f"{data}/detection/{split}.json"}
        for split in ("train", "search", "test")
    }
    return {
        "run_dir": "run",
        "seed": SEED,
        "space": {"name": "tiny"},
        "data": {
            "classification": {
                "train": f"{data}/classification/train",
                "test": f"{data}/classification/val",
                "holdout": 12,
                "image_size": 32,
            },
            "detection": detection,
        },
        "detector": {
            "name": "faster_rcnn",
            "min_size": 64,
            "max_size": 96,
            "fpn_channels": 16,
            "anchor_sizes": [8, 16, 24, 32, 48],
            "rpn_proposals_train": 32,
            "rpn_proposals_test": 16,
            "box_samples": 16,
            "box_head_convs": 1,
            "box_head_channels": 16,
            "box_head_width": 32,
        },
        "pretrain": {"steps": 4, "batch_size": 8, "lr": 0.05, "checkpoint_every": 2, "log_every": 2},
        "finetune": {
            "steps": 4,
            "batch_size": 2,
            "lr": 0.01,
            "milestones": [3],
            "warmup_steps": 2,
            "checkpoint_every": 2,
            "log_every": 2,
        },
        "evaluation": {
            "calibration_images": 8,
            "calibration_batch_size": 4,
            "batch_size": 6,
            "intermediate_results": 2,
        },
        "search": {
            "population": 4,
            "generations": 2,
            "parents": 2,
            "mutations": 1,
            "crossovers": 1,
            "tournament": 2,
        },
        "hardware": {"device": "cpu", "workers": 0, "threads": THREADS},
    }


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        if change is None:
            merged.pop(key, None)
        elif isinstance(change, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], change)
        else:
            merged[key] = change
    return merged
