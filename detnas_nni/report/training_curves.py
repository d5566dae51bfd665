"""What the trainings of a run have logged for TensorBoard, as curves."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.config import Config

Steps = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curve:
    """The losses of one training, each (step, mean since the last step), ascending."""

    name: str
    loss: Steps
    terms: dict[str, Steps]
    """the parts that it is the sum of, by name"""


@dataclass(frozen=True)
class Training:
    """One kind of training, and a curve for each net that had it."""

    title: str
    curves: tuple[Curve, ...]


def trainings(config: Config) -> list[Training]:
    """The trainings of a run that have logged anything, in the order of the steps."""
    retrained = sorted(path for path in (config.run_dir / "retrain").glob("*") if path.is_dir())
    folders = {
        "supernet, pretrain": [("supernet", config.pretrain_dir or config.run_dir / "pretrain")],
        "supernet, finetune": [("supernet", config.finetune_dir or config.run_dir / "finetune")],
        "retrain, classifier": [(net.name, net / "classifier") for net in retrained],
        "retrain, detector": [(net.name, net / "detector") for net in retrained],
    }
    found = []
    for title, named in folders.items():
        curves = [curve for name, folder in named if (curve := read_curve(name, folder)) is not None]
        if curves:
            found.append(Training(title, tuple(curves)))
    return found


def read_curve(name: str, folder: Path) -> Curve | None:
    """Of the training in a folder; None if it has logged nothing. A resumed training counts as one.

    As TensorBoard does, it reads a file as far as it is whole: that of a running training ends anywhere.
    """
    events = folder / "tensorboard"
    if not any(events.glob("events.out.tfevents.*")):
        return None
    scalars = _scalars(events)
    loss = scalars.pop("loss", ())
    if not loss:
        return None
    terms = {tag.partition("/")[2]: steps for tag, steps in scalars.items() if tag.startswith("loss/")}
    return Curve(name, loss, terms)


def _scalars(events: Path) -> dict[str, Steps]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells how long it reads, at each file
    accumulator = EventAccumulator(str(events), size_guidance={"scalars": 0})
    accumulator.Reload()
    scalars = {}
    for tag in accumulator.Tags()["scalars"]:
        # A step that was trained again after a crash stands there twice: the later one counts.
        by_step = {event.step: event.value for event in accumulator.Scalars(tag)}
        scalars[tag] = tuple(sorted(by_step.items()))
    return scalars
