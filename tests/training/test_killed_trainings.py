"""Trainings killed at random instants, ten times each, end with the weights of one that nobody disturbed.

Run with `-s` to see the table of kills.
"""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config.reading import load_config
from detnas_nni.util.processes import Process, descendants, wait
from tests.trainings import checkpoints

pytestmark = pytest.mark.slow

KILLS = 10
STEPS = 600
"""of a training; a few milliseconds each, against seconds of a process's start"""

NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))

SETTINGS = {"steps": STEPS, "checkpoint_every": 8, "keep_checkpoints": 3}
TRAININGS = {
    "pretrain": (("pretrain",), ("pretrain/supernet.pt",)),
    "finetune": (("finetune",), ("finetune/supernet.pt",)),
    "retrain": (
        ("retrain", "--arch", "net.json"),
        ("retrain/*/classifier/net.pt", "retrain/*/detector/net.pt"),
    ),
}


class Training:
    """`detnas COMMAND -c FILE`, in a process that is killed or comes to its end."""

    def __init__(self, config: Path, command: Sequence[str]) -> None:
        self._log = config.with_suffix(".log")
        arguments = [sys.executable, "-m", "detnas_nni.cli", *command, "-c", str(config)]
        self.began = time.monotonic()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=config.parent)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for_lines(self, count: int) -> None:
        """Until it has logged so often: imports and data lie behind it."""
        while self.runs and self.said.count(" steps/s") < count:
            time.sleep(0.01)

    def end(self) -> int:
        return self._process.wait(timeout=600)

    def send(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end, also of the loader processes; gives the exit status."""
        loaders = descendants(Process.of(self._process.pid))
        self._process.send_signal(number)
        status = self._process.wait(timeout=300)
        assert wait(loaders, 30) == []
        return status


@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_that_is_killed_ten_times_ends_with_the_same_weights_to_the_bit(
    training: str,
    tmp_path: Path,
    write_config: Callable[..., Path],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    command, results = TRAININGS[training]
    sections = {
        "pretrain": {**SETTINGS, "log_every": 4},
        "finetune": {**SETTINGS, "log_every": 4, "init": "scratch"},
        "hardware": {"workers": 1},
    }
    configs = {
        name: write_config(tmp_path / name / "detnas.yaml", **sections) for name in ("whole", "killed")
    }
    for config in configs.values():
        config.with_name("net.json").write_text(json.dumps(NET.to_dict()))

    undisturbed = Training(configs["whole"], command)
    assert undisturbed.end() == 0, undisturbed.said
    # At most so many log lines between two kills, or it would end before the last.
    lines = int(0.8 * undisturbed.said.count(" steps/s") / KILLS)

    run_dir = load_config(configs["killed"]).run_dir
    rng = random.Random(training)
    print(f"\n{training}: signal, seconds from start, newest checkpoint then, damaged, resumed at")
    for number in range(KILLS):
        disturbed = Training(configs["killed"], command)
        sent = signal.SIGTERM if number % 5 == 4 else signal.SIGKILL
        if number % 5 == 2:  # in its imports, or where it reads what it goes on from
            time.sleep(rng.uniform(0, 6))
        else:
            disturbed.wait_for_lines(1 + rng.randrange(lines))
            time.sleep(rng.uniform(0, 0.2))
        assert disturbed.runs, disturbed.said
        after = time.monotonic() - disturbed.began
        status = disturbed.send(sent)
        assert status in (-sent, 128 + sent), disturbed.said
        folders = [file for file in run_dir.rglob("checkpoints") if file.is_dir()]
        found = checkpoints(folders[0].parent) if folders else []
        saved = re.search(r"saved at step (\d+)", disturbed.said)
        if saved:
            assert found[0].name.startswith(f"step_{int(saved[1]):08}-")
        damaged = len(found) > 1 and rng.random() < 0.3
        if damaged:
            content = bytearray(found[0].read_bytes())
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            found[0].write_bytes(content)
        resumed = re.findall(r"resuming at step (\d+)", disturbed.said)
        newest = found[0].name[:13] if found else "none"
        print(
            f"  {sent.name:8} {after:5.1f} s  {newest:14}  {'damaged' if damaged else '':8} {resumed}",
            flush=True,
        )
    last = Training(configs["killed"], command)
    assert last.end() == 0, last.said
    for pattern in results:
        [expected] = load_config(configs["whole"]).run_dir.glob(pattern)
        [found] = run_dir.glob(pattern)
        assert differing(state_of(expected), state_of(found)) == []
    shutil.rmtree(tmp_path)
