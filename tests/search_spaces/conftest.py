"""Puts the foreign trunks of the tests on the path, as a user's PYTHONPATH would."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def foreign_trunks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    # Each test sees a module of its own, whatever another one left behind.
    for name in ("foreign", "ordinary"):
        sys.modules.pop(name, None)
