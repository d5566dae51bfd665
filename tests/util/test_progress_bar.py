"""How far it is: a bar with rate and time left on a terminal, plain lines elsewhere and under NNI."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.search.session import search_in_process
from detnas_nni.supernet import steps
from detnas_nni.util import progress as progress_bar
from detnas_nni.util.progress import Forecast, ProgressBar, duration, watched
from tests.terminal import ROOT, lines_on_screen, on_a_terminal

Write = Callable[..., Path]

DETNAS = ("-m", "detnas_nni.cli")
BAR = r"{what} +(\d+)% \|.*\| {done}/{total}  ([\d.]+ {unit}s/s|[\d.]+ s/{unit})  [\d:]+ left"

# What NNI sets in a trial, and in the process of a tuner.
TRIAL = {
    "NNI_TRIAL_JOB_ID": "x",
    "NNI_PLATFORM": "local",
    "NNI_EXP_ID": "y",
    "NNI_TRIAL_SEQ_ID": "0",
    "NNI_SYS_DIR": "{folder}",
    "NNI_OUTPUT_DIR": "{folder}",
}
TUNER = {"NNI_TUNER_COMMAND_CHANNEL": "ws://x"}

# Most of a short training's time is its process's start, so that one process runs several.
ONE_AFTER_THE_OTHER = """
import json, os, sys
from detnas_nni.cli import main
before = dict(os.environ)
for name, (arguments, variables) in json.loads(sys.argv[1]).items():
    os.environ.update(variables)
    status = main(arguments)
    os.environ.clear()
    os.environ.update(before)
    print(f"== end of {name}: {status} ==", file=sys.stderr, flush=True)
"""


class Call(tuple[list[str], dict[str, str]]):
    """Call("pretrain", …, TERM="dumb"): a command's arguments, and variables that are set meanwhile."""

    def __new__(cls, *arguments: str, **variables: str) -> Call:
        return super().__new__(cls, (list(arguments), variables))


def run_dir(folder: Path) -> tuple[str, str]:
    return "--set", f"run_dir={folder}"


def by_call(written: str) -> dict[str, str]:
    """What each call of ONE_AFTER_THE_OTHER has written, all of which have to end well."""
    pieces = re.split(r"== end of (.*): (\w+) ==\n", written)
    assert pieces[-1] == "" and set(pieces[2::3]) == {"0"}, written
    return dict(zip(pieces[1::3], pieces[::3], strict=False))


def bar(what: str, done: object, total: int, unit: str) -> str:
    return BAR.format(what=what, done=done, total=total, unit=unit)


@pytest.fixture(scope="module")
def config(write_config: Write, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings of some steps; each call gives its own run folder."""
    return write_config(
        tmp_path_factory.mktemp("progress") / "a.yaml",
        pretrain={"steps": 30, "log_every": 10, "checkpoint_every": 100},
        finetune={"steps": 12, "log_every": 4, "checkpoint_every": 100, "init": "scratch"},
    )


@pytest.fixture(scope="module")
def on_screen(
    config: Path, write_config: Write, supernets: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What commands write on a terminal, by their name in `calls`: one after the other in one process."""
    folder = tmp_path_factory.mktemp("terminal")
    search = {}
    for name in ("search", "search goes on"):
        shutil.copytree(supernets, folder / name / "run")
        search[name] = str(write_config(folder / name / "a.yaml"))
    search_in_process(load_config(Path(search["search goes on"]), ["search.generations=1"]))
    calls: dict[str, Call] = {
        **{step: Call(step, "-c", str(config), *run_dir(folder / step)) for step in ("pretrain", "finetune")},
        **{name: Call("search", "-c", file) for name, file in search.items()},
        "dumb": Call("pretrain", "-c", str(config), *run_dir(folder / "dumb"), TERM="dumb"),
        "tuner": Call("pretrain", "-c", str(config), *run_dir(folder / "tuner"), **TUNER),
    }
    status, written = on_a_terminal("-c", ONE_AFTER_THE_OTHER, json.dumps(calls))
    assert status == 0, written
    return by_call(written)


def test_a_process_shows_what_each_of_its_commands_shows(on_screen: dict[str, str]) -> None:
    assert list(on_screen) == ["pretrain", "finetune", "search", "search goes on", "dumb", "tuner"]


@pytest.mark.parametrize(("step", "steps"), [("pretrain", 30), ("finetune", 12)])
def test_a_training_on_a_terminal_has_a_bar_with_rate_and_time_left(
    step: str, steps: int, on_screen: dict[str, str]
) -> None:
    written = on_screen[step]
    assert re.search(bar(step, rf"(?!{steps}/)\d+", steps, "step"), written)
    screen = lines_on_screen(written)
    last = [line for line in screen if re.search(bar(step, steps, steps, "step"), line)]
    assert len(last) == 1 and re.search(r"loss=\d+\.\d+, lr=", last[0])
    # Log lines stand whole, above and below it.
    logged = [line for line in screen if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert re.search(rf"  {step}: the weights are in /.*/{step}/{step}/supernet\.pt$", logged[-1])
    assert not any("|" in line for line in logged)
    assert "steps/s  " not in "".join(logged)  # the bar says it


def test_a_search_on_a_terminal_has_a_bar_with_the_best_below_the_candidates(
    on_screen: dict[str, str],
) -> None:
    written = on_screen["search"]
    assert re.search(bar("search", r"[1-7]", 8, "candidate") + r", best=0\.\d{4}", written)
    assert re.search(r"\rdecoding +0% \|.*\| 0/12  ", written)
    screen = lines_on_screen(written)
    assert sum(bool(re.search(r"^\d\d:\d\d:\d\d  [0-3,]+  fitness 0\.\d{4}", line)) for line in screen) == 8
    assert sum("|" in line for line in screen) == 1  # the search's; those of its parts are gone
    assert any(re.search(bar("search", 8, 8, "candidate"), line) for line in screen)


def test_a_search_that_goes_on_counts_what_is_done(on_screen: dict[str, str]) -> None:
    counts = [int(count) for count in re.findall(r"\rsearch .*?\| (\d)/8  ", on_screen["search goes on"])]
    assert counts[0] == 4 and counts == sorted(counts) and counts[-1] == 8


def test_drawing_images_has_a_bar(tmp_path: Path) -> None:
    numbers = {
        "classification_train": 200,
        "classification_val": 50,
        "detection_train": 20,
        "detection_search": 10,
        "detection_test": 5,
    }
    program = (
        "from detnas_nni.data.shapes import generate_shapes; from pathlib import Path; "
        f"generate_shapes(Path({str(tmp_path / 'set')!r}), **{numbers})"
    )
    _, written = on_a_terminal("-c", program)
    assert re.search(bar("drawing", r"\d+", sum(numbers.values()), "image"), written)


def test_a_pipe_gets_plain_lines_alone(config: Path, tmp_path: Path) -> None:
    steps = ("pretrain", "finetune")
    calls = {step: Call(step, "-c", str(config), *run_dir(tmp_path / step)) for step in steps}
    command = [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps(calls)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert b"\r" not in ended.stdout + ended.stderr and b"\x1b" not in ended.stdout + ended.stderr
    found = by_call(ended.stderr.decode())
    for step in steps:
        lines = [line for line in found[step].splitlines() if "  step " in line]
        assert len(lines) == 3
        assert all(re.search(r"steps/s  \d+:\d\d left", line) for line in lines)


def has_plain_lines_alone(written: str) -> bool:
    lines = re.findall(r"  step \d+/30  .*steps/s  \d+:\d\d left", written)
    return "\r" not in written and "|" not in written and len(lines) == 3


def test_in_a_trial_there_are_plain_lines_even_on_a_terminal(config: Path, tmp_path: Path) -> None:
    variables = {name: value.format(folder=tmp_path) for name, value in TRIAL.items()}
    status, written = on_a_terminal(
        *DETNAS, "pretrain", "-c", config, *run_dir(tmp_path / "run"), **variables
    )
    assert status == 0, written
    assert has_plain_lines_alone(written)


def test_in_the_process_of_a_tuner_there_are_plain_lines_even_on_a_terminal(
    on_screen: dict[str, str],
) -> None:
    assert has_plain_lines_alone(on_screen["tuner"])


def test_a_terminal_that_cannot_redraw_gets_plain_lines(on_screen: dict[str, str]) -> None:
    assert has_plain_lines_alone(on_screen["dumb"])


def test_elsewhere_a_line_comes_every_so_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(monotonic=iter([0.0, 29.0, 30.0, 30.0, 30.0, 59.0]).__next__)
    monkeypatch.setattr(progress_bar, "time", clock)
    with caplog.at_level(logging.INFO), ProgressBar(5, "searching", "candidate", done=1) as progress:
        assert not progress.is_live
        progress.to(2, best="0.1")
        progress.to(3, best="0.2")
        progress.advance()
    [line] = caplog.messages
    assert line == "searching: 3/5 candidates  15.0 s/candidate  0:30 left  best 0.2"


def test_what_has_lines_of_its_own_logs_no_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_bar, "LINE_EVERY", 0.0)
    with caplog.at_level(logging.INFO), ProgressBar(5, "training", "step", lines=False) as progress:
        progress.advance()
    assert caplog.messages == []


def test_a_forecast_is_made_once_of_steps_behind_the_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(monotonic=iter([100.0, 102.0, 105.0, 109.0]).__next__)
    monkeypatch.setattr(progress_bar, "time", clock)
    forecast = Forecast(700, "pretrain", "step")
    with caplog.at_level(logging.INFO):
        for done in (201, 205, 211, 219):  # 201 is the first of a process that goes on from 200
            forecast.at(done)
    [line] = caplog.messages
    assert line == "pretrain: 4 min 4 s left on this machine, judging by its first steps (2.0 steps/s)"


def test_what_ends_at_once_has_no_forecast(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(monotonic=iter([0.0, 1.0, 9.0]).__next__)
    monkeypatch.setattr(progress_bar, "time", clock)
    forecast = Forecast(3, "pretrain", "step")
    with caplog.at_level(logging.INFO):
        for done in (1, 2, 3):
            forecast.at(done)
    assert caplog.messages == []


@pytest.mark.parametrize("step", ["pretrain", "finetune"])
def test_a_training_says_near_its_start_how_long_it_will_take(
    step: str,
    make_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(progress_bar, "FORECAST_AFTER", 0.0)
    with caplog.at_level(logging.INFO):
        getattr(steps, step)(make_config(tmp_path / "run", finetune={"init": "scratch"}))
    [line] = [line for line in caplog.messages if "left on this machine" in line]
    assert line.startswith(f"{step}: ")


def test_what_is_watched_comes_through_and_what_is_quick_has_no_bar() -> None:
    assert list(watched(iter("abc"), 3, "reading", "letter")) == ["a", "b", "c"]
    program = (
        "from detnas_nni.util.progress import watched; import time\n"
        "for seconds in (0, 0.5):\n"
        "    for _ in watched(range(5), 5, f'waiting {seconds}', 'turn', delay=1.0): time.sleep(seconds)"
    )
    _, written = on_a_terminal("-c", program)
    assert "waiting 0.5" in written and "waiting 0 " not in written
    assert lines_on_screen(written) == [""]


def test_a_bar_is_redrawn_a_few_times_a_second_and_costs_microseconds() -> None:
    program = (
        "from detnas_nni.util.progress import ProgressBar; import time\n"
        "bar, started = ProgressBar(10**9, 'counting', 'step'), time.perf_counter()\n"
        "cpu = time.process_time()\n"
        "while time.perf_counter() - started < 2: bar.advance()\n"
        "cpu, seconds = time.process_time() - cpu, time.perf_counter() - started; bar.close()\n"
        "print(f'\\n{1e6 * cpu / bar.done:.2f} us a step, {seconds:.2f} s')"
    )
    _, written = on_a_terminal("-c", program)
    took = re.search(r"([\d.]+) us a step, ([\d.]+) s", written)
    # One when it begins, one at its end, and between them one every quarter of a second at the most.
    assert 3 <= written.count("\r") <= 4 * float(took[2]) + 4
    # Of processor time. A step of the smallest supernet takes 50 ms; 3% of that are 1500.
    assert float(took[1]) < 100


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3723, "1:02:03")])
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_this_test_process_is_not_under_nni() -> None:
    """Or the tests above would test nothing."""
    assert not set(progress_bar._NNI) & set(os.environ)
