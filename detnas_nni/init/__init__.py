"""`detnas init` from end to end: look, derive, measure, cut, write."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config, parse_config
from detnas_nni.data.entries import DEFAULT, Conventions
from detnas_nni.errors import DataError, UsageError
from detnas_nni.init import write as files
from detnas_nni.init.derived import Derived, Machine, Schedule
from detnas_nni.init.look import MIN_IMAGES, NAMED_TEST, Look, describe, look
from detnas_nni.init.plan import NARROWED, STOCK, Plan, fit, make_plan
from detnas_nni.init.pretraining import Pretraining, choose
from detnas_nni.init.problems import problems
from detnas_nni.init.sources import Sources
from detnas_nni.init.values import render, settings
from search_spaces import LITE, search_space_json

if TYPE_CHECKING:
    from detnas_nni.init.timing import Speeds


@dataclass(frozen=True)
class Request:
    """What the user wants.

    Attributes:
        sources: the data.
        conventions: how to read its annotations.
        out: the experiment's folder; experiments/NAME if None.
        pretrain, classification, supernet: as `pretraining.choose` takes them.
        search: whether to plan one; if not, only the published net of the lite family is trained.
        hours: the time for all steps; None for no limit.
        timing: whether to measure a few steps.
        device: auto, cpu or cuda.
        overwrite: whether to overwrite an existing folder.
    """

    sources: Sources
    conventions: Conventions = DEFAULT
    out: Path | None = None
    pretrain: str | None = None
    classification: Path | None = None
    supernet: Path | None = None
    search: bool = True
    hours: float | None = None
    timing: bool = True
    device: str = "auto"
    overwrite: bool = False


def init(request: Request, say: Callable[[str], None]) -> Path:
    """Write the experiment's folder and return the path of its detnas.yaml.

    Args:
        request: what is wanted.
        say: is called with each line of the findings as they come.

    Raises:
        UsageError: options contradict each other, or the folder exists.
        DataError: the data cannot be read, or the steps would refuse it.
        CheckpointError: the given supernet does not fit.
        TooShortError: the time is too short even for the shortest schedules.
    """
    if request.hours is not None and not request.timing:
        raise UsageError("--hours needs the measurement that --no-timing skips; pass only one of them")
    if not request.search:
        _expect_no_other_start(request)
    sources = request.sources
    out = Path("experiments") / sources.name if request.out is None else request.out
    are_replaced = files.expect_free(out, request.overwrite)
    found = look(sources, request.conventions)
    say("The data")
    for line in (*describe(found), *sources.chosen):
        say(f"  {line}")
    corrected = found.corrected()
    if corrected:
        say("How the annotations were read (docs/data.md)")
    for line in corrected:
        say(f"  - {line}")
    if not request.search and "test" not in found.splits:
        raise UsageError(
            "--no-search trains a net to be measured on a test split, and there is none: name one by "
            + NAMED_TEST
        )
    told = problems(found, sources)
    say("What may be wrong with it" if told else "Nothing wrong was found with it")
    for problem in told:
        say(f"  - {problem.text}")
    refused = [problem.text for problem in told if problem.refused]
    if refused:
        raise DataError(f"the steps would refuse this data: {refused[0]}")
    if len(found.train) < MIN_IMAGES:
        raise DataError(
            f"{found.train.name}: {len(found.train)} training images; with fewer than {MIN_IMAGES} a "
            "supernet learns nothing, and a search cannot tell candidates apart"
        )
    places, limit = files.Places(out, sources.name), None if request.hours is None else 3600 * request.hours
    derived, speeds = _start(request, found, places, limit, say)
    draft, schedule, remarks = Draft(derived, sources, places), derived.schedule(), []
    if speeds is not None and limit is not None:
        schedule, remark = fit(derived, schedule, speeds, limit)
        remarks.append(remark)
    plan = make_plan(
        derived,
        schedule,
        places.in_command(out / files.CONFIG),
        places.in_command(places.run_dir),
        speeds,
        remarks,
    )
    if are_replaced:
        say(f"{out}: its files are replaced")
    draft.write(schedule, plan, [problem.text for problem in told], corrected)
    say("The plan")
    for line in plan.lines():
        say(f"  {line}")
    return out / files.CONFIG


def _expect_no_other_start(request: Request) -> None:
    """UsageError if there is no published net to train."""
    others = {
        f"--pretrain {request.pretrain}": request.pretrain not in (None, "imagenet"),
        "--classification": request.classification is not None,
        "--supernet": request.supernet is not None,
    }
    for option, given in others.items():
        if given:
            raise UsageError(
                "--no-search trains a published net alone, from its ImageNet weights; leave out " + option
            )


def _start(
    request: Request, found: Look, places: files.Places, limit: float | None, say: Callable[[str], None]
) -> tuple[Derived, Speeds | None]:
    """Where the trunk starts, and how long the steps take here; None if they are not measured."""
    machine = Machine.here(request.device)

    def measured(derived: Derived) -> Speeds:
        from detnas_nni.init.timing import measure  # NNI and Lightning take seconds

        config = Draft(derived, request.sources, places).config(derived.schedule(), measured=True)
        alone = None if derived.search else Architecture(derived.space, LITE[derived.space].published_ops)
        return measure(config, crops=derived.pretraining.kind == "crops", net=alone)

    nothing_asked = request.pretrain is request.classification is request.supernet is None
    if request.search and nothing_asked and request.timing:
        from detnas_nni.init.proposal import propose

        say(f"Measuring a few steps of two starts on {machine} …")
        start = propose(found, machine, limit, measured)
        say(f"Pre-training\n  {start.derived.pretraining.reason}")
        return start.derived, start.speeds
    kind = request.pretrain if request.search else "imagenet"
    pretraining = choose(found, kind=kind, folder=request.classification, supernet=request.supernet)
    if request.search and nothing_asked:
        pretraining = pretraining.told(
            "ImageNet weights are proposed only where steps are timed; --pretrain imagenet takes them"
        )
    derived = Derived(found, machine, pretraining, search=request.search)
    say(f"Pre-training\n  {pretraining.reason}")
    if not request.timing:
        return derived, None
    say(f"Measuring a few steps on {machine} …")
    return derived, measured(derived)


@dataclass(frozen=True)
class Draft:
    """The experiment's files for a given schedule."""

    derived: Derived
    sources: Sources
    places: files.Places

    def text(self, schedule: Schedule, header: list[str], *, measured: bool = False) -> str:
        pretraining: Pretraining = self.derived.pretraining
        weights = None if pretraining.weights is None else self.places.in_file(pretraining.weights)
        data = files.data_section(self.derived, self.sources, self.places)
        if measured:
            data["detection"].pop("copies", None)  # its file is not written yet
        run_dir = self.places.in_file(self.places.run_dir)
        return render(settings(self.derived, schedule, data, run_dir, weights), header)

    def config(self, schedule: Schedule, *, measured: bool = False) -> Config:
        """The config as it will be read from the file; `measured`: before its other files are written."""
        values = yaml.safe_load(self.text(schedule, [], measured=measured))
        return parse_config(values, source=str(self.places.out / files.CONFIG), folder=self.places.out)

    def write(self, schedule: Schedule, plan: Plan, told: list[str], corrected: list[str]) -> None:
        self.config(schedule)  # before a file is touched
        places, name = self.places, self.sources.name
        search = places.in_command(places.out / "search.yaml")
        texts = {
            files.CONFIG: self.text(schedule, files.header(name, self.derived, plan, search)),
            "search.yaml": files.search_yaml(name, self.derived, search),
            "PLAN.md": files.plan_md(name, plan, told, corrected),
        }
        if self.derived.pretraining.kind == "imagenet":
            texts[STOCK] = self._net(LITE[self.derived.space].published_ops)
        if self.derived.narrows:
            texts[NARROWED] = self._net(self.derived.near)
        found = self.derived.found
        if self.derived.holdout and found.groups:
            texts[files.COPIES] = found.groups_text
        files.write(places.out, texts, search_space_json(self.derived.space))
        load_config(places.out / files.CONFIG)

    def _net(self, ops: Ops) -> str:
        return json.dumps(Architecture(self.derived.space, ops).to_dict(), indent=2) + "\n"
