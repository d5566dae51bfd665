"""The experiments that come with the package, laid out in a folder without a checkout."""

import re
from pathlib import Path

import pytest

from detnas_nni.config.reading import load_config
from detnas_nni.config.shipped import lay_out, shipped_experiments

ROOT = Path(__file__).parents[2]


def test_in_a_checkout_they_are_its_own() -> None:
    assert shipped_experiments() == ROOT / "experiments"


def test_every_file_that_an_experiment_names_comes_along(tmp_path: Path) -> None:
    lay_out(tmp_path)
    files = {file.parent.name: file for file in (tmp_path / "experiments").glob("*/detnas.yaml")}
    assert {"quickstart", "coco_fpn_300m", "voc_retinanet_clsnas"} <= set(files)
    named = 0
    for file in (tmp_path / "experiments").rglob("*.yaml"):
        for path in re.findall(r"\.\./[\w./-]+\.(?:json|yaml)", file.read_text(encoding="utf-8")):
            if not re.search(r"runs/|docs/", path):  # results
                assert (file.parent / path).is_file(), f"{file}: {path}"
                named += 1
    assert named > 50


@pytest.mark.parametrize("name", ["coco_fpn_300m", "coco_fpn_3.8g", "voc_retinanet_clsnas"])
def test_an_experiment_reads_there_as_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("COCO", "VOC", "IMAGENET"):
        monkeypatch.setenv(variable, "/data")
    lay_out(tmp_path)
    there, here = (load_config(folder / "experiments" / name / "detnas.yaml") for folder in (tmp_path, ROOT))
    moved = there.model_dump_json().replace(str(tmp_path), str(ROOT))
    assert moved == here.model_dump_json()
    assert there.run_dir == tmp_path / "runs" / name


def test_one_alone_brings_nothing_but_its_search_space(tmp_path: Path) -> None:
    written = lay_out(tmp_path, "quickstart")
    assert {str(file.relative_to(tmp_path)) for file in written} == {
        "experiments/quickstart/detnas.yaml",
        "experiments/quickstart/search.yaml",
        "search_spaces/tiny.json",
    }
    assert written[-1].read_bytes() == (ROOT / written[-1].relative_to(tmp_path)).read_bytes()


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "experiments/quickstart/detnas.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert mine not in lay_out(tmp_path, "quickstart")
    assert mine.read_text() == "mine"
    assert lay_out(tmp_path, "quickstart") == []
