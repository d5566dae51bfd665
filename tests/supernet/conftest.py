"""What several of this room's tests start from."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def pretrained(supernets: Path, tmp_path: Path) -> Path:
    """A run's folder with the classification supernet alone."""
    shutil.copytree(supernets / "pretrain", tmp_path / "run/pretrain")
    return tmp_path / "run"
