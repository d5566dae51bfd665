"""`detnas` as a user meets it: help that fits, exit status 0, 1 or 2, one line where something is wrong."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit

import pytest
import torch

from detnas_nni import __version__
from detnas_nni.architecture import Architecture, read_document
from detnas_nni.cli import main, parser
from detnas_nni.cost.table import counts
from detnas_nni.training.runs import CheckpointFolder
from docs.generate import commands
from search_spaces import layout
from tests.test_reference import authors_state
from tests.trainings import checkpoints

REPOSITORY = Path(__file__).parents[2]
COMMANDS = ("data", *(words for words, _, _ in commands()))
FPN_300M = "2,1,2,0,2,1,1,2,3,3,1,3,0,0,3,1,3,1,3,2"
OPS = (0,) * len(layout("tiny"))
TINY = ",".join(map(str, OPS))

Write = Callable[..., Path]


@pytest.fixture
def failing(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """failing(status, argument, …): runs a command in this process; gives its one line on stderr."""

    def run(status: int, *arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == status
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("detnas: error: ")
        assert "Traceback" not in err + caplog.text
        return err.removeprefix("detnas: error: ").removesuffix("\n")

    return run


def detnas(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """The command as a process of its own, from another folder than the repository."""
    return subprocess.Popen(
        [sys.executable, "-m", "detnas_nni.cli", *map(str, arguments)],
        text=True,
        stderr=subprocess.PIPE,
        cwd="/",
        **{"stdout": subprocess.PIPE, **options},
    )


def help_of(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = help_of(command, capsys, monkeypatch).splitlines()
    assert len(lines) <= (36 if command == "" else 30)
    # An example stays on one line, to be copied.
    assert [line for line in lines if len(line) > 80 and not line.startswith("  detnas ")] == []


@pytest.mark.parametrize("command", ["", *(command for command in COMMANDS if command != "data")])
def test_help_ends_with_an_example_that_is_a_valid_call(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, heading, example = help_of(command, capsys, monkeypatch).splitlines()
    assert heading == "example:"
    program, *arguments = shlex.split(example)
    assert program == "detnas"
    assert arguments[: len(command.split())] == command.split()
    options = parser().parse_args(arguments)
    assert callable(options.action)
    if "config" in options:
        assert (REPOSITORY / options.config).is_file()


def test_the_first_help_names_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of("", capsys, monkeypatch)
    for command in COMMANDS:
        assert re.search(rf"^    {command.split()[0]}$|^    {command.split()[0]} +[a-z]", text, re.MULTILINE)


def test_help_does_not_wait_for_torch_or_nni() -> None:
    program = (
        "import sys, detnas_nni.cli\n"
        "try: detnas_nni.cli.main(['pretrain', '--help'])\n"
        "except SystemExit: assert not {'torch', 'nni'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/", stdout=subprocess.DEVNULL)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"detnas {__version__}\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("prtrain", "invalid choice: 'prtrain'"),
        ("pretrain", "the following arguments are required: -c/--config"),
        ("count --space tiny", "one of the arguments --ops --arch is required"),
        ("count --ops 1 --arch a.json", "not allowed with argument --ops"),
        ("count --space tiny --ops 1 --resolution 0", "'0' is not a whole number of 1 or more"),
        ("count --space tiny --ops 1 --resolution big", "'big' is not a whole number of 1 or more"),
        ("export -c a.yaml --rank 0", "'0' is not a whole number of 1 or more"),
        ("follow --every -1", "'-1' is not a number above 0"),
        ("follow --every nan", "'nan' is not a number above 0"),
        ("follow --port -1", "'-1' is not a port, a whole number from 1 to 65535"),
        ("quickstart --port 65536", "'65536' is not a port, a whole number from 1 to 65535"),
        ("data shapes --out x --seed -1", "'-1' is not a whole number of 0 or more"),
        ("data shapes", "the following arguments are required: --out"),
        ("sample -c a.yaml", "the following arguments are required: --count"),
        ("sample -c a.yaml --count 0", "'0' is not a whole number of 1 or more"),
        ("retrain -c a.yaml", "one of the arguments --arch --front is required"),
        (
            "retrain -c a.yaml --arch a.json --init gone",
            "'gone' is neither classification, supernet, imagenet nor",
        ),
        ("import-reference a.pth", "the following arguments are required: --out"),
        ("import-reference a.pth --out a.pt --shuffle odd", "invalid choice: 'odd'"),
        ("evaluate -c a.yaml --ops 1 --split train", "invalid choice: 'train'"),
        ("export -c a.yaml --weights a.pt --format tflite", "invalid choice: 'tflite'"),
        ("predict --weights a.pt", "the following arguments are required: IMAGE"),
        ("predict --weights a.pt a.jpg --score 2", "'2' is not a number from 0 to 1"),
    ],
)
def test_a_wrong_call_ends_with_2_and_the_usage(
    call: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(call.split())
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: detnas")
    assert message in err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (f"count --ops {TINY}", "--ops needs --space"),
        ("count --space small --ops 1,2", "--ops 1,2: .*2 values; space 'small' has 20 blocks"),
        ("count --space small --ops 1,x", "--ops 1,x: .*'x' is not a number"),
        (f"count --space tiny --ops {TINY[:-1]}9", r"--ops .*is 9, expected 0 to 3"),
        (
            "count --space small --arch {arch}",
            "json: an architecture of the space tiny, but --space is small",
        ),
        ("latency --space tiny --set hardware.threads=7", "--set changes a config, so it needs -c"),
        ("doctor --set search.populatoin=3", "--set changes a config, so it needs -c"),
        ("doctor --strict", "--strict changes a config, so it needs -c"),
        (f"count --space huge --ops {TINY}", "unknown search space 'huge'; known: tiny, small"),
        (f"count --space nowhere:trunk --ops {TINY}", "cannot import 'nowhere'"),
        ("pretrain -c gone.yaml", r"gone\.yaml: cannot be read \(No such file"),
        ("pretrain -c {config} --set pretrain.lr=-1", r"a\.yaml: pretrain\.lr: .*greater than 0, got -1"),
        ("pretrain -c {config} --set pretrain.lr", "'pretrain.lr': expected section.key=value"),
        ("pretrain -c {config} --set space.name=huge", "unknown search space 'huge'"),
        ("finetune -c {config} --set data.detection=null", "no `data.detection`"),
        ("evaluate -c {config} --ops 1,2", "--ops 1,2: .*2 values; space 'tiny'"),
        ("evaluate -c {config}", "weights of a supernet need --arch or --ops"),
        ("search -c {config} --set space.name=resnet50", "resnet50, a fixed net, .* nothing to search"),
        ("retrain -c {config} --arch a.json --set data.detection=null", "no `data.detection`"),
    ],
)
def test_a_wrong_option_or_config_ends_with_2_and_one_message(
    call: str, message: str, failing: Callable[..., str], write_config: Write, tmp_path: Path
) -> None:
    config, arch = write_config(tmp_path / "a.yaml"), tmp_path / "tiny.json"
    Architecture("tiny", (0,) * 9).save(arch)
    line = failing(2, *call.format(config=config, arch=arch).split())
    assert "\n" not in line
    assert re.search(message, line)


def test_an_architecture_of_another_space_ends_with_2(
    failing: Callable[..., str], write_config: Write, tmp_path: Path
) -> None:
    config, arch = write_config(tmp_path / "a.yaml"), tmp_path / "best.json"
    Architecture("small", (0,) * 20).save(arch)
    line = failing(2, "evaluate", "-c", config, "--arch", arch)
    assert line == f"{arch}: an architecture of the space small, but {config} has tiny"


def test_what_fails_ends_with_1_and_one_message(
    failing: Callable[..., str], write_config: Write, tmp_path: Path, supernets: Path
) -> None:
    """One of each kind of error: data, architecture, checkpoint, constraint, evaluation, file system."""
    config = write_config(tmp_path / "a.yaml")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    assert f"{tmp_path / 'full'}: exists and is not a set" in failing(
        1, "data", "shapes", "--out", tmp_path / "full"
    )
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json: is not JSON" in failing(1, "count", "--arch", tmp_path / "bad.json")
    missing = "run/finetune/supernet.pt: there "
    assert f"{missing}are no weights" in failing(1, "evaluate", "-c", config, "--ops", TINY)
    assert f"{missing}is no supernet yet" in failing(1, "search", "-c", config)
    limit = ("--set", "search.constraint.max_macs=1", "--set", f"run_dir={supernets}")
    assert "MACs <= 1: the lowest MACs are" in failing(1, "search", "-c", config, *limit)
    assert "loss is not finite at step" in failing(1, "pretrain", "-c", config, "--set", "pretrain.lr=1e35")
    in_a_file = f"run_dir={tmp_path / 'full/thesis.txt'}"
    assert "thesis.txt" in failing(1, "pretrain", "-c", config, "--set", in_a_file)


def test_a_search_that_has_not_begun_cannot_be_exported(
    failing: Callable[..., str], write_config: Write, tmp_path: Path
) -> None:
    line = failing(1, "export", "-c", write_config(tmp_path / "a.yaml"))
    assert line.startswith(f"{tmp_path}/run/search/journal.jsonl: 0 finished evaluations")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step", ["pretrain", "finetune"])
def test_a_step_prints_its_checkpoint_and_takes_overrides(
    step: str, write_config: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "a.yaml", finetune={"init": "scratch"})
    overrides = ["--set", f"{step}.steps=1", "--set", "run_dir=elsewhere"]
    assert main([step, "-c", str(config), *overrides]) == 0
    checkpoint = tmp_path / "elsewhere" / step / "supernet.pt"
    assert capsys.readouterr().out == f"{checkpoint}\n"
    assert checkpoint.is_file()


def test_fresh_trains_anew_where_another_config_has_trained(
    failing: Callable[..., str], write_config: Write, trained_run: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "a.yaml", pretrain={"steps": 2})
    assert "of another config" in failing(1, "pretrain", "-c", config)
    assert main(["pretrain", "-c", str(config), "--fresh"]) == 0


@pytest.mark.parametrize("resolution", [224, 128])
def test_count_prints_four_numbers(resolution: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--space", "small", "--ops", FPN_300M, "--resolution", str(resolution)]) == 0
    printed = json.loads(capsys.readouterr().out)
    ops = tuple(map(int, FPN_300M.split(",")))
    assert printed == counts(Architecture("small", ops), resolution)
    assert list(printed) == ["backbone_macs", "classifier_macs", "backbone_params", "classifier_params"]


def test_count_takes_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    published = REPOSITORY / "search_spaces/published/detnas-coco-fpn-300m.json"
    assert main(["count", "--arch", str(published)]) == 0
    assert json.loads(capsys.readouterr().out)["backbone_macs"] == 288_082_368


def test_an_evaluation_prints_one_json_object(
    write_config: Write, supernets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path / "a.yaml", run_dir=str(supernets)))
    arch = tmp_path / "arch.json"
    Architecture("tiny", OPS).save(arch)
    printed = []
    for options in (["--ops", TINY], ["--arch", str(arch)]):
        assert main(["evaluate", "-c", config, *options]) == 0
        printed.append(json.loads(capsys.readouterr().out))
        del printed[-1]["seconds"]
    assert printed[0] == printed[1]
    assert {"default", "AP50", "MACs_M", "params_M"} <= set(printed[0])


def test_a_search_ends_with_its_best_and_another_can_be_exported(
    write_config: Write, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path / "a.yaml", search={"strategy": "random"}))
    small = ["--set", "search.population=3", "--set", "search.generations=1", "--set", "search.tournament=1"]
    small += ["--set", "search.mutations=0", "--set", "search.crossovers=0"]
    assert main(["search", "-c", config, *small]) == 0
    best = trained_run / "search/best_architecture.json"
    assert capsys.readouterr().out.startswith(f"{best}\n  ops     ")
    second = tmp_path / "second.json"
    assert main(["export", "-c", config, *small, "--rank", "2", "--out", str(second)]) == 0
    first, other = read_document(best), read_document(second)
    assert first["ops"] != other["ops"]
    assert first["metrics"]["default"] >= other["metrics"]["default"]
    assert main(["count", "--arch", str(second)]) == 0


def test_random_architectures_are_drawn_and_printed(
    write_config: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "-c", str(write_config(tmp_path / "a.yaml")), "--count", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"{tmp_path}/run/samples/random_0{number}.json" for number in range(2)]
    assert main(["count", "--arch", printed[1]]) == 0


def test_final_nets_are_trained_and_summed_up(
    write_config: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path / "a.yaml", finetune={"steps": 1}))
    archs = [tmp_path / f"{op}.json" for op in range(2)]
    for op, arch in enumerate(archs):
        Architecture("tiny", (op,) * len(OPS)).save(arch)
    assert main(["retrain", "-c", config, "--init", "scratch", "--arch", *map(str, archs)]) == 0
    *nets, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2 nets: mean 0\.\d{4}, standard deviation .*", last)
    for results, score, op in zip(nets[::2], nets[1::2], range(2), strict=True):
        assert Architecture.from_json(results).ops == (op,) * len(OPS)
        assert re.fullmatch(r"  AP on the test split 0\.\d{4}", score)


def test_init_goes_before_what_the_config_says_of_the_start(
    write_config: Write, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch, weights = tmp_path / "net.json", trained_run / "pretrain/supernet.pt"
    Architecture("tiny", OPS).save(arch)
    starts = {"supernet": "scratch", "classification": "supernet", "scratch": str(weights)}
    for configured, given in starts.items():
        retraining = {"init": configured}
        if configured == "classification":
            retraining["weights"] = str(weights)
        config = str(write_config(tmp_path / "a.yaml", finetune={"steps": 1}, retrain=retraining))
        assert main(["retrain", "-c", config, "--arch", str(arch), "--init", given]) == 0
        results = json.loads(Path(capsys.readouterr().out.splitlines()[0]).read_text())
        assert results["init"] == ("file" if given == str(weights) else given)


@pytest.mark.parametrize(
    ("ops", "options", "net", "space"),
    [
        (None, [], "supernet", {"name": "tiny", "options": {}}),
        (OPS, [], f"net {TINY}", {"name": "tiny", "options": {"shuffle": "even_odd"}}),
        (None, ["--ops", TINY], f"net {TINY}", {"name": "tiny", "options": {}}),
        (OPS, ["--shuffle", "interleave", "--space", "tiny"], f"net {TINY}", {"name": "tiny", "options": {}}),
    ],
)
def test_an_import_says_what_it_is_and_what_the_config_needs(
    ops: tuple[int, ...] | None,
    options: list[str],
    net: str,
    space: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "released.pth", tmp_path / "imported.pt"
    torch.save(authors_state("tiny", ops), file)
    assert main(["import-reference", str(file), "--out", str(out), *options]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: a {net} of the space tiny; the config needs `space: ")
    assert json.loads(printed[printed.index("{") : printed.rindex("}") + 1]) == space


def test_an_import_that_fails_ends_with_1_and_names_the_file(
    failing: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "out.pt"
    line = failing(1, "import-reference", tmp_path / "gone.pth", "--out", out)
    assert line.startswith(f"{tmp_path}/gone.pth: there is no such file")
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "other.pth")
    assert "other.pth: " in failing(1, "import-reference", tmp_path / "other.pth", "--out", out)
    assert not out.exists()


def test_bad_images_over_the_limit_end_a_training_without_a_traceback(
    write_config: Write, shapes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(shapes, tmp_path / "data")
    for image in (data / "detection/train").iterdir():
        image.write_bytes(image.read_bytes()[:300])
    config = write_config(
        tmp_path / "a.yaml",
        data_dir=data,
        data={"max_bad_images": 2},
        finetune={"init": "scratch"},
        hardware={"workers": 1},
    )
    assert main(["finetune", "-c", str(config)]) == 1
    out, err = capfd.readouterr()  # that of the loader's process, too
    assert out == ""
    assert "Traceback" not in err
    (line,) = (line for line in err.splitlines() if line.startswith("detnas: error: "))
    assert f"{data}/detection/train/" in line
    assert "3 bad image(s)" in line
    assert "2 allowed" in line
    assert "max_bad_images" in line


def test_ctrl_c_ends_a_training_with_130_and_says_how_to_go_on(write_config: Write, tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.yaml", pretrain={"steps": 100_000, "checkpoint_every": 1})
    process = detnas("pretrain", "-c", config)
    while not checkpoints(tmp_path / "run/pretrain"):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "detnas: interrupted; run the same command again to resume"
    assert "Traceback" not in err


def test_a_full_disk_ends_a_training_with_one_line_and_its_checkpoints_stay_whole(
    write_config: Write, tmp_path: Path, cut_at: Callable[..., AbstractContextManager[None]]
) -> None:
    config = write_config(tmp_path / "a.yaml", pretrain={"steps": 100_000, "checkpoint_every": 1})
    with cut_at(2):
        main(["pretrain", "-c", str(config)])
    before = checkpoints(tmp_path / "run/pretrain")
    room = before[-1].stat().st_size - 1000  # for any file, as if the disk had no more
    process = detnas("pretrain", "-c", config, preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (room, room)))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert re.fullmatch(
        r"detnas: error: \[Errno 27\] File too large: '.*/run/pretrain/checkpoints/unnamed\.ckpt'; "
        "make room, then run the same command again: it resumes",
        err.splitlines()[-1],
    )
    assert checkpoints(tmp_path / "run/pretrain") == before
    assert CheckpointFolder(tmp_path / "run/pretrain/checkpoints").newest() == before[0]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_leaves_early_is_no_error(unbuffered: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    process = detnas("count", "--space", "tiny", "--ops", TINY, stdout=write_end, env=environment)
    os.close(write_end)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0
