"""Puts the foreign trunks of the tests on the path, as a user's PYTHONPATH would."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def foreign_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "search_spaces"))
    sys.modules.pop("foreign", None)
