"""`detnas reproduce`: the experiments of the paper, listed with their results, or run from end to end.

An experiment is a folder with a `detnas.yaml` whose section `reproduces` says which part of the paper it is.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config, ConfigPath, EvaluationSettings, Reproduces, Search, Section, Space
from detnas_nni.config.reading import load_config, parse_section, read_extended
from detnas_nni.config.run_folder import BEST, FAST_DEV_RUN, sample_file
from detnas_nni.config.shipped import FOLDER, lay_out, shipped_experiments
from detnas_nni.errors import ConfigError, DetNASError, UsageError
from detnas_nni.finished.results import FinalResult, final_results
from detnas_nni.util.text import number

_FILE = "detnas.yaml"

_NAMES = {"AP": "AP", "VOC_mAP": "VOC mAP", "top1_error": "top-1 error"}
_CODE = "_code"  # suffix of a number from the authors' release, not the paper


class StepError(DetNASError):
    """A step of an experiment has failed, with its own message; the exit status is the step's."""

    def __init__(self, step: str, file: Path, status: int) -> None:
        # A process ended by a signal has a negative status; a shell reports 128 plus the signal.
        self.exit_status = 128 - status if status < 0 else status
        super().__init__(
            f"{file}: the step `{step}` ended with status {self.exit_status}; fix what it reports above, "
            "then run the same again: finished steps are left as they are"
        )


class _Outline(Section):
    """The part of a config that a line of the table needs, which can be read without the data."""

    run_dir: ConfigPath
    space: Space = Space()
    search: Search = Search()
    evaluation: EvaluationSettings = EvaluationSettings()
    reproduces: Reproduces | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment of the paper.

    Attributes:
        name: of its folder.
        file: its YAML.
        run_dir: what it writes to.
        search_dir: what its search writes to.
        space: the name of what it searches.
        reproduces: the section of its config.
        metric: the name of its detector's metric, AP or VOC_mAP.
    """

    name: str
    file: Path
    run_dir: Path
    search_dir: Path
    space: str
    reproduces: Reproduces
    metric: str

    @classmethod
    def of(cls, file: Path, config: Config | _Outline) -> Experiment:
        """From a config that has the section `reproduces`; ConfigError if it has none."""
        if config.reproduces is None:
            raise ConfigError(
                f"{file}: has no `reproduces`, which names the steps to run; run the steps one by one "
                "(`detnas --help` lists them)"
            )
        return cls(
            name=file.resolve().parent.name,
            file=file,
            run_dir=config.run_dir,
            search_dir=config.run_dir / config.search.name,
            space=config.space.name,
            reproduces=config.reproduces,
            metric="AP" if config.evaluation.metric == "coco" else "VOC_mAP",
        )

    def found(self) -> list[Path]:
        """The architectures that its search and its sample write, whether they have run yet or not."""
        best = [self.search_dir / BEST] if "search" in self.reproduces.steps else []
        drawn = range(self.reproduces.samples or 0)
        return best + [sample_file(self.run_dir, number) for number in drawn]

    def architectures(self) -> list[Path]:
        """The nets that `retrain` trains: those that the config names, else those that are found here."""
        return list(self.reproduces.architectures) or self.found()

    def rehearsal(self) -> Experiment:
        """This experiment under `--fast-dev-run`: its outputs, and others' that it reads, in its folders."""
        run_dir, section = self.run_dir / FAST_DEV_RUN, self.reproduces
        changes: dict[str, Any] = {"architectures": tuple(map(_rehearsed, section.architectures))}
        if section.samples is not None:
            changes["samples"] = min(section.samples, 2)  # two random nets show what five would
        section = section.model_copy(update=changes)
        return replace(self, run_dir=run_dir, search_dir=run_dir / self.search_dir.name, reproduces=section)

    def results(self) -> list[FinalResult]:
        """The final nets in the run's folder. Raises ArchitectureError for a malformed file."""
        return final_results(self.run_dir, self.space)


def experiments(folder: Path | None = None) -> list[Experiment]:
    """The experiments of the paper under a folder, by name.

    By default the folder is `experiments`, or the package's own if there is none.

    Only environment variables that `run_dir` names have to be set.

    Raises:
        UsageError: there is no such folder, or no experiment in it.
        ConfigError: a file cannot be read.
    """
    if folder is None:
        folder = FOLDER if FOLDER.is_dir() else shipped_experiments()
    files = sorted(folder.glob(f"*/{_FILE}"))
    if not files:
        raise UsageError(f"{folder}: has no NAME/{_FILE}; name the folder of experiments with --experiments")
    outlines = ((file, _outline(file)) for file in files)
    return [Experiment.of(file, outline) for file, outline in outlines if outline.reproduces is not None]


def _outline(file: Path) -> _Outline:
    values = read_extended(file)
    known = {key: values[key] for key in _Outline.model_fields if key in values}
    return parse_section(_Outline, known, source=str(file), folder=file.resolve().parent)


def _rehearsed(architecture: Path) -> Path:
    """The net that the rehearsal of a search has found, if the search itself has found none yet."""
    search_dir = architecture.parent
    rehearsed = search_dir.parent / FAST_DEV_RUN / search_dir.name / architecture.name
    return rehearsed if rehearsed.is_file() and not architecture.is_file() else architecture


def format_table(listed: Sequence[Experiment]) -> str:
    """One line per experiment: the published numbers and, for the nets that were trained, ours; in percent.

    For several nets (or seeds) mean and standard deviation are given. Nets that did not start from their own
    classifier, as the paper's final nets do, are listed separately and marked. A net that is not the
    experiment's (its search's or sample's, or the one that it names) is not in its line.
    """
    rows = [("experiment", "what", "paper", "authors' code", "ours")]
    notes = []
    for experiment in listed:
        results = experiment.results()
        own = _own(experiment, results)
        published = experiment.reproduces.published
        paper = {name: value for name, value in published.items() if not name.endswith(_CODE)}
        code = {name.removesuffix(_CODE): value for name, value in published.items() if name.endswith(_CODE)}
        rows.append(
            (
                experiment.name,
                experiment.reproduces.what,
                _numbers(paper),
                _numbers(code),
                _ours(own, experiment.metric),
            )
        )
        if len(own) < len(results):
            notes.append(f"{experiment.name}: results of other nets left out: {len(results) - len(own)}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([*lines, *notes])


def _own(experiment: Experiment, results: Iterable[FinalResult]) -> list[FinalResult]:
    files = [file for file in experiment.architectures() if file.exists()]
    own = {Architecture.from_json(file, trusted=[experiment.space]) for file in files}
    return [result for result in results if result.architecture in own]


def _ours(results: Iterable[FinalResult], metric: str) -> str:
    by_init: dict[str, list[FinalResult]] = defaultdict(list)
    for result in results:
        by_init[result.init].append(result)
    cells = []
    for init in sorted(by_init, key=lambda init: (init != "classification", init)):
        nets = by_init[init]
        cell = ", ".join(
            f"{_NAMES[name]} {_mean(values)}" for name, values in _percent(nets, metric).items() if values
        )
        marks = [f"{len(nets)} nets"] if len(nets) > 1 else []
        marks += [f"init {init}"] if init != "classification" else []
        cells.append(cell + (f" ({', '.join(marks)})" if marks else ""))
    return "; ".join(cells) or "-"


def _percent(nets: Sequence[FinalResult], metric: str) -> dict[str, list[float]]:
    """The nets' metrics, by name; an AP of -1 is left out."""
    return {
        metric: [100 * net.detection for net in nets if net.detection >= 0],
        "top1_error": [100 * (1 - net.top1) for net in nets if net.top1 is not None],
    }


def _mean(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def _numbers(published: Mapping[str, float]) -> str:
    return ", ".join(f"{_NAMES.get(name, name)} {value:.1f}" for name, value in published.items()) or "-"


def reproduce(path: Path, *, overrides: Sequence[str] = (), fast_dev_run: bool = False) -> None:
    """Run an experiment's steps in order, each as a separate `detnas` process; prints each command.

    Finished steps are left as they are, so the same call resumes after an interruption. An experiment of
    this package that is not in the working folder is first written there, with its neighbours.

    Args:
        path: the experiment's folder, or its YAML; for one that comes with this package, `experiments/NAME`.
        overrides: changes to the config for all steps, as `section.key=value`.
        fast_dev_run: two iterations of each step, to see whether it will run.

    Raises:
        ConfigError: the config is wrong, or has no section `reproduces`.
        UsageError: an architecture to retrain comes from another experiment and is not there.
        StepError: a step has failed; later ones were not started.
    """
    if path.parent == FOLDER and not path.exists() and (shipped_experiments() / path.name).is_dir():
        written = lay_out(Path())
        print(f"{FOLDER}: wrote the experiments of this package, {number(len(written), 'file')}", flush=True)
    file = path / _FILE if path.is_dir() else path
    experiment = Experiment.of(file, load_config(file, overrides))
    if fast_dev_run:
        experiment = experiment.rehearsal()
    for architecture in experiment.reproduces.architectures:
        _expect(architecture, experiment, fast_dev_run)
    common = ["-c", str(file), *(f"--set={override}" for override in overrides)]
    common += ["--fast-dev-run"] if fast_dev_run else []
    for step in experiment.reproduces.steps:
        arguments = [step, *common]
        if step == "sample":
            arguments += ["--count", str(experiment.reproduces.samples)]
        if step == "retrain":
            arguments += ["--arch", *map(str, experiment.architectures())]
        _run(step, file, arguments)


def _run(step: str, file: Path, arguments: Sequence[str]) -> None:
    """Run a step in a separate process, since one that trains on several GPUs becomes torchrun."""
    print(f"$ detnas {shlex.join(arguments)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "detnas_nni.cli", *arguments], check=False).returncode
    if status:
        raise StepError(step, file, status)


def _expect(architecture: Path, experiment: Experiment, fast_dev_run: bool) -> None:
    """Check, before days of training, that a net to be retrained exists, or say which experiment finds it."""
    if architecture.is_file():
        return
    advice, flag = "correct the path", " --fast-dev-run" if fast_dev_run else ""
    with suppress(DetNASError):  # a neighbour that cannot be read cannot be the one
        for other in experiments(experiment.file.resolve().parents[1]):
            if architecture in other.found():
                advice = f"`detnas reproduce {os.path.relpath(other.file.parent)}{flag}` finds one"
    raise UsageError(f"{experiment.file}: reproduces.architectures: {architecture} does not exist; {advice}")
