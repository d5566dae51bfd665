"""Runs of a study: every kind leaves its line, nothing is done twice, and what is lost is made again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence.__main__ import main
from benchmarks.evidence.execute import artefact, execute
from benchmarks.evidence.lines import Line, Lines
from benchmarks.evidence.plan import Run, best_of, planned
from benchmarks.evidence.runner import Runner, find
from benchmarks.evidence.settings import Study, read_study
from detnas_nni.errors import ConfigError

pytestmark = pytest.mark.slow  # a whole study, if a small one

STEPS = [
    "supernet",
    "ranking",
    "searches",
    "winners",
    "classification",
    "protocols",
    "supernet_variants",
    "noise",
    "starts",
]
PART = {
    "searches": {"strategies": ["detnas", "random"], "seeds": [0]},
    "winners": {"strategies": ["detnas"], "seeds": [0]},
    "classification_searches": [0],
    "protocols": {
        "not-calibrated": {"statistics": "supernet"},
        "reset-alone": {"statistics": "reset"},
        "top-1": {"set": ["evaluation.task=classification"]},
    },
    "supernet_variants": {"half": ["finetune.steps=2", "finetune.milestones=[1]"]},
    "noise": {"nets": 1, "resamples": 3},
    "starts": {"names": ["pretrained", "scratch"], "seeds": [0]},
}

Found = dict[str, dict[str, Line]]


def missing(study: Study) -> list[Run]:
    found = Lines(study.lines).read_all()
    return [run for run in planned(study, found) if not run.is_done(found)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., Path]) -> Path:
    """A study that has been run to its end. Not to be written to."""
    file = write_study(tmp_path_factory.mktemp("study"), STEPS, **PART)
    study = read_study(file)
    while runs := missing(study):
        execute(study, runs[0])
    return file


@pytest.fixture(scope="module")
def found(finished: Path) -> Found:
    return Lines(read_study(finished).lines).read_all()


def test_a_net_is_measured_on_both_splits_with_its_cost(found: Found) -> None:
    for line in found["nets"].values():
        assert 0 <= line["test"]["AP"] <= 1 and 0 <= line["search"]["AP"] <= 1
        assert line["macs"] > 0 and line["params"] > 0 and line["cpu_seconds"] > 0


def test_a_line_says_what_it_came_from(found: Found) -> None:
    for kind in ("supernets", "nets", "searches", "noise"):
        for line in found[kind].values():
            assert line["versions"]["torch"] and line["commit"] and line["finished"].endswith("+00:00")
            assert "/" not in json.dumps(line["machine"])


def test_what_a_search_reports_is_what_the_lines_say_of_its_candidates(found: Found) -> None:
    for key, line in found["searches"].items():
        protocol = "search" if line["guide"] == "ap" else "top-1"
        assert len(line["candidates"]) == 8
        for ops, fitness in line["candidates"]:
            spelled = "".join(map(str, ops))
            assert found["fitness"][f"small/fitness/s0/{protocol}/{spelled}"]["fitness"] == fitness, key


def test_the_winner_is_trained_and_so_is_the_one_by_top_1(found: Found) -> None:
    for guide in ("ap", "top1"):
        winner = best_of(found["searches"][f"small/search/s0/{guide}/detnas/0"])
        assert f"small/net/{''.join(map(str, winner))}/pretrained/0" in found["nets"]


def test_protocols_measure_the_same_nets_by_other_statistics(found: Found) -> None:
    by_protocol: dict[str, dict[str, float]] = {}
    for key, line in found["fitness"].items():
        _, _, supernet, protocol, ops = key.split("/")
        by_protocol.setdefault(f"{supernet} {protocol}", {})[ops] = line["fitness"]
    nets = by_protocol["s0 not-calibrated"].keys()
    assert by_protocol["s0 reset-alone"].keys() == by_protocol["s0-half search"].keys() == nets
    values = {
        name: [by_protocol[name][ops] for ops in nets]
        for name in ("s0 search", "s0 not-calibrated", "s0 reset-alone", "s0-half search")
    }
    assert all(first != second for first in values for second in values if first is not second)


def test_the_noise_is_of_as_many_resamples_as_asked_for(found: Found) -> None:
    (line,) = found["noise"].values()
    assert len(line["resamples"]) == 3
    net = found["nets"][f"small/net/{''.join(map(str, line['ops']))}/scratch/0"]
    assert line["ap"] == pytest.approx(net["test"]["AP"], abs=1e-6)


def test_a_finished_study_has_nothing_left_to_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in read_study(finished).lines.iterdir()}
    assert Runner(finished).next() is None
    assert main(["run", "--study", str(finished)]) == 0
    assert capsys.readouterr().out == ""
    assert {path.name: path.read_bytes() for path in read_study(finished).lines.iterdir()} == before


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished study's folder, to write to."""
    shutil.copytree(finished.parent, tmp_path / "copy")
    file = tmp_path / "copy/study.yaml"
    for path in (file, tmp_path / "copy/small.yaml"):
        path.write_text(path.read_text().replace(str(finished.parent), str(tmp_path / "copy")))
    return file


def test_a_torn_line_is_run_again_from_the_weights_that_are_there(copied: Path) -> None:
    study = read_study(copied)
    path = Lines(study.lines).path("supernets")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    (run,) = missing(study)
    assert run.key == "small/finetune/s0-half"
    weights = artefact(study.parts["small"], run)
    before = weights.read_bytes()
    execute(study, run)
    assert missing(study) == [] and weights.read_bytes() == before
    again = Lines(study.lines).read("supernets")[run.key]
    assert again["steps"] == 2 and again["cpu_seconds"] is None  # it is not known what it took before


def test_weights_that_are_gone_are_made_again_only_where_a_missing_run_needs_them(copied: Path) -> None:
    study = read_study(copied)
    shutil.rmtree(study.parts["small"].load().run_dir)
    runner = Runner(copied)
    assert runner.next() is None
    nets = Lines(study.lines).path("nets")
    nets.write_bytes(nets.read_bytes().splitlines(keepends=True)[0])
    run = runner.next()
    assert run.key == "small/pretrain/s0"
    before = Lines(study.lines).path("supernets").read_bytes()
    execute(study, run)
    assert Lines(study.lines).path("supernets").read_bytes() == before
    assert runner.next().key.startswith("small/net/")


def test_lines_are_not_mixed_with_those_of_a_supernet_that_came_out_differently(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_study(copied)
    lines = Lines(study.lines)
    shutil.rmtree(study.parts["small"].load().run_dir / "supernets")
    first = next(iter(lines.read("nets")))
    lines.remove("nets", [first])
    supernets = lines.path("supernets")
    supernets.write_text(
        re.sub('"weights": "[0-9a-f]{16}"', '"weights": "of another machine"', supernets.read_text())
    )
    whole = lines.read_all()
    for _ in range(2):  # the weights that came out are not kept
        assert Runner(copied).run() == 1
        assert "small/pretrain/s0: its weights were gone" in capsys.readouterr().out
    assert lines.read_all() == whole
    runner = Runner(copied, anew=True, minutes=0.0)
    assert runner.run() == 0
    left = [key for of_kind in lines.read_all().values() for key in of_kind]
    # What owes nothing to a supernet: nets from random weights, and the noise, which is of such nets.
    assert left == [key for key in whole["nets"] if "/scratch/" in key] + list(whole["noise"])
    assert runner.next().key == "small/pretrain/s0"


def test_lines_of_another_config_are_refused(copied: Path) -> None:
    config = copied.with_name("small.yaml")
    config.write_text(config.read_text().replace("calibration_images: 8", "calibration_images: 4"))
    with pytest.raises(ConfigError, match=r"line 1 is of another config .* restore the config"):
        Runner(copied).run()


def test_an_order_without_what_its_runs_begin_with_is_refused_before_anything_starts(
    tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    file = write_study(tmp_path, ["repeats"], repeats={"nets": 1, "seeds": [1]})
    with pytest.raises(ConfigError, match=r"order: small/net/\d+/pretrained/1 needs small/pretrain/s0, of"):
        Runner(file).run()
    assert not (tmp_path / "docs/evidence/nets.jsonl").exists()


def test_an_order_is_refused_too_if_weights_that_are_gone_cannot_be_made_again(
    tmp_path: Path, write_study: Callable[..., Path], pen: Callable[[Path], Any]
) -> None:
    file = write_study(tmp_path, ["supernet_variants"], supernet_variants={"half": ["finetune.steps=2"]})
    pen(file).supernet("s0-half")
    with pytest.raises(ConfigError, match=r"small/finetune/s0-half needs small/pretrain/s0, of no step"):
        Runner(file).run()


def test_every_missing_run_is_done_in_a_process_of_its_own(
    tmp_path: Path, write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, ["supernet"])
    assert main(["run", "--jobs", "2", "--study", str(file)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "small/" in line]
    assert ["small/pretrain/s0" in said[0], "small/finetune/s0" in said[1], len(said)] == [True, True, 2]
    assert [run.key for run in missing(read_study(file))] == []


def test_a_run_that_fails_is_named_and_what_needs_it_is_not_begun(
    tmp_path: Path, write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, ["supernet"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/supernets").write_text("in the way")
    assert main(["run", "--study", str(file)]) == 1
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "small/" in line]
    assert "small/pretrain/s0" in said and "failed with 1, see" in said


def test_no_run_is_started_after_the_time_is_over(tmp_path: Path, write_study: Callable[..., Path]) -> None:
    file = write_study(tmp_path, ["supernet"])
    assert main(["run", "--minutes", "0", "--study", str(file)]) == 0
    assert len(missing(read_study(file))) == 2


def test_the_plan_lists_what_is_done_and_what_is_left(
    finished: Path, tmp_path: Path, write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--study", str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("done") for line in lines[:-1]) and lines[-1].startswith("0 minutes")
    assert main(["plan", "--study", str(write_study(tmp_path, ["supernet"]))]) == 0
    assert not any(line.startswith("done") for line in capsys.readouterr().out.splitlines())


def test_a_key_that_is_no_run_is_refused(finished: Path) -> None:
    with pytest.raises(ConfigError, match="small/net/9: no run of this study"):
        find(read_study(finished), "small/net/9")
