"""The experiment's folder: detnas.yaml, search.yaml with its search space, PLAN.md."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from detnas_nni.config import CocoSplit, VocSplit
from detnas_nni.config.reading import load_config
from detnas_nni.data.entries import DEFAULT
from detnas_nni.errors import DetNASError, UsageError
from detnas_nni.init.derived import Derived
from detnas_nni.init.plan import NARROWED, STOCK, Plan
from detnas_nni.init.sources import Sources, plain_path
from detnas_nni.init.values import Tree, Value, scalar
from detnas_nni.util.files import write_text

CONFIG = "detnas.yaml"
COPIES = "copies.json"
DATA = "data"
"""The subfolder of an experiment with data converted for it."""

_TRIALS_A_CPU = 4

# Precedes a hash of the folder's files: while it matches, another `detnas init` may replace them.
_SEAL = "# As detnas init wrote it: "


class Places:
    """The paths of an experiment, as its files and as commands write them.

    Args:
        out: the experiment's folder.
        name: the experiment's, and its run folder's.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.out = plain_path(out)
        beside = self.out.parent.name == "experiments"
        self.run_dir = self.out.parents[1] / "runs" / name if beside else self.out / "run"
        self.crops = self.run_dir / "crops"

    def in_file(self, path: Path) -> str:
        """A path as written in the folder's files: relative if both are in the working folder."""
        path = plain_path(path)
        here = Path.cwd()
        if path.is_relative_to(here) and self.out.is_relative_to(here):
            return os.path.relpath(path, self.out)
        return str(path)

    @staticmethod
    def in_command(path: Path) -> str:
        """A path as written in a command that is run in the working folder."""
        path = plain_path(path)
        here = Path.cwd()
        return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def expect_free(out: Path, overwrite: bool) -> bool:
    """Whether there are files that may be replaced; UsageError if there are some that may not.

    They may if overwriting is asked for, or if nothing was changed or run since init wrote them.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name another folder with --out")
    if not out.is_dir() or all(entry.name == DATA for entry in out.iterdir()):
        return False
    if not overwrite and not _is_untouched(out):
        raise UsageError(
            f"{out}: already exists, and a run may depend on its detnas.yaml; name another with "
            "--name or --out, or pass --overwrite to replace its files (runs are left as they are)"
        )
    return True


def _is_untouched(out: Path) -> bool:
    """Whether a folder is as init left it, and none of its steps has run."""
    paths = [path for path in out.iterdir() if path.name != DATA]
    if not all(path.is_file() for path in paths) or out / CONFIG not in paths:
        return False
    try:
        texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
        text, _, seal = texts[CONFIG].rpartition(_SEAL)
        return seal == _seal(texts | {CONFIG: text}) and not load_config(out / CONFIG).run_dir.exists()
    except (OSError, ValueError, DetNASError):  # ValueError: not text
        return False


def _seal(texts: Mapping[str, str]) -> str:
    """The last line of detnas.yaml: a hash of the folder's files."""
    told = json.dumps(sorted(texts.items())).encode()
    return f"{hashlib.sha256(told).hexdigest()[:16]}\n"


def data_section(derived: Derived, sources: Sources, places: Places) -> Tree:
    """The config's section `data`."""
    tree: Tree = {}
    pretraining, found = derived.pretraining, derived.found
    if pretraining.trains:
        folder = places.crops if pretraining.folder is None else pretraining.folder
        tree["classification"] = {
            "train": Value(
                places.in_file(folder),
                "`detnas data crops` cuts them from the training boxes"
                if pretraining.kind == "crops"
                else "",
            ),
            "holdout": Value(
                max(1, min(10_000, pretraining.images // 20)), "a twentieth; used only by a search by top-1"
            ),
            "image_size": Value(derived.classification_side, _side_reason(derived)),
        }
    detection: Tree = {"format": Value(sources.form)}
    for name, split in sources.splits.items():
        detection[name] = Value(_source(split, places))
    if found.test_holdout:
        detection["test_holdout"] = Value(
            found.test_holdout,
            "images set apart for the reported AP, as you named none: a fifth, at most 5,000, unless copies "
            "need more; nothing is trained on them",
        )
    if derived.holdout:
        detection["holdout"] = Value(
            derived.holdout, "training images set apart to guide the search: a fifth, at most 5,000 [P]"
        )
    if sources.form == "voc":
        detection["classes"] = Value(
            derived.found.classes, "those of the training set; their order gives the labels"
        )
    if derived.found.mistakes:
        detection["max_bad_annotations"] = Value(
            derived.found.mistakes, "the number of incorrect entries found; they are left out"
        )
    for key in ("exif", "box_form", "box_units", "crowds"):
        value = getattr(found.conventions, key)
        if value != getattr(DEFAULT, key):
            detection[key] = Value(value, "as you said")
    if derived.holdout and found.groups:
        detection["copies"] = Value(
            COPIES,
            f"{len(found.groups):,} group{'s'[: len(found.groups) != 1]} of images of one picture each, "
            "which hold-outs keep together",
        )
    tree["detection"] = detection
    if found.conventions.strict:
        tree["strict"] = Value(True, "as you said: no annotation may be corrected")
    return tree


def _side_reason(derived: Derived) -> str:
    if derived.pretraining.kind == "folder":
        return "[R]" if derived.machine.gpus else "for a CPU; 224 is the paper's"
    return f"crops have a median of {derived.pretraining.side:.0f} pixels; within what the machine affords"


def _source(split: CocoSplit | VocSplit, places: Places) -> dict[str, object]:
    if isinstance(split, CocoSplit):
        return {"images": places.in_file(split.images), "annotations": places.in_file(split.annotations)}
    source: dict[str, object] = {"root": places.in_file(split.root)}
    if split.image_set is not None:
        source["image_set"] = split.image_set
    flags = ("one_based", "backgrounds")
    return source | {flag: True for flag in flags if getattr(split, flag)}


def header(name: str, derived: Derived, plan: Plan, search: str) -> list[str]:
    """The comment that detnas.yaml opens with: the data, and the commands in order."""
    found = derived.found
    boxes = int(found.boxes_by_class().sum())
    classes = f"{len(found.classes)} class{'es' if len(found.classes) != 1 else ''}"
    opening = (
        f"{name}: {len(found.train):,} training images, {boxes:,} boxes, {classes}. Written by `detnas init` "
        f"for {derived.machine}. PLAN.md has the plan; each value has its reason next to it."
    )
    lines = [*textwrap.wrap(opening, 106), ""]
    for step in plan.steps:
        lines.append(f"  {step.command}")
        if " search " in step.command:
            lines.append(f"  # or as trials, with NNI's web UI: nnictl create --config {search}")
    lines += ["", *textwrap.wrap(f"Pre-training: {derived.pretraining.reason}.", 106)]
    return [*lines, "", "[R] the authors' code, [P] the paper."]


def search_yaml(name: str, derived: Derived, command: str) -> str:
    """search.yaml, for `nnictl create`."""
    machine = derived.machine
    concurrency = machine.gpus or min(machine.cores, _TRIALS_A_CPU)
    sets = ["hardware.devices=1"] if machine.gpus > 1 else []
    if not machine.gpus:
        sets = ["hardware.workers=0", f"hardware.threads={max(1, machine.cores // concurrency)}"]
    overrides = "".join(f" --set {override}" for override in sets)
    lines = [
        "# The search of detnas.yaml as an NNI experiment, with its web UI; run `finetune` first.",
        f"#   nnictl create --config {command}",
        "# Paths are relative to this file.",
        f"experimentName: {scalar(f'detnas-{name}')}",
        "searchSpaceFile: search_space.json",
        "trialCodeDirectory: .",
        f"trialCommand: detnas trial -c {CONFIG}{overrides}",
        f"trialConcurrency: {concurrency} # {'GPUs' if machine.gpus else 'trials share the cores'}",
    ]
    if machine.gpus > 1:  # with one, NNI's scheduler would start no trial (docs/nni.md)
        lines.append("trialGpuNumber: 1")
    lines += [
        "tuner:",
        "  codeDirectory: .",
        "  className: detnas_nni.search.tuner.DetNASTuner",
        "  classArgs:",
        f"    config: {CONFIG}",
        "trainingService:",
        "  platform: local",
        *(["  useActiveGpu: false"] if machine.gpus > 1 else []),
    ]
    return "\n".join(lines) + "\n"


def plan_md(name: str, plan: Plan, problems: Sequence[str], corrected: Sequence[str]) -> str:
    """PLAN.md: the commands with their times, what may be wrong with the data, and what was corrected."""
    rows = [
        f"| {number} | `{step.command}` | {_hours(step.seconds)} | {step.what} |"
        for number, step in enumerate(plan.steps, start=1)
    ]
    total = [] if plan.seconds is None else [f"| | together | {plan.seconds / 3600:.2f} | |"]
    found: list[str] = []
    for title, texts in (
        ("What may be wrong with the data", problems),
        ("How the annotations were read", corrected),
    ):
        if texts:
            found += ["", f"{title}:", "", *(f"- {text}" for text in texts)]
    return "\n".join(
        [
            f"# The plan of {name}",
            "",
            "| | command | hours, estimated | |",
            "|---|---|---|---|",
            *rows,
            *total,
            "",
            *(f"- {remark}." for remark in plan.remarks),
            *found,
            "",
        ]
    )


def _hours(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 3600:.2f}"


def write(out: Path, texts: dict[str, str], space: dict) -> None:
    """Write the folder's files; detnas.yaml last, so that a folder with it is complete."""
    texts = {**texts, "search_space.json": json.dumps(space, indent=1) + "\n"}
    texts[CONFIG] += _SEAL + _seal(texts)
    for name in {COPIES, STOCK, NARROWED} - set(texts):
        (out / name).unlink(missing_ok=True)  # from other data, or from another start
    for name in sorted(texts, key=lambda name: name == CONFIG):
        write_text(out / name, texts[name])
