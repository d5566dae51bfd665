"""One run: what it trains or measures, with the package's own steps, and the raw lines that it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nni.nas.execution import SequentialExecutionEngine

from benchmarks.evidence.lines import Lines
from benchmarks.evidence.noise import resampled_ap
from benchmarks.evidence.plan import Ops, Run, spelled
from benchmarks.evidence.settings import Part, Protocol, Study
from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.cost.table import counts
from detnas_nni.errors import DetNASError
from detnas_nni.evaluation.candidate import Bar, CandidateEvaluation, Result, measure_weights
from detnas_nni.evaluation.tasks import Metrics, Report, unreported
from detnas_nni.finished.retrain import retrain
from detnas_nni.models.batchnorm import fold_batch_norm
from detnas_nni.search.best import versions
from detnas_nni.search.evaluator import DetNASEvaluator
from detnas_nni.search.session import SearchSession
from detnas_nni.supernet.steps import finetune, pretrain
from detnas_nni.training.weights import load_weights

CALIBRATION_SEED = 0
"""All candidates of all searches are calibrated on the same images, so that searches share evaluations."""

_HERE = Path(__file__).parent
_DIGITS = 6  # of numbers by which nothing is selected


class OtherWeightsError(DetNASError):
    """A supernet that was trained again is not the one that the raw lines were measured with."""


def execute(study: Study, run: Run) -> None:
    """Do a run and append its lines. Unfinished work is resumed."""
    part = study.parts[run.part]
    _KINDS[run.kind](part, run, Lines(study.lines))


def artefact(part: Part, run: Run) -> Path | None:
    """The weights that a run leaves for others; None for a net that is not trained."""
    if run.kind == "supernets":
        config = _supernet_config(part, run.supernet or f"s{run.seed}")
        folder = config.finetune_dir if run.supernet else config.pretrain_dir
        return folder / "supernet.pt"
    found = sorted(_net_folder(part, run).glob("retrain/*/detector/net.pt"))
    return found[0] if found else None


def _supernet(part: Part, run: Run, lines: Lines) -> None:
    config = _supernet_config(part, run.supernet or f"s{run.seed}")
    train, settings = (finetune, config.finetune) if run.supernet else (pretrain, config.pretrain)
    folder = config.finetune_dir if run.supernet else config.pretrain_dir
    is_resumed, clock = folder.exists(), _Clock()
    train(config)
    weights, known = _hash(folder / "supernet.pt"), lines.read("supernets").get(run.key)
    if known is not None and known.get("weights") != weights:
        shutil.rmtree(folder)
        raise OtherWeightsError(
            f"{run.key}: its weights were gone, and trained again on this machine it has others than those "
            "that the raw lines were measured with; restore these, or use `run --anew` to remove the lines"
        )
    values = {
        "weights": weights,
        "stage": "finetune" if run.supernet else "pretrain",
        "set": list(_variant(part, run.supernet)),
        "seed": run.seed,
        "steps": settings.steps,
        **clock.read(is_resumed),
    }
    lines.append("supernets", run.key, {**values, **_provenance(part, run)})


def _hash(file: Path) -> str:
    """A hash of a supernet's numbers alone: `file_hash` would tell where the data lay, by the fingerprint."""
    digest = hashlib.sha256()
    for name, tensor in load_weights(file).state.items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _net(part: Part, run: Run, lines: Lines) -> None:
    (ops,) = run.ops
    folder = _net_folder(part, run)
    is_resumed, clock = folder.exists(), _Clock()
    config = part.load(*_net_overrides(part, run, folder))
    architecture = Architecture(config.space.name, ops)
    file = folder / "architecture.json"
    architecture.save(file)
    (path,) = retrain(config, [file])
    seconds = clock.read(is_resumed)
    results = json.loads(path.read_text(encoding="utf-8"))
    weights = Path(results["weights"]["file"])
    # A hold-out is trained on in the end; only a separate search split means anything here.
    has_search_split = config.require("data.detection").search is not None
    settings = config.retrain.finetune or config.finetune
    number = counts(architecture)
    values = {
        "ops": list(ops),
        "start": run.start,
        "seed": run.seed,
        "test": _rounded(results["detection"]),
        "search": _rounded(measure_weights(config, weights, "search")) if has_search_split else None,
        "macs": number["backbone_macs"],
        "params": number["backbone_params"],
        "steps": settings.steps,
        **seconds,
    }
    lines.append("nets", run.key, {**values, **_provenance(part, run)})


def _fitness(part: Part, run: Run, lines: Lines) -> None:
    known = lines.read("fitness")
    with _evaluation(part, run, lines) as evaluation:
        for key, ops in zip(run.keys, run.ops, strict=True):
            if key not in known:
                evaluation.evaluate(Architecture(evaluation.config.space.name, ops))


def _search(part: Part, run: Run, lines: Lines) -> None:
    clock = _Clock()
    with _evaluation(part, run, lines) as evaluation:
        name = f"{run.supernet}-{run.guide}-{run.strategy}-{run.seed}"
        config = _supernet_config(
            part,
            run.supernet,
            _path("run_dir", part.load().run_dir / "searches"),
            f"search.name={name}",
            f"search.strategy={run.strategy}",
            f"search.seed={run.seed}",
            *_guide(run),
        )
        with SearchSession(config) as session:
            session.run(SequentialExecutionEngine(continue_on_failure=True), DetNASEvaluator(evaluation))
            entries = session.journal.evaluations
    candidates = [[list(entry.ops), entry.fitness] for entry in entries if entry.fitness is not None]
    values = {
        "supernet": run.supernet,
        "guide": run.guide,
        "strategy": run.strategy,
        "seed": run.seed,
        "candidates": candidates,
        **clock.read(is_resumed=False),
    }
    lines.append("searches", run.key, {**values, **_provenance(part, run)})


def _noise(part: Part, run: Run, lines: Lines) -> None:
    weights = artefact(part, run)
    if weights is None:
        raise FileNotFoundError(f"{_net_folder(part, run)}: has no trained net; `run` trains it first")
    (ops,) = run.ops
    config = part.load()
    ap, resamples = resampled_ap(config, weights, part.noise.resamples)
    values = {"ops": list(ops), "ap": ap, "resamples": [round(value, _DIGITS) for value in resamples]}
    lines.append("noise", run.key, {**values, **_provenance(part, run)})


_KINDS: Mapping[str, Callable[[Part, Run, Lines], None]] = {
    "supernets": _supernet,
    "nets": _net,
    "fitness": _fitness,
    "searches": _search,
    "noise": _noise,
}


class _RememberingEvaluation(CandidateEvaluation):
    """Evaluates no candidate twice: known results come from raw lines, and new ones become lines."""

    def __init__(self, config: Config, part: Part, run: Run, lines: Lines, decoded: Path) -> None:
        super().__init__(config, decoded=decoded)
        self._lines = lines
        self._provenance = _provenance(part, run, short=True)
        self._protocol = part.protocols.get(run.protocol, Protocol())
        measured_by = run.protocol if run.guide == "ap" else "top-1"
        self._prefix = f"{run.part}/fitness/{run.supernet}/{measured_by}/"
        self._run = run
        self._known = {
            tuple(line["ops"]): line["fitness"]
            for key, line in lines.read("fitness").items()
            if key.startswith(self._prefix)
        }

    def evaluate(
        self,
        architecture: Architecture,
        *,
        seed: int | None = None,
        report: Report = unreported,
        bar: Bar | None = None,
    ) -> Result:
        fitness = self._known.get(architecture.ops)
        if fitness is not None:
            report({"default": fitness})
            return Result({"default": fitness}, self._table.cost(architecture), 0.0, parts=(fitness,))
        clock = _Clock()
        if self._protocol.statistics == "recalibrated":
            metrics = super().evaluate(architecture, seed=CALIBRATION_SEED, report=report).metrics
        else:
            metrics = self._uncalibrated(architecture)
        self._write(architecture.ops, metrics, clock)
        parts = (metrics["default"],)
        return Result(metrics, self._table.cost(architecture), clock.wall(), parts=parts)

    def _uncalibrated(self, architecture: Architecture) -> Metrics:
        net = self.net(architecture)
        if self._protocol.statistics == "reset":
            for module in net.modules():
                if hasattr(module, "reset_running_stats"):
                    module.reset_running_stats()
        fold_batch_norm(net)
        return self.task.measure(net)

    def _write(self, ops: Ops, metrics: Metrics, clock: _Clock) -> None:
        fitness = metrics["default"]
        others = {key: round(metrics[key], _DIGITS) for key in ("AP50", "AP75") if key in metrics}
        values = {"ops": list(ops), "fitness": fitness, **others, "cpu_seconds": clock.cpu()}
        self._lines.append("fitness", self._prefix + spelled(ops), {**values, **self._provenance})
        self._known[ops] = fitness


@contextmanager
def _evaluation(part: Part, run: Run, lines: Lines) -> Iterator[_RememberingEvaluation]:
    """The evaluation with a run's supernet and protocol; its decoded images are in a temporary folder."""
    protocol = part.protocols.get(run.protocol, Protocol())
    settings = (*protocol.set, *_guide(run), f"search.seed={CALIBRATION_SEED}")
    config = _supernet_config(part, run.supernet, *settings)
    with tempfile.TemporaryDirectory(prefix="evidence-") as folder:
        yield _RememberingEvaluation(config, part, run, lines, Path(folder) / "decoded")


class _Clock:
    """CPU seconds of this process, and elapsed seconds."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def cpu(self) -> float:
        return round(time.process_time() - self._cpu, 2)

    def wall(self) -> float:
        return round(time.perf_counter() - self._wall, 2)

    def read(self, is_resumed: bool) -> dict[str, float | None]:
        """The times; None if part of the work was done before."""
        if is_resumed:
            return {"cpu_seconds": None, "seconds": None}
        return {"cpu_seconds": self.cpu(), "seconds": self.wall()}


def _guide(run: Run) -> tuple[str, ...]:
    return ("evaluation.task=classification",) if run.guide == "top1" else ()


def _supernet_config(part: Part, name: str, *overrides: str) -> Config:
    seed, _, _ = name.removeprefix("s").partition("-")
    folder = part.load().run_dir / "supernets"
    return part.load(
        f"seed={seed}",
        _path("pretrain_dir", folder / f"s{seed}" / "pretrain"),
        _path("finetune_dir", folder / name / "finetune"),
        *_variant(part, name),
        *overrides,
    )


def _variant(part: Part, name: str) -> tuple[str, ...]:
    variant = name.partition("-")[2]
    return part.supernet_variants[variant] if variant else ()


def _net_folder(part: Part, run: Run) -> Path:
    (ops,) = run.ops
    return part.load().run_dir / "nets" / f"{spelled(ops)}-{run.start}-{run.seed}"


def _net_overrides(part: Part, run: Run, folder: Path) -> tuple[str, ...]:
    common = (f"seed={run.seed}", _path("run_dir", folder))
    if run.start == "pretrained":
        supernet = _supernet_config(part, f"s{part.supernets[0]}").pretrain_dir / "supernet.pt"
        return (*common, _path("retrain.weights", supernet))
    return (*common, f"retrain.init={'classification' if run.start == 'own' else run.start}")


def _path(key: str, path: Path) -> str:
    return f"{key}={json.dumps(str(path))}"


def _rounded(metrics: Metrics) -> dict[str, float]:
    named = {"AP" if key == "default" else key: value for key, value in metrics.items()}
    return {key: round(value, _DIGITS) for key, value in named.items()}


def _provenance(part: Part, run: Run, *, short: bool = False) -> dict[str, Any]:
    """How a number can be traced. Only the kind of the machine is named."""
    values: dict[str, Any] = {"part": run.part, "config": part.identity, "commit": _commit()}
    if not short:
        values["versions"] = versions()
        values["machine"] = f"{_processor()}, {os.cpu_count()} cores"
    values["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    return values


def _commit() -> str:
    command = ["git", "-C", str(_HERE), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
