"""The package from its wheel, for someone without a checkout: an empty environment, an empty folder."""

import os
import re
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import detnas_nni

ROOT = Path(__file__).parents[1]

CONFIG = "experiments/mine/detnas.yaml"

# What makes every step of a plan short.
SHORT = {
    "detector": {"min_size": 64, "max_size": 96, "fpn_channels": 16, "box_head_channels": 16},
    "pretrain": {"steps": 4, "warmup_steps": 2},
    "finetune": {"steps": 4, "warmup_steps": 2, "milestones": [3]},
    "evaluation": {"calibration_images": 16},
    "search": {"population": 4, "generations": 2, "parents": 2, "mutations": 1, "crossovers": 1},
}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built from a copy, which leaves no `build` in the checkout."""
    source, out = tmp_path_factory.mktemp("source") / "detnas", tmp_path_factory.mktemp("dist")
    unbuilt = shutil.ignore_patterns(".git", ".venv", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unbuilt)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    return out


@pytest.fixture(scope="module")
def environment(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a new virtual environment that has the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", folder / "venv")
    pins = (
        folder / "constraints.txt"
    )  # any other pair that the package accepts is as good, but not this test's
    pins.write_text("".join(f"{name}=={metadata.version(name)}\n" for name in ("torch", "torchvision")))
    [wheel] = distributions.glob("*.whl")
    commands = folder / "venv/bin"
    call(commands / "pip", "install", "--quiet", "-c", pins, wheel)
    return commands


def call(*command: object, cwd: Path | None = None, home: Path | None = None) -> str:
    """Run a command without what leads to this checkout; gives what it prints."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = os.pathsep.join([str(Path(str(command[0])).parent), env["PATH"]])
    env |= {"PATH": path} | ({} if home is None else {"HOME": str(home)})
    words = list(map(str, command))
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow  # it builds twice: the sdist, and of that the wheel
def test_wheel_and_sdist_are_as_a_registry_wants_them_and_carry_the_experiments(distributions: Path) -> None:
    wheel, sdist = sorted(distributions.iterdir(), key=lambda file: file.suffix, reverse=True)
    assert (wheel.suffix, sdist.suffix) == (".whl", ".gz")
    said = call(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    assert said.count("PASSED") == 2
    names = call(sys.executable, "-m", "zipfile", "-l", wheel)
    experiments = {file.parent.name for file in (ROOT / "experiments").glob("*/detnas.yaml")}
    assert experiments == set(
        re.findall(r"^detnas_nni/experiments/([^/]+)/detnas\.yaml ", names, re.MULTILINE)
    )
    assert "detnas_nni/experiments/coco_fpn_300m/slurm/common.sh" in names


@pytest.mark.slow  # it installs torch, some 6 GB, and runs a whole pipeline
def test_a_wheel_is_all_that_a_whole_pipeline_needs(environment: Path, shapes: Path, tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()

    def run(*command: object) -> str:
        program, *arguments = command
        return call(environment / str(program), *arguments, cwd=here, home=home)

    assert run("detnas", "--version") == f"detnas {detnas_nni.__version__}\n"
    assert "coco_fpn_300m" in run("detnas", "reproduce", "--list")

    shutil.copytree(shapes / "detection", here / "data")
    splits = ("--coco", "data/train", "data/train.json", "--test", "data/test", "data/test.json")
    run("detnas", "init", *splits, "--no-timing", "--name", "mine", "--pretrain", "crops")
    config = here / CONFIG
    values = yaml.safe_load(config.read_text())
    for section, changes in SHORT.items():
        values[section] |= changes
    config.write_text(yaml.safe_dump(values))
    plan = re.findall(r"^\| \d+ \| `(.+?)` \|", (here / "experiments/mine/PLAN.md").read_text(), re.MULTILINE)
    assert [command.split()[1] for command in plan] == ["data", "pretrain", "finetune", "search", "retrain"]
    for command in plan:
        run(*command.split())
    best = "runs/mine/search/best_architecture.json"
    searched = (here / best).read_bytes()

    # The other door, in a folder of its own: the same search once more.
    shutil.move(here / "runs/mine/search", here / "runs/mine/by-hand")
    run("detnas", "doctor", "--close-nni")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    run("nnictl", "create", "--config", "experiments/mine/search.yaml", "--port", port)
    run("detnas", "follow", "--port", port, "--stop")
    assert yaml.safe_load((here / best).read_bytes())["ops"] == yaml.safe_load(searched)["ops"]

    assert Path(here, run("detnas", "report", "-c", CONFIG).strip()).is_file()
    [net] = (here / "runs/mine/retrain").glob("*/detector/net.pt")
    run("detnas", "export", "-c", CONFIG, "--weights", net, "--format", "torch")
    run("detnas", "predict", "-c", CONFIG, "--weights", net, "data/test", "--out", "seen")
    assert len(list((here / "seen").glob("*.png"))) == 12
