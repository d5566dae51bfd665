"""`--fast-dev-run`: whether a step will start, tried in seconds, with nothing of the real run touched."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cli import main
from detnas_nni.config import Config
from detnas_nni.config.fast_dev_run import fast_dev_run
from detnas_nni.data.splits import open_classification, open_detection
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.training.weights import load_weights

NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))

# Of a real experiment, whose steps no test could wait for.
LONG = {
    "pretrain": {"steps": 1_000_000, "batch_size": 40},
    "finetune": {"steps": 1_000_000, "batch_size": 16},
    "evaluation": {"calibration_images": 20_000, "batch_size": 64},
    "search": {"population": 50, "generations": 20, "parents": 10, "mutations": 20, "crossovers": 20},
}


@pytest.fixture
def arch(tmp_path: Path) -> Path:
    NET.save(tmp_path / "net.json")
    return tmp_path / "net.json"


@pytest.fixture
def detnas(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """detnas(step, option, …, status=0, config's sections): a fast dev run; gives what is printed."""

    def call(step: str, *options: object, status: int = 0, **sections: Any) -> str:
        config = write_config(tmp_path / "a.yaml", **{**LONG, **sections})
        capsys.readouterr()
        assert main([step, "-c", str(config), "--fast-dev-run", *map(str, options)]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_step_is_tried_and_tried_again(detnas: Callable[..., str], arch: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run/fast-dev-run"
    for _ in range(2):
        for step in ("pretrain", "finetune"):
            assert detnas(step) == f"{folder}/{step}/supernet.pt\n"
            assert load_weights(folder / step / "supernet.pt").info.steps == 2
        assert detnas("search").startswith(f"{folder}/search/best_architecture.json\n")
        assert len(Journal(journal_path(folder / "search"))) == 4
        drawn = detnas("sample", "--count", "2").splitlines()
        assert drawn == [f"{folder}/samples/random_0{number}.json" for number in range(2)]
        results = Path(detnas("retrain", "--arch", drawn[0]).splitlines()[0])
        assert results.parts[:-2] == (folder / "retrain").parts
        for part in ("classifier", "detector"):
            assert load_weights(results.parent / part / "net.pt").info.steps == 2
        assert "default" in json.loads(detnas("evaluate", "--arch", arch))
        net = ("--weights", results.parent / "detector/net.pt", "--split", "test")
        assert "default" in json.loads(detnas("evaluate", *net))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fast-dev-run"]


def test_a_real_run_is_left_as_it_is(detnas: Callable[..., str], trained_run: Path, tmp_path: Path) -> None:
    best, shared = trained_run / "search/best_architecture.json", tmp_path / "shared"
    NET.save(best)
    before = files(trained_run)
    elsewhere = {
        "pretrain_dir": str(trained_run / "pretrain"),
        "finetune_dir": str(trained_run / "finetune"),
        "retrain": {"classifier_dir": str(shared)},
    }
    for step in ("pretrain", "finetune", "search"):
        detnas(step, **elsewhere)
    detnas("sample", "--count", 1, **elsewhere)
    detnas("retrain", "--arch", best, **elsewhere)
    after = files(trained_run)
    assert {name: after[name] for name in after if not name.startswith("fast-dev-run/")} == before
    assert not shared.exists()


@pytest.mark.parametrize("init", ["supernet", "scratch"])
def test_the_other_starts_of_a_final_net_are_tried_too(
    init: str, detnas: Callable[..., str], arch: Path, tmp_path: Path
) -> None:
    if init == "supernet":
        detnas("finetune", finetune={"init": "scratch"})
    results = Path(detnas("retrain", "--arch", arch, "--init", init).splitlines()[0])
    assert json.loads(results.read_text())["init"] == init
    assert results.is_relative_to(tmp_path / "run/fast-dev-run")


def test_weights_that_the_config_names_are_taken_up(
    detnas: Callable[..., str], supernets: Path, tmp_path: Path
) -> None:
    weights = str(supernets / "pretrain/supernet.pt")
    assert detnas("finetune", finetune={**LONG["finetune"], "weights": weights})
    assert not (tmp_path / "run/fast-dev-run/pretrain").exists()


# What is cut down, and what is not.


def test_trainings_are_two_steps_on_few_images_of_every_split(make_config: Callable[..., Config]) -> None:
    retraining = {"pretrain": {"steps": 9, "batch_size": 40, "lr": 0.1}, "finetune": None}
    config = make_config(Path("/nowhere"), **LONG, retrain=retraining)
    fast = fast_dev_run(config, on_gpu=False)
    for training in (fast.pretrain, fast.finetune, fast.retrain.pretrain):
        assert (training.steps, training.batch_size) == (2, 2)
    assert fast.retrain.pretrain.lr == 0.1
    assert fast.retrain.finetune is None
    for kind, open_splits in (("classification", open_classification), ("detection", open_detection)):
        splits = open_splits(getattr(fast.data, kind), fast.seed, fast.data.max_images)
        assert all(len(split) == 8 for split in (splits.train, splits.search, splits.test))


def test_nets_and_images_keep_their_size(make_config: Callable[..., Config]) -> None:
    config = make_config(Path("/nowhere"), **LONG)
    fast = fast_dev_run(config, on_gpu=False)
    assert (fast.space, fast.detector, fast.hardware) == (config.space, config.detector, config.hardware)
    assert fast.data.classification == config.data.classification
    assert fast.data.detection == config.data.detection
    assert fast.search.constraint == config.search.constraint


def test_a_small_config_grows_in_nothing(make_config: Callable[..., Config]) -> None:
    config = make_config(Path("/nowhere"), finetune={"batch_size": 1}, search={"mutations": 0})
    fast = fast_dev_run(config, on_gpu=False)
    assert fast.finetune.batch_size == 1
    assert fast.search.mutations == 0
    assert fast.evaluation.finetune_iterations == 0


@pytest.mark.parametrize("strategy", ["random", "regularized_evolution"])
def test_every_strategy_can_be_tried(strategy: str, detnas: Callable[..., str], tmp_path: Path) -> None:
    detnas("finetune", finetune={"init": "scratch"})
    detnas("search", search={"strategy": strategy, "constraint": {"max_macs": 21_000_000}})
    assert len(Journal(journal_path(tmp_path / "run/fast-dev-run/search"))) == 4


# Whether it will start: what is wrong comes out as in the real run.


@pytest.mark.parametrize(
    ("step", "sections", "status", "message"),
    [
        ("pretrain", {"data": {"classification": {"holdout": 10_000}}}, 1, "holdout: 10000 images"),
        ("pretrain", {"data": {"classification": {"train": "/gone"}}}, 1, "/gone: the folder cannot be read"),
        ("pretrain", {"data": {"classification": None}}, 2, "no `data.classification`"),
        ("pretrain", {"pretrain": {"lr": -1}}, 2, "pretrain.lr: "),
        ("pretrain", {"pretrain": {"lr": 1e35}}, 1, "the loss is not finite at step 1"),
        ("finetune", {"data": {"detection": {"search": None, "holdout": 24}}}, 1, "24 images to hold out"),
        ("finetune", {"data": {"detection": {"test": {"images": "/gone"}}}}, 1, "/gone"),
        ("sample", {"search": {"constraint": {"max_macs": 1}}}, 1, "the lowest MACs are"),
        ("retrain", {"data": {"detection": {"test": None}}}, 2, "neither `data.detection.test`"),
    ],
)
def test_an_error_of_the_config_or_the_data_comes_out(
    step: str,
    sections: dict[str, Any],
    status: int,
    message: str,
    detnas: Callable[..., str],
    arch: Path,
    tmp_path: Path,
) -> None:
    options = {"sample": ("--count", 1), "retrain": ("--arch", arch)}.get(step, ())
    assert message in detnas(step, *options, status=status, **sections)
    assert not list((tmp_path / "run").rglob("*.pt"))


def test_a_batch_that_the_devices_cannot_share_is_left_to_be_refused(
    make_config: Callable[..., Config],
) -> None:
    for given, cut_down in ((9, 6), (10, 10)):
        config = make_config(Path("/nowhere"), pretrain={"batch_size": given}, hardware={"devices": 3})
        assert fast_dev_run(config, on_gpu=False).pretrain.batch_size == cut_down


@pytest.mark.parametrize(
    ("step", "missing"), [("finetune", "pretrain"), ("search", "finetune"), ("evaluate", "finetune")]
)
def test_a_step_before_its_turn_says_that_the_earlier_one_takes_the_option_too(
    step: str, missing: str, detnas: Callable[..., str], arch: Path, tmp_path: Path
) -> None:
    line = detnas(step, *(["--arch", arch] if step == "evaluate" else []), status=1)
    assert line.startswith(f"detnas: error: {tmp_path}/run/fast-dev-run/{missing}/supernet.pt: there ")
    assert line.endswith(" first (with --fast-dev-run, as this one)\n")


def test_an_error_about_other_weights_is_told_as_it_is(
    detnas: Callable[..., str], arch: Path, supernets: Path
) -> None:
    line = detnas("evaluate", "--arch", arch, "--weights", supernets / "pretrain/supernet.pt", status=1)
    assert "kind is 'classifier'" in line and "--fast-dev-run" not in line
