"""What the tests of the search share, beside the root's fixtures."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def quiet_nni() -> Iterator[None]:
    """NNI prints a traceback for every candidate that fails, and here some are meant to."""
    loggers = [logging.getLogger(name) for name in ("nni.nas.strategy", "nni.nas.execution")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def foreign_trunks(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts tests/search_spaces/foreign.py on the path, as a user's PYTHONPATH would; gives its folder."""
    folder = Path(__file__).parent.parent / "search_spaces"
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("foreign", None)
    return folder
