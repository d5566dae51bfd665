"""The trainings of an audit: their files, their processes, and how they end."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from detnas_nni.architecture import Architecture, read_document
from detnas_nni.audit.journal import NetTraining
from detnas_nni.audit.running import config_of, folder_of, write_files
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.config.run_folder import NET_ARCHITECTURE, NET_CONFIG, NET_LOG
from detnas_nni.util.processes import Process, descendants
from tests.processes import ended
from tests.report.journals import write_journal
from tests.trainings import checkpoints
from tests.varied import SEED

NET = NetTraining((0, 1, 2, 3, 0, 1, 2, 3, 0), SEED)


@pytest.mark.parametrize("changes", [{}, {"retrain": {"finetune": {"batch_size": 1, "lr": 1e-5}}}])
def test_a_training_reads_the_config_that_the_audit_has(
    changes: dict, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", **changes)
    own = config_of(config, NET, tmp_path / "run/audit", None)
    write_files(own, NET, {"default": 0.25})
    assert own.run_dir == folder_of(config, NET, tmp_path / "run/audit")
    assert own.run_dir.name.endswith(f"-seed{SEED}")
    assert load_config(own.run_dir / NET_CONFIG) == own
    assert Architecture.from_json(own.run_dir / NET_ARCHITECTURE).ops == NET.ops
    assert read_document(own.run_dir / NET_ARCHITECTURE)["metrics"] == {"default": 0.25}


def test_text_that_looks_like_a_number_stays_text(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """As a class named by a product code may."""
    config = make_config(tmp_path / "run")
    config = config.model_copy(update={"search": config.search.model_copy(update={"name": "1e5"})})
    own = config_of(config, NET, tmp_path / "audit", None)
    write_files(own, NET, {"default": 0.25})
    assert load_config(own.run_dir / NET_CONFIG).search.name == "1e5"


def test_it_differs_in_its_folders_and_its_seed_alone(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", retrain={"classifier_dir": "/shared"})
    own = config_of(config, NET, tmp_path / "audit", None)
    put_back = {"run_dir": config.run_dir, "pretrain_dir": None, "finetune_dir": None}
    assert own.model_copy(update=put_back) == config
    assert (own.pretrain_dir, own.finetune_dir) == (config.run_dir / "pretrain", config.run_dir / "finetune")
    other = config_of(config, NetTraining(NET.ops, SEED + 1), tmp_path / "audit", None)
    assert other.seed == SEED + 1 and other.run_dir != own.run_dir
    assert other.retrain.classifier_dir is None  # what is kept there was trained with the config's seed
    elsewhere = make_config(tmp_path / "run", finetune_dir="/supernet")
    assert config_of(elsewhere, NET, tmp_path / "audit", None).finetune_dir == Path("/supernet")


def test_threads_are_given_where_the_config_leaves_them_open(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    fixed, left_open = (make_config(tmp_path / "run", hardware={"threads": n}) for n in (1, None))
    assert config_of(fixed, NET, tmp_path, 4).hardware.threads == 1
    assert config_of(left_open, NET, tmp_path, 4).hardware.threads == 4


@pytest.fixture
def endless(
    write_config: Callable[..., Path], tmp_path: Path
) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """endless(): an audit of trainings without end, in a process of its own until the test has ended."""
    config = write_config(
        tmp_path / "a.yaml",
        retrain={"init": "scratch"},
        finetune={"steps": 1_000_000, "checkpoint_every": 5},
    )
    write_journal(tmp_path / "run/search", 5)
    command = [sys.executable, "-m", "detnas_nni.cli", "audit", "-c", str(config), "--nets", "3"]
    with ExitStack() as all_of_them:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        yield lambda: all_of_them.enter_context(ended(subprocess.Popen(command, text=True, **pipes)))


def test_ctrl_c_saves_what_runs_and_ends_it_and_the_next_call_goes_on_there(
    endless: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    audit = endless()
    folders = (tmp_path / "run/audit").glob
    wait_for(audit, lambda: any(map(checkpoints, folders("*/retrain/*/detector"))))
    below = descendants(Process.of(audit.pid))
    assert below
    audit.send_signal(signal.SIGINT)
    _, err = audit.communicate(timeout=600)
    assert (audit.returncode, err.splitlines()[-1]) == (
        130,
        "detnas: interrupted; run the same command again to resume",
    )
    assert not any(process.alive for process in below)
    (log,) = folders(f"*/{NET_LOG}")
    (saved,) = (line for line in log.read_text().splitlines() if "SIGTERM: saved at step" in line)
    step = int(saved.split("saved at step ")[1].split(";")[0])
    again = endless()
    wait_for(again, lambda: f"resuming at step {step} of 1000000" in log.read_text())
    below = descendants(Process.of(again.pid))
    again.kill()  # as the kernel does that lacks memory: its trainings are not left behind
    again.communicate()
    deadline = time.monotonic() + 600
    while any(process.alive for process in below):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for(process: subprocess.Popen[str], found: Callable[[], object], seconds: float = 900) -> object:
    """What is found, as soon as it is there, while the process lives."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value
