"""A study that takes seconds: every kind of run, of the small experiment that all tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

SMALL = {
    "supernets": [0, 1],
    "nets": 2,
    "repeats": {"nets": 1, "seeds": [1]},
    "noise": {"nets": 1, "resamples": 3},
    "searches": {"strategies": ["detnas", "random"], "seeds": [0]},
    "classification_searches": [0],
    "winners": {"strategies": ["detnas"], "seeds": [0]},
    "protocols": {
        "not-calibrated": {"statistics": "supernet"},
        "reset-alone": {"statistics": "reset"},
        "top-1": {"set": ["evaluation.task=classification"]},
    },
    "supernet_variants": {"half": ["finetune.steps=2", "finetune.milestones=[1]"]},
}


@pytest.fixture
def write_study(write_config: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """write_study(order, …): a study's YAML of the one part `small`, with the keys that are given."""

    def write(*order: str, **part: Any) -> Path:
        config = write_config(tmp_path / "study/small.yaml", run_dir=str(tmp_path / "run"))
        values = {
            "lines": str(tmp_path / "lines"),
            "parts": {"small": {"config": str(config), **SMALL, **part}},
            "order": [f"small.{step}" for step in order],
        }
        path = tmp_path / "study/study.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return path

    return write
