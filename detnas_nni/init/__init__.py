"""`detnas init` from end to end: look, derive, measure, cut, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from detnas_nni.config import Config
from detnas_nni.config.reading import load_config, parse_config
from detnas_nni.data.copies import groups_text
from detnas_nni.data.entries import DEFAULT, Conventions
from detnas_nni.errors import DataError, UsageError
from detnas_nni.init import write as files
from detnas_nni.init.derived import Derived, Machine, Schedule
from detnas_nni.init.look import describe, look
from detnas_nni.init.plan import Plan, fit, make_plan
from detnas_nni.init.pretraining import Pretraining, choose
from detnas_nni.init.problems import problems
from detnas_nni.init.sources import Sources
from detnas_nni.init.values import render, settings
from search_spaces import search_space_json

_MIN_IMAGES = 10  # images of a training split, at least: fewer give nothing that a search could tell apart


@dataclass(frozen=True)
class Request:
    """What the user wants.

    Attributes:
        sources: the data.
        conventions: how its annotations are to be read.
        out: the folder; experiments/NAME if None.
        pretrain, classification, supernet: as `pretraining.choose` takes them.
        hours: the time for all steps together; None for no limit.
        timing: whether a few steps are measured.
        device: auto, cpu or cuda.
        overwrite: whether a folder that is there is written anew.
    """

    sources: Sources
    conventions: Conventions = DEFAULT
    out: Path | None = None
    pretrain: str | None = None
    classification: Path | None = None
    supernet: Path | None = None
    hours: float | None = None
    timing: bool = True
    device: str = "auto"
    overwrite: bool = False


def init(request: Request, say: Callable[[str], None]) -> Path:
    """Write the experiment's folder; gives the path of its detnas.yaml.

    Args:
        request: what is wanted.
        say: gets what was found, line by line, as it is found.

    Raises:
        UsageError: options contradict each other, or the folder is there.
        DataError: the data cannot be read, or the steps would refuse it.
        CheckpointError: the given supernet does not fit.
        TooShortError: the time is less than the least schedules need.
    """
    if request.hours is not None and not request.timing:
        raise UsageError("--hours needs the measurement that --no-timing leaves out; pass one of them")
    sources = request.sources
    out = Path("experiments") / sources.name if request.out is None else request.out
    if files.expect_free(out, request.overwrite):
        say(f"{out}: its files are written anew")
    found = look(sources, request.conventions)
    say("The data")
    for line in (*describe(found), *sources.chosen):
        say(f"  {line}")
    corrected = found.corrected()
    if corrected:
        say("How the annotations were read (docs/data.md)")
    for line in corrected:
        say(f"  - {line}")
    told = problems(found, sources)
    say("What may be wrong with it" if told else "Nothing wrong was found with it")
    for problem in told:
        say(f"  - {problem.text}")
    refused = [problem.text for problem in told if problem.refused]
    if refused:
        raise DataError(f"the steps would refuse this data: {refused[0]}")
    if len(found.train) < _MIN_IMAGES:
        raise DataError(
            f"{found.train.name}: {len(found.train)} training images; with fewer than {_MIN_IMAGES} neither "
            "a supernet learns anything nor can a search tell candidates apart"
        )
    pretraining = choose(
        found, kind=request.pretrain, folder=request.classification, supernet=request.supernet
    )
    say(f"Pre-training\n  {pretraining.reason}")
    derived = Derived(found, Machine.here(request.device), pretraining)
    draft = _Draft(derived, sources, files.Places(out, sources.name))
    schedule, speeds, remarks = derived.schedule(), None, []
    if request.timing:
        say(f"Measuring a few steps on {derived.machine} …")
        from detnas_nni.init.timing import measure  # NNI and Lightning take seconds

        speeds = measure(draft.config(schedule, measured=True), crops=pretraining.kind == "crops")
        if request.hours is not None:
            schedule, remark = fit(derived, schedule, speeds, 3600 * request.hours)
            remarks.append(remark)
    plan = make_plan(
        derived,
        schedule,
        draft.places.in_command(out / files.CONFIG),
        draft.places.in_command(draft.places.run_dir),
        speeds,
        remarks,
    )
    draft.write(schedule, plan, [problem.text for problem in told], corrected)
    say("The plan")
    for line in plan.lines():
        say(f"  {line}")
    return out / files.CONFIG


@dataclass(frozen=True)
class _Draft:
    """The files, for a schedule."""

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
        """What the file will be read as; `measured` before what lies beside it is there."""
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
        if self.derived.holdout and self.derived.found.groups:
            texts[files.COPIES] = groups_text(self.derived.found.groups)
        files.write(places.out, texts, search_space_json(self.derived.space))
        load_config(places.out / files.CONFIG)
