"""The study that is shipped: its files say what they are, and its plan has a run for every question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence.lines import KINDS
from benchmarks.evidence.plan import Choice, drawn, table
from benchmarks.evidence.settings import read_study
from detnas_nni.config.reading import load_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments/evidence"
NOTHING = {kind: {} for kind in KINDS}


def test_the_study_opens_with_its_commands_its_time_and_its_result() -> None:
    head = FOLDER.joinpath("study.yaml").read_text(encoding="utf-8").partition("\nlines:")[0]
    for said in ("python -m benchmarks.evidence run", "Expected: about", "docs/evidence.md"):
        assert said in head


@pytest.mark.parametrize("name", ["shapes", "bccd"])
def test_a_config_opens_with_its_command_and_keeps_to_a_folder_of_its_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETNAS_REAL_DATA", "/data/bccd")
    file = FOLDER / f"{name}.yaml"
    assert "python -m benchmarks.evidence run" in file.read_text(encoding="utf-8").partition("\nextends:")[0]
    config = load_config(file)
    assert config.run_dir == ROOT / "runs/evidence" / name
    assert config.hardware.threads == 1  # equal results, however many runs go on side by side


def test_the_plan_has_runs_for_every_question_and_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETNAS_REAL_DATA", raising=False)
    study = read_study(FOLDER / "study.yaml")
    for question in "abcdef":
        assert Choice(question).of(study, NOTHING)


def test_the_nets_are_as_many_as_the_question_asks_for_and_within_the_limit() -> None:
    study = read_study(FOLDER / "study.yaml")
    for name, least in (("shapes", 30), ("bccd", 16)):
        part = study.parts[name]
        macs = table(part).costs(np.array(drawn(part)))[:, 0]
        assert len(macs) >= least and macs.max() <= 24_000_000
        assert part.repeats.nets >= 8 and len(part.repeats.seeds) >= 2
