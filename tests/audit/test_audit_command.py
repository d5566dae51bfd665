"""`detnas audit` from a search's journal to audit.json and the report, with real parts."""

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.audit.folder import AuditFolder, audit_identity
from detnas_nni.audit.journal import NetTraining
from detnas_nni.audit.plan import make_plan
from detnas_nni.audit.result import read_result
from detnas_nni.audit.running import folder_of
from detnas_nni.audit.session import with_a_start
from detnas_nni.cli import main
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.config.run_folder import audit_folder
from detnas_nni.errors import AuditError
from detnas_nni.training.weights import load_weights
from detnas_nni.util.lock import FolderLock
from tests.audit.test_audit_selection import EVENLY
from tests.report.journals import write_journal
from tests.varied import SEED

SHORT = {"finetune": {"steps": 1}, "retrain": {"init": "scratch"}}


@pytest.fixture
def detnas(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """detnas(command, option, …, status=0, config's sections): gives what is printed."""

    def call(command: str, *options: object, status: int = 0, **sections: Any) -> str:
        config = write_config(tmp_path / "a.yaml", **sections)
        capsys.readouterr()
        assert main([command, "-c", str(config), *map(str, options)]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return call


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Several seeds are in each quick run in parts: in the plan (test_audit_plan.py), in a training's own config
# (test_audit_running.py) and in the numbers (test_audit_figures.py).
@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_part_is_tried_from_the_journal_to_the_report(
    seeds: int, detnas: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "run/fast-dev-run"
    assert detnas("audit", "--fast-dev-run", status=1).endswith(
        "run `detnas search` first (with --fast-dev-run, as this one)\n"
    )
    for step in ("finetune", "search"):
        detnas(step, "--fast-dev-run", finetune={"init": "scratch"})
    options = ("--fast-dev-run", "--jobs", 2, "--seeds", seeds, "--hours", 1, "--init", "supernet")
    printed = detnas("audit", *options, finetune={"init": "scratch"})
    assert f"{3 * seeds} trainings of " in printed and "what 3 nets can show" in printed
    assert f"\n{folder}/audit/audit.json\n" in printed
    result = read_result(folder / "audit/audit.json")
    assert printed.rstrip().endswith(result.verdict.sentence)
    assert (result.complete, result.init, result.seeds, result.figures.n) == (
        True,
        "supernet",
        tuple(range(SEED, SEED + seeds)),
        3,
    )
    assert [sorted(net.aps) for net in result.nets] == [[str(seed) for seed in result.seeds]] * 3
    trained = lines_of(folder / "audit/nets.jsonl")
    assert len(trained) == 3 * seeds
    for line in trained:
        weights = load_weights(Path(line["weights"])).info
        assert (list(weights.ops), weights.seed, weights.steps) == (line["ops"], line["seed"], 2)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fast-dev-run"]
    page = Path(detnas("report", "--set", f"run_dir={folder}").strip())
    assert result.verdict.sentence in unescape(page.read_text())


# What is there already, and what is in the way.


@pytest.fixture
def claimed(
    write_config: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[Config, list[NetTraining]]]:
    """claimed(section={…}): a config whose search has three candidates, and an audit begun for it."""

    def claim(**sections: Any) -> tuple[Config, list[NetTraining]]:
        evaluations = write_journal(tmp_path / "run/search", 3)
        config = load_config(write_config(tmp_path / "a.yaml", **{**SHORT, **sections}))
        identity = audit_identity(config, [Architecture("tiny", evaluations[0].ops)])
        with AuditFolder(audit_folder(config), identity).claimed(fresh=False):
            return config, [NetTraining(evaluation.ops, 0) for evaluation in evaluations]

    return claim


@pytest.mark.slow
def test_a_net_that_fails_is_written_down_and_tried_again_and_what_is_finished_is_left(
    claimed: Callable[..., tuple[Config, list[NetTraining]]], detnas: Callable[..., str], tmp_path: Path
) -> None:
    config, (broken, *_) = claimed()
    audit = tmp_path / "run/audit"
    in_the_way = folder_of(config, broken, audit) / "retrain"
    in_the_way.parent.mkdir()
    in_the_way.write_text("no folder")
    options = ("--nets", 3, "--seeds", 1)
    printed = detnas("audit", *options, **SHORT)
    first = lines_of(audit / "nets.jsonl")
    (failed,) = (line for line in first if "error" in line)
    assert (len(first), tuple(failed["ops"])) == (3, broken.ops)
    assert "Not a directory" in failed["error"] and str(in_the_way) in failed["error"]
    assert f"failed: {failed['error']}" in printed
    result = read_result(audit / "audit.json")
    assert (result.complete, result.figures.n, result.figures.failed) == (True, 2, 1)
    assert result.verdict.sentence.startswith("Cannot tell how well the search ranks: 2 nets with a result")

    in_the_way.unlink()
    detnas("audit", *options, **SHORT)
    second = lines_of(audit / "nets.jsonl")
    assert second[:3] == first
    assert [tuple(line["ops"]) for line in second[3:]] == [broken.ops] and "metrics" in second[3]
    result = read_result(audit / "audit.json")
    assert (result.complete, result.figures.n, result.figures.failed) == (True, 3, 0)

    written = {path: path.stat().st_mtime_ns for path in audit.rglob("*.pt")}
    detnas("audit", *options, **SHORT)
    assert lines_of(audit / "nets.jsonl") == second
    assert {path: path.stat().st_mtime_ns for path in audit.rglob("*.pt")} == written


def test_if_every_training_fails_it_gives_up_with_what_the_last_one_said(
    claimed: Callable[..., Any], detnas: Callable[..., str], tmp_path: Path
) -> None:
    hopeless = {"finetune": {"steps": 3, "lr": 1e35, "warmup_steps": 0}, "retrain": {"init": "scratch"}}
    claimed(**hopeless)
    error = detnas("audit", "--jobs", 3, status=1, **hopeless)
    assert "run/audit: the first 3 trainings have all failed; the last says: the loss is not finite" in error
    assert len(lines_of(tmp_path / "run/audit/nets.jsonl")) == 3


@pytest.mark.parametrize(
    ("options", "sections", "status", "message"),
    [
        (["--nets", 1], {}, 2, "--nets 1: a rank correlation needs at least 3 nets"),
        (["--nets", 9], {}, 1, "--nets 9: the search has 3 candidates with a result; pass --nets 3, or let"),
        ([], {"data": {"detection": {"test": None}}}, 2, "neither `data.detection.test`"),
        (
            [],
            {"finetune": {"lr": 0.5}},
            1,
            "holds an audit with another config; continue with the old one, ",
        ),
        ([], {"seed": 5}, 1, "holds an audit with another config; "),
        (["--init", "supernet"], {}, 1, "run/finetune/supernet.pt: there is no supernet yet"),
        (["--init", "classification"], {"data": {"classification": None}}, 2, "no `data.classification`"),
        (["--set", "search.name=other"], {}, 1, "run/other/journal.jsonl: is not there, so there is nothing"),
        (["--set", "space.name=small"], {}, 1, "9 values; space 'small' has 20 blocks"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_a_line_before_anything_is_trained(
    options: list[object],
    sections: dict[str, Any],
    status: int,
    message: str,
    claimed: Callable[..., Any],
    detnas: Callable[..., str],
    tmp_path: Path,
) -> None:
    claimed()
    error = detnas("audit", *options, status=status, **{**SHORT, **sections})
    assert error.startswith("detnas: error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run/audit/nets.jsonl").exists()


def test_another_search_or_supernet_in_the_folder_is_refused_until_fresh_starts_over(
    claimed: Callable[..., tuple[Config, Any]], tmp_path: Path
) -> None:
    config, _ = claimed()
    identity = json.loads((tmp_path / "run/audit/identity.json").read_text())
    other = AuditFolder(audit_folder(config), {**identity, "search": "x", "supernet": "y"})
    message = r"run/audit: holds an audit with another search and another supernet; .*--fresh"
    with pytest.raises(AuditError, match=message), other.claimed(fresh=False):
        pass
    (tmp_path / "run/audit/nets.jsonl").write_text("")
    with other.claimed(fresh=True):
        assert not (tmp_path / "run/audit/nets.jsonl").exists()
    with other.claimed(fresh=False):
        pass


def test_two_audits_at_a_time_are_refused(
    claimed: Callable[..., tuple[Config, Any]], detnas: Callable[..., str], tmp_path: Path
) -> None:
    config, _ = claimed()
    lock = FolderLock(audit_folder(config))
    assert lock.acquire()
    assert "run/audit: another process audits here" in detnas("audit", status=1, **SHORT)
    lock.release()


def test_a_folder_that_is_no_audits_is_left_alone(detnas: Callable[..., str], tmp_path: Path) -> None:
    write_journal(tmp_path / "run/search", 3)
    thesis = tmp_path / "run/audit/thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    assert "run/audit: exists, but is not an audit's folder" in detnas("audit", "--fresh", status=1, **SHORT)
    assert thesis.read_text() == "mine"


def test_the_same_request_goes_on_with_the_same_plan_and_another_makes_a_new_one(
    claimed: Callable[..., tuple[Config, Any]], tmp_path: Path
) -> None:
    config, _ = claimed()
    folder = AuditFolder(audit_folder(config), json.loads((tmp_path / "run/audit/identity.json").read_text()))
    plan = make_plan(EVENLY, 5, 2, "spread", 0)
    asked = {"nets": 30, "seeds": 3, "hours": 2.0, "pick": "spread", "evaluations": 129}
    assert folder.planned(asked, EVENLY, 0) is None
    folder.save(asked, plan)
    assert folder.planned(asked, EVENLY, 0) == plan
    assert folder.planned({**asked, "hours": 3.0}, EVENLY, 0) is None
    assert folder.planned({**asked, "evaluations": 200}, EVENLY, 0) is None


def test_without_images_to_classify_the_nets_start_from_the_supernet(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    own_data = make_config(tmp_path / "run", data={"classification": None})
    assert with_a_start(own_data).retrain.init == "supernet"
    for config in (
        make_config(tmp_path / "run"),
        make_config(tmp_path / "run", data={"classification": None}, retrain={"init": "scratch"}),
    ):
        assert with_a_start(config) == config
