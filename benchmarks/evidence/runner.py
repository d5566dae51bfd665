"""Does everything that is missing, the most important first, each run in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.evidence.execute import artefact
from benchmarks.evidence.lines import KINDS, Lines
from benchmarks.evidence.plan import Choice, Found, Run, expect_same_configs, planned
from benchmarks.evidence.settings import Part, Study, read_study
from detnas_nni.data.crops import write_crops
from detnas_nni.data.shapes import generate_shapes
from detnas_nni.data.splits import open_detection
from detnas_nni.errors import ConfigError, DetNASError
from detnas_nni.util.lock import FolderLock

_POLL = 0.2  # seconds
_PATIENCE = 30.0  # seconds for a stopped run to save its state


class StudyRunsError(DetNASError):
    """Another process runs the study."""


@dataclass
class Runner:
    """Does the missing runs of a study.

    Args:
        file: the study's YAML.
        choice: which runs.
        jobs: how many at a time.
        minutes: no run is started after these; no limit if None.
        anew: where a supernet's weights are gone, remove the lines that were measured with them.
    """

    file: Path
    choice: Choice = field(default_factory=Choice)
    jobs: int = 1
    minutes: float | None = None
    anew: bool = False
    failed: list[str] = field(default_factory=list)
    """keys of the runs that ended with an error"""

    def __post_init__(self) -> None:
        self._study = read_study(self.file)
        self._lines = Lines(self._study.lines)
        self._children: dict[str, _Child] = {}
        self._is_waiting = False

    def run(self) -> int:
        """Run to the end, with a table row for each run; return the number of runs that failed.

        Raises:
            ConfigError: the study or a part's config is wrong.
            DataError: a raw line is damaged.
            StudyRunsError: another process runs the study here.
        """
        with self._alone():
            found = self._lines.read_all()
            expect_same_configs(self._study, found, {run.part for run in self.choice.of(self._study, found)})
            self._expect_needs()
            if self.anew:
                self._begin_anew()
            self._prepare()
            started = time.monotonic()
            try:
                while self._step(started):
                    time.sleep(_POLL)
            finally:
                self._stop()
        return len(self.failed)

    def _step(self, started: float) -> bool:
        """Collect what has ended, start as many as fit; False when nothing is left to do."""
        for key, child in list(self._children.items()):
            if child.process.poll() is not None:
                del self._children[key]
                self._is_waiting = False
                self._report(child)
        is_late = self.minutes is not None and time.monotonic() - started > self.minutes * 60
        while len(self._children) < self.jobs and not is_late and not self._is_waiting:
            run = self.next()
            if run is None:
                self._is_waiting = True
                break
            self._children[run.key] = _Child.start(self.file, run, self._log(run))
        return bool(self._children)

    def next(self) -> Run | None:
        """The first missing run that can start now, or a run that it has to wait for."""
        found = self._lines.read_all()
        every = {run.key: run for run in planned(self._study, found, self.choice.parts)}
        for run in self.choice.of(self._study, found):
            if not run.is_done(found):
                ready = self._startable(run, every)
                if ready is not None:
                    return ready
        return None

    def _startable(self, run: Run, every: dict[str, Run]) -> Run | None:
        if run.key in self._children or run.key in self.failed:
            return None
        for key in run.needs:
            if not self._has_weights(every[key]):
                return self._startable(every[key], every)
        return run

    def _report(self, child: _Child) -> None:
        minutes = (time.monotonic() - child.started) / 60
        found = self._lines.read_all()
        if child.process.returncode != 0:
            self.failed.append(child.run.key)
            said = f"failed with {child.process.returncode}, see {child.log}: {child.last_words()}"
        else:
            said = result(child.run, found)
        left = [run for run in self.choice.of(self._study, found) if not run.is_done(found)]
        ahead = sum(run.minutes for run in left)
        print(
            f"{time.strftime('%H:%M:%S')}  {child.run.key:<58} {minutes:6.1f} min  {said}"
            f"   [{len(left)} runs left, {ahead:.0f} min of one core]",
            flush=True,
        )

    def _prepare(self) -> None:
        found = self._lines.read_all()
        wanted = {run.part for run in self.choice.of(self._study, found) if not run.is_done(found)}
        for name in self._study.parts:
            if name in wanted:
                prepare(self._study.parts[name])

    def _expect_needs(self) -> None:
        """Refuse an order that leaves out what its runs begin with, before anything is started."""
        found = self._lines.read_all()
        every = {run.key: run for run in planned(self._study, found, self.choice.parts)}
        wanted = [run for run in self.choice.of(self._study, found) if not run.is_done(found)]
        for _ in self._needed(wanted, every):
            pass

    def _begin_anew(self) -> None:
        """Remove the lines of supernets whose weights are gone, and those that were measured with them."""
        found = self._lines.read_all()
        every = {run.key: run for run in planned(self._study, found)}
        wanted = [run for run in self.choice.of(self._study, found) if not run.is_done(found)]
        lost = {run.key for run in self._needed(wanted, every)} & found["supernets"].keys()

        def owes(run: Run) -> bool:
            return run.key in lost or any(owes(every[key]) for key in run.needs)

        stale: dict[str, set[str]] = {kind: set() for kind in KINDS}
        for run in filter(owes, every.values()):
            stale[run.kind].update(found[run.kind].keys() & set(run.keys))
            if run.supernet:  # a search's candidates have lines that no run is planned for
                of_supernet = f"{run.part}/fitness/{run.supernet}/"
                stale["fitness"].update(key for key in found["fitness"] if key.startswith(of_supernet))
        for kind, keys in stale.items():
            if keys:
                self._lines.remove(kind, keys)

    def _needed(self, wanted: Sequence[Run], every: Mapping[str, Run]) -> Iterator[Run]:
        """The runs whose weights are needed by others and are not there. Raises ConfigError: not planned."""
        for run in wanted:
            for key in run.needs:
                if key not in every:
                    raise ConfigError(f"order: {run.key} needs {key}, of no step there; add it")
            missing = [every[key] for key in run.needs if not self._has_weights(every[key])]
            yield from missing
            yield from self._needed(missing, every)

    def _has_weights(self, run: Run) -> bool:
        weights = artefact(self._part(run), run)
        return weights is not None and weights.exists()

    def _part(self, run: Run) -> Part:
        return self._study.parts[run.part]

    def _log(self, run: Run) -> Path:
        folder = self._part(run).load().run_dir / "log"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (run.key.replace("/", "_") + ".log")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FolderLock(self._study.lines)
        if not lock.acquire():
            raise StudyRunsError(f"{self._study.lines}: another process runs the study; wait for its end")
        try:
            yield
        finally:
            lock.release()

    def _stop(self) -> None:
        """After Ctrl-C or an error: running runs save their state and resume the next time."""
        for child in self._children.values():
            child.process.terminate()
        for child in self._children.values():
            try:
                child.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                child.process.kill()


@dataclass(frozen=True)
class _Child:
    """A run in a separate process."""

    run: Run
    process: subprocess.Popen[bytes]
    log: Path
    started: float

    @classmethod
    def start(cls, file: Path, run: Run, log: Path) -> _Child:
        command = [
            sys.executable,
            "-m",
            "benchmarks.evidence",
            "one",
            "--study",
            str(file.resolve()),
            run.key,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment
            )
        return cls(run, process, log, time.monotonic())

    def last_words(self) -> str:
        """The last line of its log."""
        return (self.log.read_text(errors="replace").splitlines() or ["it said nothing"])[-1]


def prepare(part: Part) -> None:
    """Draw the images, or cut out the boxes, unless they exist."""
    config = part.load()
    if part.shapes is not None:
        generate_shapes(config.run_dir / "data", **part.shapes)
    if part.crops:
        images = open_detection(config.require("data.detection"), config.seed).train
        write_crops(images, config.require("data.classification").train, seed=config.seed)


def result(run: Run, found: Found) -> str:
    """A run's outcome in a few words."""
    lines = [found[run.kind][key] for key in run.keys if key in found[run.kind]]
    if run.kind == "nets":
        return f"AP {lines[0]['test']['AP']:.4f} on the test split"
    if run.kind == "fitness":
        values = [line["fitness"] for line in lines]
        return f"fitness {min(values):.4f} to {max(values):.4f} of {len(values)} nets"
    if run.kind == "searches":
        return f"best fitness {max(fitness for _, fitness in lines[0]['candidates']):.4f}"
    if run.kind == "noise":
        return f"AP {lines[0]['ap']:.4f}, {len(lines[0]['resamples'])} resamples"
    return "trained"


def find(study: Study, key: str) -> Run:
    """The planned run with a key. Raises ConfigError if there is none."""
    runs: Sequence[Run] = planned(study, Lines(study.lines).read_all(), (key.partition("/")[0],))
    for run in runs:
        if run.key == key:
            return run
    raise ConfigError(f"{key}: no run of this study; `python -m benchmarks.evidence plan` lists them")
