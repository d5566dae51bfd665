"""How far an experiment's run is, what is next, and whether the disk has room for it.

It imports torch, so it runs as a separate process: `python -m detnas_nni.doctor.steps detnas.yaml`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from detnas_nni.config import Config, Finetune, Pretrain
from detnas_nni.config.reading import load_config
from detnas_nni.config.run_folder import BEST, SUPERNET, finetune_folder, pretrain_folder
from detnas_nni.doctor.finding import Finding
from detnas_nni.doctor.machine import existing
from detnas_nni.doctor.refusals import refusals
from detnas_nni.errors import DetNASError
from detnas_nni.training.runs import TrainingRun, finetune_run, pretrain_run
from search_spaces import is_fixed

PARAMETERS = {
    **{"tiny": 20e6, "small": 26e6, "large": 48e6, "3.8g": 111e6},
    **{"lite0": 30e6, "lite1": 32e6, "lite2": 35e6},
}
"""The most weights that a supernet of the space has, in Faster R-CNN with FPN. Other spaces count as the
largest."""

_GB = 1e9


@dataclass(frozen=True)
class TrainingStep:
    """A supernet's training on which a search of the config depends."""

    step: str
    folder: Path
    settings: Pretrain | Finetune
    run: Callable[[Config], TrainingRun]
    """raises DetNASError if the published weights that it starts from are missing"""

    @property
    def result(self) -> Path:
        return self.folder / SUPERNET

    def bytes(self, parameters: float) -> float:
        """The most that its folder takes, for a supernet of this many parameters: result and checkpoints of
        weights and momentum; a new one is complete before an old one is removed."""
        checkpoints = self.settings.keep_checkpoints + 1
        return 4 * parameters * (1 + 2 * checkpoints)  # float32


def examine_run(config: Config, path: str) -> list[Finding]:
    """Findings about the trainings' folders, the next step, and the disk.

    Args:
        config: the experiment's.
        path: the config's file, for commands.
    """
    trainings = [] if is_fixed(config.space.name) else list(_trainings(config))
    return [
        *(_state(config, training, path) for training in trainings),
        *refusals(config, path),
        _next(config, path, trainings),
        *_disk(config, trainings),
    ]


def _trainings(config: Config) -> Iterator[TrainingStep]:
    detection = config.evaluation.task == "detection" and config.data.detection is not None
    inherits = config.finetune.init == "pretrain" and config.finetune.weights is None
    if config.data.classification is not None and (inherits or not detection):
        yield TrainingStep("pretrain", pretrain_folder(config), config.pretrain, pretrain_run)
    if detection:
        yield TrainingStep("finetune", finetune_folder(config), config.finetune, finetune_run)


def _state(config: Config, training: TrainingStep, path: str) -> Finding:
    try:
        run = training.run(config)
    except DetNASError:  # which weights are missing is a finding of `refusals`
        begun = "finished" if training.result.exists() else "not finished"
        text = f"{begun}, in {training.folder}; not compared with the config, as its start is missing"
        return Finding(training.step, "warning", text, "see finetune.init")
    try:
        if run.result.exists():
            run.is_finished()
            return Finding(training.step, "ok", f"finished: {run.result}")
    except DetNASError as error:
        return Finding(training.step, "problem", str(error), f"detnas {training.step} -c {path} --fresh")
    begun = "begun, to be resumed" if run.is_begun else "not begun"
    return Finding(training.step, "ok", f"{begun}: {training.settings.steps} iterations, in {run.folder}")


def _next(config: Config, path: str, trainings: list[TrainingStep]) -> Finding:
    unfinished = [training.step for training in trainings if not training.result.exists()]
    best = config.search_dir / BEST
    if unfinished:
        command = f"detnas {unfinished[0]} -c {path}"
    elif is_fixed(config.space.name):
        command = f"detnas retrain -c {path} --arch search_spaces/published/{config.space.name}.json"
    elif best.exists():
        command = f"detnas retrain -c {path} --arch {best}"
    else:
        command = f"detnas search -c {path}"
        experiment = Path(path).with_name("search.yaml")
        if experiment.exists():
            command += f", or nnictl create --config {experiment}"
    return Finding("next step", "ok", command)


def _disk(config: Config, trainings: list[TrainingStep]) -> Iterator[Finding]:
    """Room for the checkpoints of unfinished trainings, per disk."""
    parameters = PARAMETERS.get(config.space.name, max(PARAMETERS.values()))
    disks: dict[int, tuple[Path, float]] = {}
    for training in trainings:
        if not training.result.exists():
            place = existing(training.folder)
            first, before = disks.get(place.stat().st_dev, (place, 0.0))
            disks[place.stat().st_dev] = (first, before + training.bytes(parameters))
    for place, needed in disks.values() or [(existing(config.run_dir), 0.0)]:
        free = shutil.disk_usage(place).free
        text = f"{free / _GB:.1f} GB free at {place}; checkpoints take up to {needed / _GB:.1f} GB"
        if free < needed:
            yield Finding("disk", "problem", text, f"df -h {place}   # make room, or --set run_dir=FOLDER")
        else:
            yield Finding("disk", "ok", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    findings = examine_run(load_config(options.config, options.overrides), options.config)
    print(json.dumps([asdict(finding) for finding in findings]))


if __name__ == "__main__":
    main()
