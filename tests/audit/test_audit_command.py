"""`detnas audit` from a search's journal to audit.json and the report, with real parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detnas_nni.audit.result import read_result
from detnas_nni.cli import main


@pytest.fixture
def detnas(write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """detnas(command, option, …, status=0): run on the small experiment; gives what is printed."""

    def call(command: str, *options: object, status: int = 0, **sections: Any) -> str:
        config = write_config(tmp_path / "a.yaml", **sections)
        capsys.readouterr()
        assert main([command, "-c", str(config), *map(str, options)]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return call


def test_every_part_is_tried_from_the_journal_to_the_report(
    detnas: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "run/fast-dev-run"
    rehearse = ("--fast-dev-run",)
    assert "/search/journal.jsonl: is not there" in detnas("audit", *rehearse, status=1)
    for step in ("pretrain", "finetune", "search"):
        detnas(step, *rehearse)
    printed = detnas("audit", *rehearse, "--jobs", 2, "--hours", 1)
    print(printed)
    result = read_result(folder / "audit/audit.json")
    assert result.complete
