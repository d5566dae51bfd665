"""A study that takes seconds, of the small experiment that all tests share, and raw lines written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.evidence.lines import Lines
from benchmarks.evidence.plan import Ops, spelled, table
from benchmarks.evidence.settings import Study, read_study

WriteStudy = Callable[..., Path]


@pytest.fixture(scope="session")
def write_study(write_config: Callable[..., Path]) -> WriteStudy:
    """write_study(folder, [steps], …): the YAML of a study with one part, `small`; the rest are its keys."""

    def write(folder: Path, steps: Sequence[str], **part: Any) -> Path:
        config = write_config(folder / "small.yaml", run_dir=str(folder / "run"))
        values = {
            "lines": str(folder / "docs/evidence"),
            "parts": {"small": {"config": str(config), "supernets": [0], "nets": 3, **part}},
            "order": [f"small.{step}" for step in steps],
        }
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return path

    return write


class Pen:
    """Writes raw lines as runs do, with numbers that a test has chosen."""

    def __init__(self, study: Study) -> None:
        self.part = study.parts["small"]
        self.lines = Lines(study.lines)

    def supernet(self, name: str, cpu_seconds: float = 60.0) -> None:
        self._write("supernets", f"small/finetune/{name}", {"cpu_seconds": cpu_seconds})

    def net(self, ops: Ops, ap: float, seed: int = 0, start: str = "pretrained", **others: Any) -> None:
        cost = table(self.part).cost(ops)
        values = {
            "ops": list(ops),
            "test": {"AP": ap},
            "search": {"AP": ap},
            "macs": cost.macs,
            "params": cost.params,
            "steps": 4,
            "cpu_seconds": 30.0,
            **others,
        }
        self._write("nets", f"small/net/{spelled(ops)}/{start}/{seed}", values)

    def fitness(self, supernet: str, values: Mapping[Ops, float], protocol: str = "search") -> None:
        for ops, fitness in values.items():
            key = f"small/fitness/{supernet}/{protocol}/{spelled(ops)}"
            self._write("fitness", key, {"ops": list(ops), "fitness": fitness, "cpu_seconds": 3.0})

    def search(
        self, strategy: str, seed: int, found: Mapping[Ops, float], supernet: str = "s0", guide: str = "ap"
    ) -> None:
        key = f"small/search/{supernet}/{guide}/{strategy}/{seed}"
        candidates = [[list(ops), fitness] for ops, fitness in found.items()]
        self._write("searches", key, {"guide": guide, "candidates": candidates, "cpu_seconds": 9.0})

    def noise(self, ops: Ops, resamples: Sequence[float]) -> None:
        values = {"ops": list(ops), "ap": resamples[0], "resamples": list(resamples)}
        self._write("noise", f"small/noise/{spelled(ops)}", values)

    def _write(self, kind: str, key: str, values: Mapping[str, Any]) -> None:
        provenance = {
            "part": "small",
            "config": self.part.identity,
            "commit": "0123456789ab",
            "versions": {"torch": "2.14.1", "nni": "3.0"},
            "machine": "a processor, 2 cores",
            "finished": "2026-11-28T12:00:00+00:00",
        }
        self.lines.append(kind, key, {**values, **provenance})


@pytest.fixture
def pen() -> Callable[[Path], Pen]:
    """pen(study.yaml): what writes lines into the study's folder."""
    return lambda file: Pen(read_study(file))
