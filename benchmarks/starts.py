"""Which start gives the better net in equal time, and does a search help, on one CPU thread.

    DETNAS_REAL_DATA=/path/to/bccd python -m benchmarks.starts --minutes 30 --out runs/starts

The folder has images/, train.json and val.json, which is tested on; its name stands in the lines.

Every arm gets the same CPU time, on which its steps are planned as `detnas init` plans them: a few of them
are measured in CPU seconds first (not counted), the schedules are cut to the time, and any remainder goes to
the detector's trainings. Before the final net is trained, a few of its own steps are measured, too, and its
training gets as many as fit into what is left: a narrow net has more of them. Each line has the time that was
really used, including the test split's evaluation, which is not planned for.

- `crops`: the tiny space, pre-trained on crops of the boxes, searched, retrained from the supernet's weights;
- `search-0.5`, `-0.75`, `-1`: lite0 from ImageNet weights, searched within that share of the published net's
  MACs, near `stock` narrowed as far as that goes, retrained from the supernet's weights;
- `stock`: the published lite0 from ImageNet weights, trained alone; `stock-0.75`, `stock-0.5` with half of
  the inner channels pruned (and kernels of 3x3) where that saves most, until it has that share of the MACs,
  or until all blocks are halved, which gives 0.51;
- `frozen`, `frozen-0.75`, `frozen-search-0.75`: as `stock`, `stock-0.75` and `search-0.75`, but the stem and
  the first two stages stay as they start (`finetune.freeze`);
- `random`: the published lite0 from random weights.

One line of JSON per run is appended to OUT/lines.jsonl; a run that has a line is not repeated. At the end a
table of all lines of this set with these minutes is printed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from detnas_nni.architecture import Architecture, read_document
from detnas_nni.cli.arguments import above_zero
from detnas_nni.config import Config
from detnas_nni.data.crops import write_crops
from detnas_nni.data.splits import open_detection
from detnas_nni.finished.retrain import retrain
from detnas_nni.init import Draft
from detnas_nni.init.derived import FROZEN_STAGES, Derived, Machine, Schedule
from detnas_nni.init.look import look
from detnas_nni.init.plan import estimate, fit
from detnas_nni.init.pretraining import IMAGENET_SPACE, choose
from detnas_nni.init.sources import Sources, coco_sources
from detnas_nni.init.timing import TimedDetection, measure, on_one_device, quiet, timed
from detnas_nni.init.write import Places
from detnas_nni.search.session import search_in_process
from detnas_nni.supernet.steps import finetune, pretrain

_LINES = "lines.jsonl"

ARMS = (
    *("crops", "search-0.5", "search-0.75", "search-1"),
    *("stock", "stock-0.75", "stock-0.5", "random"),
    *("frozen", "frozen-0.75", "frozen-search-0.75"),
)


@dataclass(frozen=True)
class Run:
    """One arm with one seed."""

    arm: str
    seed: int
    minutes: float
    data: Path
    out: Path

    @property
    def key(self) -> tuple[str, str, int, float]:
        return self.data.name, self.arm, self.seed, self.minutes

    @property
    def folder(self) -> Path:
        return self.out / f"{self.data.name}-{self.arm}-{self.seed}-{self.minutes:g}min"

    @property
    def searches(self) -> bool:
        return self.arm == "crops" or "search" in self.arm

    @property
    def share(self) -> float:
        """Of the published net's MACs, to which the net or the search is limited."""
        return float(self.arm.rpartition("-")[2]) if "-" in self.arm else 1.0

    @cached_property
    def sources(self) -> Sources:
        train, test = (
            [str(self.data / "images"), str(self.data / f"{part}.json")] for part in ("train", "val")
        )
        return coco_sources(train, None, test, "starts")

    @cached_property
    def derived(self) -> Derived:
        """What `detnas init` would derive the experiment from, on one core."""
        found = look(self.sources)
        kind = "crops" if self.arm == "crops" else "imagenet"
        return Derived(
            found, Machine(cores=1), choose(found, kind=kind), self.seed, self.searches, self.share
        )

    def config(self, schedule: Schedule) -> Config:
        derived = self.derived
        config = Draft(derived, self.sources, Places(self.folder, "starts")).config(schedule, measured=True)
        freeze = {"freeze": FROZEN_STAGES if self.arm.startswith("frozen") else 0}
        retrain = {}
        if config.retrain.finetune is not None:
            retrain["finetune"] = config.retrain.finetune.model_copy(update=freeze)
        if not self.searches:
            retrain["init"] = "scratch" if self.arm == "random" else "imagenet"
        return config.model_copy(
            update={
                "finetune": config.finetune.model_copy(update=freeze),
                "retrain": config.retrain.model_copy(update=retrain),
            }
        )


@dataclass(frozen=True)
class Plan:
    """The schedule that fills a run's time.

    Attributes:
        schedule: its steps.
        step: CPU seconds of a step of the detector's training, as measured for the plan.
    """

    schedule: Schedule
    step: float

    @classmethod
    def of(cls, run: Run) -> Plan:
        """Planned as `detnas init` does, from steps that are measured now."""
        derived, limit = run.derived, 60 * run.minutes
        wanted = derived.schedule()
        speeds = measure(run.config(wanted), crops=run.arm == "crops", clock=time.process_time)
        speeds = replace(speeds, start=0.0)  # all steps run in one process
        schedule, _ = fit(derived, wanted, speeds, limit)
        left = limit - sum(estimate(derived, schedule, speeds).values())
        now = {name: getattr(schedule, name) for name in ("finetune", "retrain")}
        trained = sum(now.values()) if run.searches else schedule.retrain
        more = 1 + max(0.0, left / speeds.finetune.step) / trained
        longer = {name: int(steps * more) for name, steps in now.items()}
        return cls(replace(schedule, **longer, least=None), round(speeds.finetune.step, 4))


def done(run: Run) -> dict[str, Any]:
    """Do a run from its beginning and return its line."""
    shutil.rmtree(run.folder, ignore_errors=True)
    commit = _commit()
    plan = Plan.of(run)
    config, seconds = run.config(plan.schedule), {}
    if run.arm == "crops":
        with _cpu(seconds, "crops"):
            images = open_detection(config.data.detection, config.seed).train
            write_crops(images, config.data.classification.train, seed=config.seed)
        with _cpu(seconds, "pretrain"):
            pretrain(config)
    if run.searches:
        with _cpu(seconds, "finetune"):
            finetune(config)
        with _cpu(seconds, "search"):
            net = search_in_process(config)
    else:
        net = run.folder / "net.json"
        Architecture(IMAGENET_SPACE, run.derived.near).save(net)
    schedule = filled(run, plan.schedule, net, 60 * run.minutes - sum(seconds.values()))
    config = run.config(schedule)
    with _cpu(seconds, "retrain"):
        [results] = retrain(config, [net])
    document = read_document(results)
    measured = document["detection"]
    return {
        "data": run.data.name,
        "arm": run.arm,
        "seed": run.seed,
        "minutes": run.minutes,
        "test": {"AP": measured.pop("default"), **measured},
        "ops": document["ops"],
        "backbone_macs": document["cost"]["backbone_macs"],
        "schedule": {key: value for key, value in asdict(schedule).items() if key != "least"},
        "lr": (config.retrain.finetune or config.finetune).lr,
        "candidates": config.search.evaluations if run.searches else 0,
        "cpu_seconds_a_step": plan.step,
        "cpu_seconds": {**seconds, "together": round(sum(seconds.values()), 1)},
        "weights": document["start"],
        "commit": commit,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, 1 thread",
        "torch": torch.__version__,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def filled(run: Run, schedule: Schedule, net: Path, left: float) -> Schedule:
    """The schedule with as many steps of the final net as fit into the CPU seconds that are left."""
    with TemporaryDirectory() as folder, quiet():
        short = on_one_device(run.config(schedule), Path(folder))
        job = TimedDetection(short, short.finetune, clock=time.process_time)
        pace = timed(job, Path(folder), Architecture.from_json(net))
    steps = max(run.derived.schedule().cut(0.0).retrain, int((left - pace.start) / pace.step))
    # Without a search it is the only training, and the config has one number for it.
    return replace(schedule, retrain=steps, **({} if run.searches else {"finetune": steps}))


@contextmanager
def _cpu(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.process_time()
    yield
    seconds[step] = round(time.process_time() - began, 1)


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + (" and changes" if git("status", "--porcelain") else "")


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: one row per arm, with AP on the test split for each seed, and their mean."""
    rows = [
        "| arm | MACs, million | steps of the supernet | of the net | CPU s | AP by seed | mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        of_arm = sorted((line for line in lines if line["arm"] == arm), key=lambda line: line["seed"])
        if not of_arm:
            continue
        aps = [line["test"]["AP"] for line in of_arm]

        def several(value: Callable[[dict[str, Any]], float], of_arm: Any = of_arm) -> str:
            found = sorted(round(value(line)) for line in of_arm)
            return str(found[0]) if found[0] == found[-1] else f"{found[0]}–{found[-1]}"

        macs = several(lambda line: line["backbone_macs"] / 1e6)
        searched = of_arm[0]["candidates"] > 0
        supernet = several(lambda line: line["schedule"]["finetune"]) if searched else "-"
        net = several(lambda line: line["schedule"]["retrain"])
        cpu = several(lambda line: line["cpu_seconds"]["together"])
        each = ", ".join(f"{ap:.3f}" for ap in aps)
        rows.append(f"| {arm} | {macs} | {supernet} | {net} | {cpu} | {each} | {statistics.mean(aps):.3f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--minutes", type=above_zero, default=30.0, help="CPU minutes per run (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=ARMS, metavar="ARM")
    parser.add_argument("--out", type=Path, default=Path("runs/starts"), metavar="DIR")
    options = parser.parse_args()
    if "DETNAS_REAL_DATA" not in os.environ:
        parser.error("DETNAS_REAL_DATA does not name the folder of BCCD (images, train.json, val.json)")
    data, out = Path(os.environ["DETNAS_REAL_DATA"]).resolve(), options.out.resolve()
    torch.set_num_threads(1)
    logging.getLogger().setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for arm in options.only:
            run = Run(arm, seed, options.minutes, data, out)
            have = {
                (line["data"], line["arm"], line["seed"], line["minutes"])
                for line in read_lines(out / _LINES)
            }
            if run.key in have:
                continue
            line = done(run)
            with (out / _LINES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{arm}, seed {seed}: AP {line['test']['AP']:.4f}", flush=True)
    lines = read_lines(out / _LINES)
    print(table([line for line in lines if (line["data"], line["minutes"]) == (data.name, options.minutes)]))


if __name__ == "__main__":
    main()
