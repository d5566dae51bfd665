"""docs/notebook.ipynb runs from its first cell to a drawn prediction, and shows a reader what comes out."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs/notebook.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook: Any) -> Counter[str]:
    """How many outputs there are of each kind."""
    return Counter(
        kind
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.get("data", {output.output_type: None})
    )


def test_it_is_short_and_keeps_its_outputs_with_pictures_and_no_error() -> None:
    notebook = read()
    assert len(notebook.cells) < 20
    kinds = outputs(notebook)
    assert kinds["image/png"] == 3  # the search's progress, its architecture, a photo with boxes
    assert kinds["error"] == 0
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 1_000_000


def test_its_outputs_name_no_folder_of_the_machine_that_it_was_run_on() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert [folder for folder in ("/tmp/", "/home/", "/root/", "/work/") if folder in text] == []


@pytest.mark.slow  # every step once, each with the start of a process
def test_every_cell_runs_and_ends_with_pictures_and_an_exported_detector(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = read()
    [settings] = [cell for cell in notebook.cells if cell.source.startswith("%env DATA")]
    for line, instead in {
        "%env TIME=--hours 0.2": "%env TIME=--no-timing --pretrain crops",
        "%env FAST=": "%env FAST=--fast-dev-run",
    }.items():
        assert line in settings.source.splitlines()
        settings.source = settings.source.replace(line, instead)
    settings.source = settings.source.replace("shapes/", f"{shapes}/")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises what a cell raises
    assert outputs(notebook)["image/png"] == 3
    assert (tmp_path / "runs/mine/fast-dev-run/export/detector.pt").is_file()
