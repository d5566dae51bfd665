"""What `make quickstart` promises, by the script that it runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.search.journal import Journal

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # it trains two supernets and evaluates 32 candidates
def test_the_quickstart_ends_with_a_detector_that_detects(tmp_path):
    # The script works in the repository that it stands in; a copy leaves the user's own run alone.
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for file in ("search_spaces/tiny.json", "detnas_nni/search/nnictl/loopback.js"):
        (tmp_path / file).parent.mkdir(parents=True)
        shutil.copy(ROOT / file, tmp_path / file)
    env = {
        **os.environ,
        "HOME": str(tmp_path / "home"),  # NNI keeps its experiments there
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    script = tmp_path / "experiments/quickstart/run.sh"
    done = subprocess.run(["sh", script], env=env, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr

    folder = tmp_path / "runs/quickstart/search"
    journal = Journal(folder / "journal.jsonl")
    assert len(journal) == 32
    assert len({evaluation.ops for evaluation in journal.evaluations}) == 32
    assert [evaluation.error for evaluation in journal.evaluations] == [None] * 32
    best = json.loads((folder / "best_architecture.json").read_text())
    assert best["metrics"] == journal.best()[0].metrics
    assert best["metrics"]["default"] >= 0.25
    architecture = Architecture.from_json(folder / "best_architecture.json")
    assert f"ops     {architecture}" in done.stdout
    assert "web UI at http://127.0.0.1:" in done.stdout
