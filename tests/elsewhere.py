"""The tests as other machines would run them: `make test-elsewhere`, or `python -m tests.elsewhere [ARGS]`.

What a short training gives differs between processors in its last bits, and then in everything. A test whose
outcome hangs on that passes where it was written and fails elsewhere. So this runs all tests under other
kernels of torch and oneDNN (each level that the processor has), with one and with two threads, with other
seeds of the fixtures' trainings, and beside four processes that keep the machine busy; each value stands in
one setting at least. It prints a table and the tests that failed. Hours on two cores; `--only NAME` runs one
setting, and what follows is pytest's: `python -m tests.elsewhere --only busy tests/search -x`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

_BUSY = 4  # processes, for two cores
_LEVELS = ("DEFAULT", "AVX2", "AVX512")  # of torch's kernels on x86
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """One other machine: environment variables, and how many processes keep it busy."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    busy: int = 0

    def __str__(self) -> str:
        parts = [f"{key}={value}" for key, value in self.variables.items()]
        return " ".join([*parts, *([f"{self.busy} busy processes"] if self.busy else [])]) or "as it is"


@dataclass(frozen=True)
class Outcome:
    """What pytest said of a run."""

    passed: int
    failed: tuple[str, ...]
    skipped: int
    minutes: float


def settings() -> list[Setting]:
    """The settings that this processor can run. The levels are torch's and oneDNN's own names."""
    has = _LEVELS.index(torch.backends.cpu.get_cpu_capability())
    of_level = [
        Setting("plain", _numerics("default", "SSE41", threads=1, seed=101)),
        Setting("avx2", _numerics("avx2", "AVX2", threads=2, seed=102)),
        Setting("avx512", _numerics("avx512", "AVX512_CORE", threads=1, seed=103)),
    ]
    seeds = Setting("seeds", _numerics(None, None, threads=2, seed=104))
    return [Setting("native"), *of_level[: has + 1], seeds, Setting("busy", busy=_BUSY)]


def _numerics(aten: str | None, onednn: str | None, *, threads: int, seed: int) -> dict[str, str]:
    variables = {
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "OMP_NUM_THREADS": str(threads),
        # Workers with several threads share the cores: one that waits must not spin.
        "OMP_WAIT_POLICY": "passive",
        "DETNAS_TEST_THREADS": str(threads),
        "DETNAS_TEST_SEED": str(seed),
    }
    return {key: value for key, value in variables.items() if value is not None}


def run(setting: Setting, arguments: list[str]) -> Outcome:
    """All tests that are not slow, in another process, under a setting."""
    with tempfile.TemporaryDirectory() as folder, _busy(setting.busy):
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "not slow", f"--junit-xml={report}", *arguments]
        began = time.monotonic()
        subprocess.run(command, cwd=_ROOT, env={**os.environ, **setting.variables}, check=False)
        minutes = (time.monotonic() - began) / 60
        return _read(report, minutes)


def _read(report: Path, minutes: float) -> Outcome:
    cases = list(ET.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    names = tuple(f"{case.get('classname')}::{case.get('name')}" for case in failed)
    return Outcome(len(cases) - len(failed) - len(skipped), names, len(skipped), minutes)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def main() -> int:
    known = {setting.name: setting for setting in settings()}
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", choices=known, action="append", metavar="NAME", help=", ".join(known))
    options, arguments = parser.parse_known_args()
    outcomes = {}
    for name in options.only or known:
        print(f"== {name}: {known[name]}", flush=True)
        outcomes[name] = run(known[name], arguments)
    print(f"\n{'setting':<8} {'passed':>6} {'failed':>6} {'skipped':>7} {'minutes':>7}")
    for name, outcome in outcomes.items():
        counts = f"{outcome.passed:>6} {len(outcome.failed):>6} {outcome.skipped:>7} {outcome.minutes:>7.1f}"
        print(f"{name:<8} {counts}  {known[name]}")
    for name, outcome in outcomes.items():
        for test in outcome.failed:
            print(f"failed under {name}: {test}")
    return int(any(outcome.failed for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
