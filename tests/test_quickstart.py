"""What `make quickstart` promises, by the command that it calls."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.search.journal import Journal


@pytest.mark.slow  # it trains two supernets and evaluates 32 candidates
def test_the_quickstart_ends_with_the_best_architecture_of_its_search(tmp_path: Path) -> None:
    # Called in an empty folder, as by someone who has installed the package and has no checkout.
    env = {**os.environ, "HOME": str(tmp_path / "home")}  # NNI keeps its experiments there
    command = [sys.executable, "-m", "detnas_nni.cli", "quickstart"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr

    folder = tmp_path / "runs/quickstart/search"
    journal = Journal(folder / "journal.jsonl")
    assert len(journal) == 32
    assert len({evaluation.ops for evaluation in journal.evaluations}) == 32
    assert [evaluation.error for evaluation in journal.evaluations] == [None] * 32
    best = json.loads((folder / "best_architecture.json").read_text())
    assert best["metrics"] == journal.best()[0].metrics
    architecture = Architecture.from_json(folder / "best_architecture.json")
    assert f"ops     {architecture}" in done.stdout
    assert "web UI at http://127.0.0.1:" in done.stdout
