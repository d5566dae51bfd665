"""All benchmarks, one after the other: `make benchmarks`, or `python -m benchmarks --only ap start`.

Prints a line for each figure, with its target, and keeps each script's JSON in `--out`. Everything takes half
an hour on two cores; docs/performance.md says what was measured with which sizes. Benchmarks that need
trained supernets train the quickstart's, if they do not exist.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CONFIG = Path("experiments/quickstart/detnas.yaml")
_SUPERNET = Path("runs/quickstart/finetune/supernet.pt")

Figures = Callable[[dict[str, Any]], Iterator[tuple[str, float]]]


@dataclass(frozen=True)
class Benchmark:
    """A script with its arguments, and the figures to extract from its output."""

    arguments: tuple[str, ...]
    figures: Figures
    target: str
    needs_supernet: bool = field(default=False)


def _candidate(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "a candidate's evaluation over its bare forward passes", found["ours_over_floor"]
    yield "the same, over passes in its own memory layout", found["ours_over_floor_channels_last"]


def _protocol(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, protocol in found["protocols"].items():
        yield f"cost of {name} over the paper's protocol", protocol["cost"]
        yield f"Kendall's tau of {name} with it", protocol["kendall_tau"]


def _ap(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "AP, pycocotools over ours", found["pycocotools_seconds"] / found["ours_seconds"]


def _step(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for step in ("pretrain", "finetune"):
        yield f"a step of {step} over a hand-written loop's", found[step]["ratio"][1]
    for name, figures in found["candidates"]["ours"].items():
        yield f"a step with {name.removeprefix('of_')} candidates over 2", figures["ratio_to_2"][1]


def _loading(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for case, figures in found["rate"].items():
        for use in ("training", "evaluation"):
            yield f"{case}, {use}: images per second over plain", figures[use]["ratio_bgr"]


def _start(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "a trial's start over the bare imports", found["ratio_to_imports"]["seconds"]
    yield "seconds of detnas --help", found["help"]["seconds"]


def _proposals(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "architectures per second through the constraint", found["constraint"]["all_at_once_per_second"]
    for name in ("random", "detnas", "regularized_evolution"):
        yield f"milliseconds per proposal, {name}", found[name]["microseconds_a_proposal"] / 1000


BENCHMARKS = {
    "candidate": Benchmark(
        ("benchmarks/candidate.py", "-c", str(_CONFIG), "--candidates", "5", "--iterations", "0"),
        _candidate,
        "at most 1.15",
        needs_supernet=True,
    ),
    "protocol": Benchmark(
        ("benchmarks/protocol.py", "-c", str(_CONFIG), "--candidates", "8"),
        _protocol,
        "cost at most 0.25, tau at least 0.9 (40 candidates)",
        needs_supernet=True,
    ),
    "ap": Benchmark(("benchmarks/ap.py", "--repeats", "1"), _ap, "at least 10"),
    "step": Benchmark(
        ("benchmarks/supernet_step.py", "--only", "pretrain", "finetune", "candidates", "--rounds", "30"),
        _step,
        "at most 1.03; with more candidates flat",
    ),
    "loading": Benchmark(
        ("benchmarks/loading.py", "--only", "rate", "--rounds", "7"), _loading, "at least 1"
    ),
    "start": Benchmark(("-m", "benchmarks.trial_start", "--repeats", "5"), _start, "at most 1.3; 0.5 s"),
    "proposals": Benchmark(
        ("benchmarks/proposals.py", "--proposals", "50000"), _proposals, "at least 100,000; at most 1 ms"
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.only:
        benchmark = BENCHMARKS[name]
        if benchmark.needs_supernet and not _SUPERNET.exists():
            _train()
        started = time.perf_counter()
        done = subprocess.run([sys.executable, *benchmark.arguments], stdout=subprocess.PIPE, check=False)
        seconds = time.perf_counter() - started
        print(f"\n{name}  ({seconds:.0f} s; target: {benchmark.target})")
        if done.returncode != 0:
            print(f"  failed with status {done.returncode}; its messages are above")
            failed.append(name)
            continue
        (options.out / f"{name}.json").write_bytes(done.stdout)
        for what, value in benchmark.figures(json.loads(done.stdout)):
            print(f"  {value:>12,.4g}  {what}", flush=True)
    return 1 if failed else 0


def _train() -> None:
    """The quickstart's supernets."""
    config = ("-c", str(_CONFIG))
    for step in (
        ("data", "shapes", "--out", "runs/quickstart/data"),
        ("pretrain", *config),
        ("finetune", *config),
    ):
        subprocess.run([sys.executable, "-m", "detnas_nni.cli", *step], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
