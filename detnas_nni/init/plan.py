"""The steps of an experiment with their commands, how long each takes, and schedules cut to a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detnas_nni.errors import DetNASError
from detnas_nni.init.derived import Derived, Schedule
from detnas_nni.init.look import NAMED_TEST
from detnas_nni.init.timing import Speeds, TrainingPace

STOCK = "published_net.json"
"""File in the experiment's folder: the architecture of the published net that a space is built around."""

NARROWED = "narrowed_net.json"
"""Likewise: that net with 3x3 kernels and half of the inner channels where this saves most, on a CPU."""


class TooShortError(DetNASError):
    """The user's time is too short even for the shortest schedules."""


@dataclass(frozen=True)
class PlanStep:
    """Attributes:
    command: can be run as it is.
    what: what it does, in a few words.
    seconds: about how long it takes; None if not measured.
    """

    command: str
    what: str
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """Attributes:
    steps: in order.
    remarks: how the times were measured, what was cut, what is missing.
    """

    steps: tuple[PlanStep, ...]
    remarks: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """The total of all steps; None if not measured."""
        times = [step.seconds for step in self.steps]
        return None if None in times else sum(times)

    def lines(self) -> list[str]:
        """The plan as a table, then the remarks."""
        width = max(len(step.command) for step in self.steps)
        lines = []
        for number, step in enumerate(self.steps, start=1):
            time = "" if step.seconds is None else f"  {hours(step.seconds):>8}"
            lines.append(f"{number}. {step.command:<{width}}{time}  {step.what}")
        if self.seconds is not None:
            lines.append(f"   {'together':<{width}}  {hours(self.seconds):>8}")
        return lines + [f"- {remark}" for remark in self.remarks]


def make_plan(
    derived: Derived,
    schedule: Schedule,
    config: str,
    run_dir: str,
    speeds: Speeds | None,
    remarks: Sequence[str],
) -> Plan:
    """The steps.

    Args:
        derived: what follows from data and machine.
        schedule: how long it trains and searches.
        config: the path of detnas.yaml as commands name it.
        run_dir: that of the run's folder, likewise.
        speeds: what was measured; None leaves the times out.
        remarks: further remarks, after the one on the measurement.
    """
    seconds = {} if speeds is None else estimate(derived, schedule, speeds)
    stock = None
    if derived.pretraining.kind == "imagenet":
        stock = _alone(derived, config, STOCK)
        if "test" in derived.found.splits:  # a published net alone is measured on nothing else
            remarks = [*remarks, _other_way(derived, stock, speeds)]
            if derived.narrows:
                remarks = [*remarks, _narrowed(_alone(derived, config, NARROWED)), _MEASURED]
    candidates = schedule.population * schedule.generations
    named = [
        ("crops", f"detnas data crops -c {config}", "cut the boxes out, to pre-train on"),
        (
            "pretrain",
            f"detnas pretrain -c {config}",
            f"{schedule.pretrain} steps of {derived.pretrain_batch}",
        ),
        (
            "finetune",
            f"detnas finetune -c {config}",
            f"{schedule.finetune} steps of {derived.finetune_batch}",
        ),
        ("search", f"detnas search -c {config}", f"{candidates} candidates"),
        (
            "retrain",
            f"detnas retrain -c {config} --arch {run_dir}/search/best_architecture.json --init supernet",
            f"{schedule.retrain} steps, then AP on the test split",
        ),
    ]
    if not derived.search:
        named = [("retrain", stock, named[-1][2])]
    left_out = set()
    if derived.pretraining.kind != "crops":
        left_out.add("crops")
    if not derived.pretraining.trains:
        left_out.add("pretrain")
    if derived.found.test_holdout:
        tested = len(derived.found.splits["test"])
        remarks = [
            *remarks,
            f"the test split is {tested:,} of your images, set apart as you named none; others are named by "
            + NAMED_TEST,
        ]
    if "test" not in derived.found.splits:
        left_out.add("retrain")
        remarks = [
            *remarks,
            f"no `retrain`: there is no test split to measure the final net on; name one by {NAMED_TEST}",
        ]
    steps = tuple(
        PlanStep(command, what, seconds.get(name)) for name, command, what in named if name not in left_out
    )
    return Plan(steps, (*([] if speeds is None else [_how(derived, speeds)]), *remarks))


def _alone(derived: Derived, config: str, net: str) -> str:
    """The command that trains one of the folder's nets on its own, frozen where that is for this net."""
    command = f"detnas retrain -c {config} --arch {Path(config).with_name(net)} --init imagenet"
    wanted = derived.frozen_stages if net == STOCK else 0
    written = 0 if derived.search else derived.frozen_stages
    return command if wanted == written else f"{command} --set finetune.freeze={wanted}"


_MEASURED = (
    "what the search, the published net and the narrowed one came to, each in 8 minutes of one CPU thread, "
    "AP on the test split (docs/own-data.md): cells under a microscope 0.45, 0.44, 0.47 (three seeds; the "
    "first two cannot be told apart), photographs of animals 0.31, 0.38, 0.35 (two seeds); longer times "
    "were hardly compared"
)


def _narrowed(command: str) -> str:
    return (
        "a third way: the published net narrowed without a search, with kernels of 3x3 and half of the inner "
        f"channels where that saves most: `{command}`. Both are less work than the search; in the folder "
        "that `--no-search` writes they have as many steps as its two trainings together"
    )


def _other_way(derived: Derived, stock: str, speeds: Speeds | None) -> str:
    """The time of the alternative: of the published net alone if there is a search, else of a search."""
    other = replace(derived, search=not derived.search)
    uncut = other.schedule()
    seconds = None if speeds is None else sum(estimate(other, uncut, speeds).values())
    time = "" if seconds is None else f", about {hours(seconds)} in all"
    if derived.search:
        return (
            "to see whether a search pays, compare: the same call with `--no-search --name ANOTHER` plans "
            f"only the published net's training, uncut {uncut.retrain} steps{time}; with the final net's "
            f"steps, in this folder: `{stock}`"
        )
    return (
        "to compare it with a search: the same call without --no-search, with `--name ANOTHER`; uncut "
        f"its final net is trained for {uncut.retrain} steps{time}"
    )


def estimate(derived: Derived, schedule: Schedule, speeds: Speeds) -> dict[str, float]:
    """Seconds of each step, by name."""

    def training(measured: TrainingPace, steps: int) -> float:
        return speeds.start + measured.start + steps * measured.step

    candidate = speeds.build + schedule.calibration * speeds.calibrate + derived.search_images * speeds.detect
    decoding = (schedule.calibration + derived.search_images) * speeds.decode
    seconds = {
        "finetune": training(speeds.finetune, schedule.finetune),
        "search": speeds.start + decoding + schedule.population * schedule.generations * candidate,
    }
    if derived.pretraining.kind == "crops":
        seconds["crops"] = speeds.start + len(derived.found.train) * speeds.crop
    if speeds.pretrain is not None:
        seconds["pretrain"] = training(speeds.pretrain, schedule.pretrain)
    if "test" in derived.found.splits:
        tested = len(derived.found.splits["test"]) * (speeds.detect + speeds.decode)
        seconds["retrain"] = training(speeds.finetune, schedule.retrain) + tested
    return seconds if derived.search else {"retrain": seconds["retrain"]}


def fit(derived: Derived, wanted: Schedule, speeds: Speeds, limit: float) -> tuple[Schedule, str]:
    """The schedules cut so that all steps together take no longer than `limit` seconds, and what was cut.

    Raises:
        TooShortError: even the shortest schedules take longer; the message says how long.
    """

    def total(schedule: Schedule) -> float:
        return sum(estimate(derived, schedule, speeds).values())

    def amounts(schedule: Schedule) -> list[tuple[str, int]]:
        """What there is of each step that is planned."""
        every = {
            "pretrain": [("pretrain steps", schedule.pretrain)],
            "finetune": [("finetune steps", schedule.finetune)],
            "search": [
                ("candidates", schedule.population * schedule.generations),
                ("calibration images", schedule.calibration),
            ],
            "retrain": [("retrain steps", schedule.retrain)],
        }
        planned = estimate(derived, schedule, speeds)
        return [amount for step, amounts in every.items() if step in planned for amount in amounts]

    whole = total(wanted)
    if whole <= limit:
        return wanted, f"nothing was cut: {hours(whole)} is within the {hours(limit)} that you gave"
    least = wanted.cut(0.0)
    if total(least) > limit:
        raise TooShortError(
            f"--hours {limit / 3600:g}: not possible in that time; with the shortest schedules ("
            f"{', '.join(f'{name} {number}' for name, number in amounts(least))}) it takes about "
            f"{_up(total(least))} hours here. Allow that many, omit --hours (the whole plan takes about "
            f"{_up(whole)} hours), or use a machine with a GPU"
        )
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if total(wanted.cut(middle)) <= limit else (low, middle)
    cut = wanted.cut(low)
    changes = [
        f"{name} from {before} to {after}"
        for (name, before), (_, after) in zip(amounts(wanted), amounts(cut), strict=True)
        if before != after
    ]
    return cut, f"cut to {hours(limit)} (uncut it takes about {hours(whole)}): {', '.join(changes)}"


def hours(seconds: float) -> str:
    """Rounded for a reader of the plan: 0.12 h, 3.4 h, 51 h."""
    value = seconds / 3600
    return f"{value:.2f} h" if value < 1 else f"{value:.1f} h" if value < 10 else f"{value:.0f} h"


def _up(seconds: float) -> str:
    """Hours, rounded up to a hundredth, so that --hours with this value is enough."""
    return f"{math.ceil(seconds / 36) / 100:.2f}"


def _how(derived: Derived, speeds: Speeds) -> str:
    pretrain = (
        ""
        if speeds.pretrain is None
        else (f"{speeds.pretrain.steps} steps of pretrain ({speeds.pretrain.step:.2f} s each), ")
    )
    several = " on one of the GPUs, without their communication" if derived.devices > 1 else ""
    return (
        f"an estimate, from {speeds.took:.0f} s of measurement on {derived.machine}{several}: {pretrain}"
        f"{speeds.finetune.steps} steps of finetune ({speeds.finetune.step:.2f} s each; retrain is assumed "
        "to be alike) and parts of two candidates' evaluation, with the configured net, image size and "
        f"batch, on {speeds.images} images per split and untrained weights. Other load on the machine counts"
    )
