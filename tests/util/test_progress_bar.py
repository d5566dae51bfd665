"""How far it is: a bar with rate and time left on a terminal, plain lines elsewhere and under NNI."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from detnas_nni.config import Config
from detnas_nni.supernet import steps
from detnas_nni.util import progress as progress_bar
from detnas_nni.util.progress import Forecast, ProgressBar, duration, watched
from tests.terminal import ROOT, lines_on_screen, on_a_terminal

Write = Callable[..., Path]

DETNAS = ("-m", "detnas_nni.cli")
BAR = r"{what} +(\d+)% \|.*\| {done}/{total}  ([\d.]+ {unit}s/s|[\d.]+ s/{unit})  [\d:]+ left"

# What NNI sets in a trial, and in the process of a tuner.
UNDER_NNI = (
    {
        "NNI_TRIAL_JOB_ID": "x",
        "NNI_PLATFORM": "local",
        "NNI_EXP_ID": "y",
        "NNI_TRIAL_SEQ_ID": "0",
        "NNI_SYS_DIR": "{folder}",
        "NNI_OUTPUT_DIR": "{folder}",
    },
    {"NNI_TUNER_COMMAND_CHANNEL": "ws://x"},
)


def bar(what: str, done: object, total: int, unit: str) -> str:
    return BAR.format(what=what, done=done, total=total, unit=unit)


@pytest.fixture
def config(write_config: Write, tmp_path: Path) -> Path:
    return write_config(
        tmp_path / "a.yaml",
        pretrain={"steps": 30, "log_every": 10},
        finetune={"steps": 12, "log_every": 4, "init": "scratch"},
    )


@pytest.mark.parametrize(("step", "steps"), [("pretrain", 30), ("finetune", 12)])
def test_a_training_on_a_terminal_has_a_bar_with_rate_and_time_left(
    step: str, steps: int, config: Path
) -> None:
    status, written = on_a_terminal(*DETNAS, step, "-c", config)
    assert status == 0, written
    assert re.search(bar(step, rf"(?!{steps}/)\d+", steps, "step"), written)
    screen = lines_on_screen(written)
    last = [line for line in screen if re.search(bar(step, steps, steps, "step"), line)]
    assert len(last) == 1 and re.search(r"loss=\d+\.\d+, lr=", last[0])
    # Log lines stand whole, above and below it.
    logged = [line for line in screen if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert logged[-1].endswith(f"{step}: the weights are in {config.parent}/run/{step}/supernet.pt")
    assert not any("|" in line for line in logged)
    assert "steps/s  " not in "".join(logged)  # the bar says it


def test_a_search_on_a_terminal_has_a_bar_with_the_best_below_the_candidates(
    write_config: Write, trained_run: Path, tmp_path: Path
) -> None:
    status, written = on_a_terminal(*DETNAS, "search", "-c", write_config(tmp_path / "a.yaml"))
    assert status == 0, written
    assert re.search(bar("search", r"[1-7]", 8, "candidate") + r", best=0\.\d{4}", written)
    assert re.search(r"\rdecoding +0% \|.*\| 0/12  ", written)
    screen = lines_on_screen(written)
    assert sum(bool(re.search(r"^\d\d:\d\d:\d\d  [0-3,]+  fitness 0\.\d{4}", line)) for line in screen) == 8
    assert sum("|" in line for line in screen) == 1  # the search's; those of its parts are gone
    assert any(re.search(bar("search", 8, 8, "candidate"), line) for line in screen)


def test_a_search_that_goes_on_counts_what_is_done(
    write_config: Write, trained_run: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "a.yaml")
    first = subprocess.run(
        [sys.executable, *DETNAS, "search", "-c", config, "--set", "search.generations=1"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert first.returncode == 0, first.stderr
    _, written = on_a_terminal(*DETNAS, "search", "-c", config)
    counts = [int(count) for count in re.findall(r"\rsearch .*?\| (\d)/8  ", written)]
    assert counts[0] == 4 and counts == sorted(counts) and counts[-1] == 8


def test_drawing_images_has_a_bar(tmp_path: Path) -> None:
    program = (
        "from detnas_nni.data.shapes import generate_shapes; from pathlib import Path; "
        f"generate_shapes(Path({str(tmp_path / 'set')!r}), classification_train=200)"
    )
    _, written = on_a_terminal("-c", program)
    assert re.search(bar("drawing", r"\d+", 200 + 300 + 600 + 120 + 120, "image"), written)


@pytest.mark.parametrize("step", ["pretrain", "finetune"])
def test_a_pipe_gets_plain_lines_alone(step: str, config: Path) -> None:
    ended = subprocess.run(
        [sys.executable, *DETNAS, step, "-c", config], cwd=ROOT, capture_output=True, check=True
    )
    assert b"\r" not in ended.stdout + ended.stderr and b"\x1b" not in ended.stdout + ended.stderr
    lines = [line for line in ended.stderr.decode().splitlines() if "  step " in line]
    assert len(lines) == 3
    assert all(re.search(r"steps/s  \d+:\d\d left", line) for line in lines)


@pytest.mark.parametrize("variables", UNDER_NNI)
def test_under_nni_there_are_plain_lines_even_on_a_terminal(variables: dict[str, str], config: Path) -> None:
    environment = {name: value.format(folder=config.parent) for name, value in variables.items()}
    status, written = on_a_terminal(*DETNAS, "pretrain", "-c", config, **environment)
    assert status == 0, written
    assert "\r" not in written and "|" not in written
    assert len(re.findall(r"  step \d+/30  .*steps/s  \d+:\d\d left", written)) == 3


def test_a_terminal_that_cannot_redraw_gets_plain_lines(config: Path) -> None:
    _, written = on_a_terminal(*DETNAS, "pretrain", "-c", config, TERM="dumb")
    assert "\r" not in written and len(re.findall(r"  step \d+/30  ", written)) == 3


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
