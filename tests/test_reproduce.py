"""`detnas reproduce`: a table of what the paper has and what came out here, and an experiment in one call."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from detnas_nni import cli
from detnas_nni.architecture import Architecture
from detnas_nni.config.fast_dev_run import fast_dev_run
from detnas_nni.config.reading import load_config
from detnas_nni.errors import ArchitectureError, ConfigError, UsageError
from detnas_nni.finished.results import final_results
from detnas_nni.reproduce import Experiment, StepError, experiments, format_table, reproduce

FOREIGN = Path(__file__).parent / "search_spaces"
"""Where a trunk of one's own lies, as the module `foreign`."""

ONE, OTHER, THIRD = ((0,) * 9, (1,) * 9, (2,) * 9)

Write = Callable[..., Path]


@pytest.fixture
def write_experiment(tmp_path: Path) -> Write:
    """write_experiment(name, reproduces={…}, …): experiments/NAME/detnas.yaml, and its path.

    Its data needs a variable that is not set.
    """

    def write(name: str, reproduces: dict[str, Any] | None, **values: Any) -> Path:
        images = {"images": "${DETNAS_TEST_UNSET}/images", "annotations": "${DETNAS_TEST_UNSET}/train.json"}
        content = {
            "run_dir": f"../../runs/{name}",
            "space": {"name": "tiny"},
            "data": {"detection": {"train": images}},
            **({} if reproduces is None else {"reproduces": reproduces}),
            **values,
        }
        file = tmp_path / "experiments" / name / "detnas.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(content))
        return file

    return write


def searched(**published: float) -> dict[str, Any]:
    return {"what": "a search", "steps": ["finetune", "search", "retrain"], "published": published}


def save_net(path: Path, ops: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Architecture("tiny", ops).save(path)


def save_result(
    run_dir: Path,
    folder: str,
    ops: tuple[int, ...],
    detection: float,
    top1: float | None = None,
    init: str = "classification",
    space: str = "tiny",
) -> Path:
    """What `detnas retrain` leaves behind, as far as the table reads it."""
    path = run_dir / "retrain" / folder / "results.json"
    path.parent.mkdir(parents=True)
    content = {
        "format": 1,
        "space": space,
        "ops": list(ops),
        "init": init,
        "seed": 0,
        "classification": None if top1 is None else {"default": top1},
        "detection": {"default": detection, "AP50": 0.9},
    }
    path.write_text(json.dumps(content))
    return path


def line(name: str, tmp_path: Path) -> list[str]:
    """The cells of an experiment in the table."""
    table = format_table(experiments(tmp_path / "experiments")).splitlines()
    [found] = [row for row in table if row.split("  ")[0] == name]
    starts = [table[0].index(column) for column in ("experiment", "what", "paper", "authors' code", "ours")]
    return [found[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]


def test_the_table_has_a_line_for_each_experiment_of_the_paper_by_name(
    write_experiment: Write, tmp_path: Path
) -> None:
    write_experiment("second", searched())
    write_experiment("first", searched(AP=36.4, AP_code=36.6, top1_error=26.2))
    write_experiment("of_my_own", None)
    assert [experiment.name for experiment in experiments(tmp_path / "experiments")] == ["first", "second"]
    assert line("first", tmp_path) == ["first", "a search", "AP 36.4, top-1 error 26.2", "AP 36.6", "-"]
    assert line("second", tmp_path) == ["second", "a search", "-", "-", "-"]


def test_a_result_stands_beside_the_published_numbers_in_percent(
    write_experiment: Write, tmp_path: Path
) -> None:
    write_experiment("one", searched(AP=36.4))
    run_dir = tmp_path / "runs/one"
    save_net(run_dir / "search/best_architecture.json", ONE)
    save_result(run_dir, "net", ONE, 0.3567, top1=0.7377)
    assert line("one", tmp_path)[-1] == "AP 35.7, top-1 error 26.2"


def test_a_result_of_a_trunk_of_ones_own_stands_in_the_table_as_in_the_report(
    write_experiment: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOREIGN)
    write_experiment("one", searched(AP=36.4), space={"name": "foreign:mobile"})
    run_dir = tmp_path / "runs/one"
    (run_dir / "search").mkdir(parents=True)
    Architecture("foreign:mobile", (0, 2)).save(run_dir / "search/best_architecture.json")
    save_result(run_dir, "net", (0, 2), 0.3567, space="foreign:mobile")
    assert line("one", tmp_path)[-1] == "AP 35.7"
    [found] = final_results(run_dir, "foreign:mobile")
    assert found.architecture == Architecture("foreign:mobile", (0, 2)) and found.detection == 0.3567


def test_a_result_of_a_trunk_that_the_config_does_not_name_is_refused(
    write_experiment: Write, tmp_path: Path
) -> None:
    """A file gets no code run."""
    write_experiment("one", searched(AP=36.4))
    save_result(tmp_path / "runs/one", "net", (0, 2), 0.3567, space="foreign:mobile")
    with pytest.raises(ArchitectureError, match="'foreign:mobile', which names code"):
        format_table(experiments(tmp_path / "experiments"))


def test_an_experiment_on_voc_has_its_own_metric(write_experiment: Write, tmp_path: Path) -> None:
    write_experiment("one", searched(VOC_mAP=81.5), evaluation={"metric": "voc07"})
    save_net(tmp_path / "runs/one/search/best_architecture.json", ONE)
    save_result(tmp_path / "runs/one", "net", ONE, 0.802)
    assert line("one", tmp_path)[2:] == ["VOC mAP 81.5", "-", "VOC mAP 80.2"]


def test_of_random_nets_the_table_has_mean_and_spread(write_experiment: Write, tmp_path: Path) -> None:
    write_experiment("random", {"what": "random", "steps": ["sample", "retrain"], "samples": 3})
    run_dir = tmp_path / "runs/random"
    for number, (ops, ap) in enumerate(((ONE, 0.30), (OTHER, 0.32), (THIRD, 0.34))):
        save_net(run_dir / f"samples/random_{number:02d}.json", ops)
        save_result(run_dir, f"net{number}", ops, ap, top1=0.5)
    assert line("random", tmp_path)[-1] == "AP 32.0 ± 2.0, top-1 error 50.0 ± 0.0 (3 nets)"


def test_a_net_that_started_otherwise_than_the_papers_stands_apart(
    write_experiment: Write, tmp_path: Path
) -> None:
    write_experiment("one", searched(AP=36.4))
    run_dir = tmp_path / "runs/one"
    save_net(run_dir / "search/best_architecture.json", ONE)
    save_result(run_dir, "net-scratch", ONE, 0.2, init="scratch")
    assert line("one", tmp_path)[-1] == "AP 20.0 (init scratch)"
    save_result(run_dir, "net", ONE, 0.35, top1=0.7)
    assert line("one", tmp_path)[-1] == "AP 35.0, top-1 error 30.0; AP 20.0 (init scratch)"


def test_a_net_that_is_not_the_experiments_is_left_out_and_counted(
    write_experiment: Write, tmp_path: Path
) -> None:
    """Such as the published net, or another arm's winner, retrained in the same folder."""
    write_experiment("one", searched(AP=36.4))
    run_dir = tmp_path / "runs/one"
    save_net(run_dir / "search/best_architecture.json", ONE)
    save_result(run_dir, "net", ONE, 0.35)
    save_result(run_dir, "other", OTHER, 0.36)
    assert line("one", tmp_path)[-1] == "AP 35.0"
    assert "one: results of other nets left out: 1" in format_table(experiments(tmp_path / "experiments"))


def test_an_undefined_metric_is_no_number(write_experiment: Write, tmp_path: Path) -> None:
    write_experiment("one", searched(AP=36.4))
    save_net(tmp_path / "runs/one/search/best_architecture.json", ONE)
    save_result(tmp_path / "runs/one", "net", ONE, -1.0, top1=0.75)
    assert line("one", tmp_path)[-1] == "top-1 error 25.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "key 'format' is 2, expected 1"),
        ({"detection": None}, "key 'detection.default' is None, expected a number from 0 to 1"),
        ({"detection": {"default": 35.7}}, "key 'detection.default' is 35.7, expected a number from 0 to 1"),
        ({"classification": {"default": "x"}}, "key 'classification.default' is 'x'"),
        ({"ops": [0]}, "ops"),
    ],
)
def test_a_damaged_result_is_refused_by_name(
    write_experiment: Write, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write_experiment("one", searched(AP=36.4))
    path = save_result(tmp_path / "runs/one", "net", ONE, 0.3)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArchitectureError) as raised:
        format_table(experiments(tmp_path / "experiments"))
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_the_table_needs_no_data_but_sound_files(write_experiment: Write, tmp_path: Path) -> None:
    write_experiment("one", searched() | {"samples": 3})
    with pytest.raises(ConfigError, match=r"one/detnas\.yaml: reproduces: samples is the number for"):
        experiments(tmp_path / "experiments")


def test_a_folder_without_experiments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no NAME/detnas\.yaml; name the folder of experiments"):
        experiments(tmp_path)


def test_the_command_prints_the_table(
    write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_experiment("one", searched(AP=36.4))
    assert cli.main(["reproduce", "--list", "--experiments", str(tmp_path / "experiments")]) == 0
    assert "AP 36.4" in capsys.readouterr().out


def test_a_rehearsal_has_the_folders_of_fast_dev_run(make_config: Callable[..., Any], tmp_path: Path) -> None:
    section = {"what": "x", "steps": ["search", "sample", "retrain"], "samples": 5}
    config = make_config(tmp_path / "run", reproduces=section, search={"name": "arm"})
    rehearsal = Experiment.of(tmp_path / "detnas.yaml", config).rehearsal()
    assert rehearsal.run_dir == fast_dev_run(config, on_gpu=False).run_dir
    assert rehearsal.search_dir == fast_dev_run(config, on_gpu=False).search_dir
    # Two random nets show what five would.
    assert [path.name for path in rehearsal.architectures()] == [
        "best_architecture.json",
        "random_00.json",
        "random_01.json",
    ]


def test_an_experiment_without_steps_of_the_paper_is_not_run(write_config: Write, tmp_path: Path) -> None:
    path = write_config(tmp_path / "mine/detnas.yaml")
    with pytest.raises(ConfigError, match="has no `reproduces`, which names the steps to run"):
        reproduce(path.parent)


def test_a_net_of_another_experiment_is_missed_before_anything_runs(
    write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    maker = {"what": "makes it", "steps": ["finetune", "search"]}
    write_config(tmp_path / "experiments/maker/detnas.yaml", run_dir="../../runs/maker", reproduces=maker)
    best = tmp_path / "runs/maker/search/best_architecture.json"
    taker = {"what": "takes it", "steps": ["retrain"], "architectures": [str(best)]}
    file = write_config(tmp_path / "experiments/taker/detnas.yaml", reproduces=taker)
    with pytest.raises(UsageError) as raised:
        reproduce(file.parent)
    assert f"{best} does not exist; `detnas reproduce experiments/maker` finds one" in str(raised.value)
    with pytest.raises(UsageError, match="`detnas reproduce experiments/maker --fast-dev-run` finds one"):
        reproduce(file.parent, fast_dev_run=True)
    write_config(file, reproduces=taker | {"architectures": ["gone.json"]})
    with pytest.raises(UsageError, match=r"gone\.json does not exist; correct the path"):
        reproduce(file.parent)


def test_a_rehearsal_takes_the_net_that_the_other_rehearsal_has_found(
    write_config: Write, tmp_path: Path
) -> None:
    best, rehearsed = (
        tmp_path / f"runs/maker/{part}/best_architecture.json" for part in ("search", "fast-dev-run/search")
    )
    taker = {"what": "takes it", "steps": ["retrain"], "architectures": [str(best)]}
    file = write_config(tmp_path / "detnas.yaml", reproduces=taker)

    def taken() -> list[Path]:
        return Experiment.of(file, load_config(file)).rehearsal().architectures()

    assert taken() == [best]
    save_net(rehearsed, ONE)
    assert taken() == [rehearsed]
    save_net(best, OTHER)
    assert taken() == [best]


OVERRIDES = ["retrain.init=scratch", "search.name=mine"]


@pytest.fixture(scope="module")
def reproduced(write_config: Write, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a small experiment that was run from its first step to its last, and what it printed."""
    folder = tmp_path_factory.mktemp("reproduced") / "small"
    write_config(
        folder / "detnas.yaml",
        reproduces={"what": "a small one", "steps": ["finetune", "search", "retrain"]},
        finetune={"init": "scratch"},
        search={"population": 2, "generations": 1, "parents": 1, "mutations": 0, "crossovers": 0},
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:  # its own words: the steps' go to a descriptor
        reproduce(folder, overrides=OVERRIDES)
    return folder, printed.getvalue()


def commands_of(folder: Path) -> list[str]:
    file = folder / "detnas.yaml"
    overrides = " ".join(f"--set={override}" for override in OVERRIDES)
    best = folder / "run/mine/best_architecture.json"
    return [
        f"$ detnas finetune -c {file} {overrides}",
        f"$ detnas search -c {file} {overrides}",
        f"$ detnas retrain -c {file} {overrides} --arch {best}",
    ]


def test_an_experiment_runs_from_its_first_step_to_its_last(reproduced: tuple[Path, str]) -> None:
    folder, printed = reproduced
    best = Architecture.from_json(folder / "run/mine/best_architecture.json")
    [results] = folder.glob("run/retrain/*/results.json")
    content = json.loads(results.read_text())
    assert content["ops"] == list(best.ops)
    assert content["init"] == "scratch"
    assert not (folder / "run/pretrain").exists()
    config = load_config(folder / "detnas.yaml", ["search.name=mine"])
    table = format_table([Experiment.of(folder / "detnas.yaml", config)])
    assert f"AP {100 * content['detection']['default']:.1f} (init scratch)" in table
    assert [row for row in printed.splitlines() if row.startswith("$ detnas ")] == commands_of(folder)


@pytest.mark.slow
def test_called_again_it_says_each_command_and_trains_nothing_anew(
    reproduced: tuple[Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """That each step leaves what is finished is in test_runs.py, test_session.py and test_retrain.py, too."""
    folder, _ = reproduced
    nets = [folder / "run/finetune/supernet.pt", *folder.glob("run/retrain/*/detector/net.pt")]
    before = [net.stat().st_mtime_ns for net in nets]
    assert len(nets) == 2
    reproduce(folder / "detnas.yaml", overrides=OVERRIDES)
    assert [net.stat().st_mtime_ns for net in nets] == before
    printed = capfd.readouterr().out.splitlines()
    assert [row for row in printed if row.startswith("$ detnas ")] == commands_of(folder)


@pytest.mark.slow
def test_a_rehearsal_of_the_random_nets_runs(write_config: Write, tmp_path: Path) -> None:
    section = {"what": "random", "steps": ["sample", "retrain"], "samples": 5}
    file = write_config(tmp_path / "detnas.yaml", reproduces=section)
    reproduce(file, overrides=["retrain.init=scratch"], fast_dev_run=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fast-dev-run"]
    assert len(list((tmp_path / "run/fast-dev-run").glob("retrain/*/results.json"))) == 2


def test_it_stops_at_the_step_that_fails_with_its_status(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    section = {"what": "x", "steps": ["finetune", "search", "retrain"]}
    file = write_config(tmp_path / "detnas.yaml", reproduces=section)  # without the step `pretrain`
    with pytest.raises(StepError, match="the step `finetune` ended with status 1; fix what it reports above"):
        reproduce(file)
    printed = capfd.readouterr()
    assert printed.out.count("$ detnas ") == 1
    assert "run/pretrain/supernet.pt" in printed.err
    assert StepError("search", file, 2).exit_status == 2
    assert StepError("search", file, -9).exit_status == 137
