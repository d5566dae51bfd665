"""What a report reads: a search by its config or its folder, and the published nets of its space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import search_spaces
from detnas_nni.architecture import Architecture, read_document
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.config.run_folder import BEST
from detnas_nni.cost.table import Cost, cost_table
from detnas_nni.errors import ArchitectureError, EvaluationError, UsageError
from detnas_nni.search.journal import (
    Evaluation,
    Journal,
    JournalError,
    journal_path,
    recorded_identity,
    search_identity,
)

STRATEGIES = {
    "detnas": "DetNAS evolution",
    "pareto": "evolution of the front (NSGA-II)",
    "regularized_evolution": "regularized evolution (NNI)",
    "random": "random search",
}
"""Readable names of the config's strategies."""

AP, VOC_MAP, TOP1 = "AP", "VOC mAP", "top-1"


@dataclass(frozen=True)
class ReportedSearch:
    """One search, finished or not. What a folder alone does not record is None."""

    name: str
    """what distinguishes it: the config's file or the folder, as the user named it"""
    folder: Path
    evaluations: tuple[Evaluation, ...]
    """in the journal's order; at least one"""
    fitness: str
    """the measure that guides it: AP, VOC mAP or top-1, all fractions of one"""
    space: str | None
    strategy: str | None
    """a key of the config: detnas, pareto, regularized_evolution or random"""
    seed: int | None
    supernet: str | None
    """SHA-256 of the supernet's file"""
    config_changed: bool = False
    """whether the config, as read now, differs from the one that the search was started with"""

    @property
    def strategy_name(self) -> str:
        return "strategy unknown" if self.strategy is None else STRATEGIES.get(self.strategy, self.strategy)

    @property
    def finished(self) -> list[Evaluation]:
        return [evaluation for evaluation in self.evaluations if evaluation.fitness is not None]

    @property
    def failed(self) -> list[Evaluation]:
        return [evaluation for evaluation in self.evaluations if evaluation.error is not None]

    @property
    def stopped(self) -> list[Evaluation]:
        """Those that were given up on a part of the search split."""
        return [evaluation for evaluation in self.evaluations if evaluation.stopped]

    def best(self, count: int) -> list[Evaluation]:
        """Those of highest fitness, best first; of two equal ones the earlier."""
        return sorted(self.finished, key=lambda e: (-e.fitness, e.id))[:count]


def of_config(config: Config, name: str) -> ReportedSearch:
    """The search of a config.

    Raises:
        EvaluationError: it has evaluated nothing yet.
        JournalError: its journal is damaged, or has impossible numbers.
        ArchitectureError: the journal holds candidates of another space than the config's.
    """
    folder = config.search_dir
    evaluations = _evaluations(folder, f"`detnas search -c {name}`")
    for evaluation in evaluations:
        _check_numbers(evaluation, journal_path(folder))
        try:
            Architecture(config.space.name, evaluation.ops)
        except ArchitectureError as error:
            raise ArchitectureError(
                f"{journal_path(folder)}: evaluation {evaluation.id} is not of the config's space ({error}); "
                "pass the config that the search was run with"
            ) from None
    identity = recorded_identity(folder)
    supernet = identity.get("supernet")
    now = search_identity(config, str(supernet))["config"]
    metric = AP if config.evaluation.metric == "coco" else VOC_MAP
    return ReportedSearch(
        name=name,
        folder=folder,
        evaluations=evaluations,
        fitness=metric if config.evaluation.task == "detection" else TOP1,
        space=config.space.name,
        strategy=config.search.strategy,
        seed=config.search_seed,
        supernet=supernet,
        config_changed=identity.get("config") not in (None, now),
    )


def of_folder(folder: Path) -> ReportedSearch:
    """The search in a folder, such as runs/NAME/search; its strategy is known once an export has written it.

    Raises EvaluationError, JournalError or ArchitectureError like `of_config`, the last for a damaged
    best_architecture.json.
    """
    evaluations = _evaluations(folder, "`detnas search`")
    best = folder / BEST
    document: Mapping[str, Any] = read_document(best) if best.is_file() else {}
    provenance = document.get("provenance")
    provenance = provenance if isinstance(provenance, Mapping) else {}
    seed = provenance.get("seed")
    return ReportedSearch(
        name=str(folder),
        folder=folder,
        evaluations=evaluations,
        fitness=_fitness(evaluations),
        space=_text(document.get("space")),
        strategy=_text(provenance.get("strategy")),
        seed=seed if isinstance(seed, int) else None,
        supernet=recorded_identity(folder).get("supernet"),
    )


def to_compare(path: Path) -> ReportedSearch:
    """A search named by its config or by its folder. Raises UsageError if it is neither."""
    if path.is_dir():
        if not journal_path(path).exists():
            raise UsageError(
                f"--compare {path}: not a search's folder, which has a journal.jsonl (runs/NAME/search); "
                "name that, or the config of the search"
            )
        return of_folder(path)
    if not path.is_file():
        raise UsageError(f"--compare {path}: does not exist; name a config, or the folder of a search")
    return of_config(load_config(path), str(path))


def _evaluations(folder: Path, command: str) -> tuple[Evaluation, ...]:
    path = journal_path(folder)
    evaluations = tuple(Journal(path).evaluations)
    if not evaluations:
        state = "has no evaluation yet" if path.exists() else "is not there"
        raise EvaluationError(
            f"{path}: {state}, so there is nothing to report; run {command} (or nnictl create): a report "
            "can be made as soon as the first candidate is evaluated"
        )
    return evaluations


def _check_numbers(evaluation: Evaluation, path: Path) -> None:
    """Refuse values that a search never writes, but an edit may, and that would break a figure."""
    missing = {"macs", "params"} - evaluation.cost.keys()
    if missing:
        raise JournalError(f"{path}: evaluation {evaluation.id}: cost lacks {' and '.join(sorted(missing))}")
    if evaluation.seconds is not None and not 0 <= evaluation.seconds < math.inf:
        raise JournalError(
            f"{path}: evaluation {evaluation.id}: seconds is {evaluation.seconds}, expected a finite number "
            "from 0"
        )


def _fitness(evaluations: Sequence[Evaluation]) -> str:
    """The measure, by the names of the metrics: VOC's and COCO's have their own, and top-1 has none."""
    for evaluation in evaluations:
        if evaluation.metrics is not None:
            names = evaluation.metrics.keys()
            return VOC_MAP if "mAP07" in names else AP if "AP50" in names else TOP1
    return "fitness"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_FOLDER = Path(search_spaces.__file__).parent / "published"

_WORDS = {"detnas": "DetNAS", "shufflenetv2": "ShuffleNetV2", "fpn": "FPN", "coco": "COCO", "voc": "VOC"}
_WORDS |= {"retinanet": "RetinaNet", "300m": "300M", "1.3g": "1.3G", "3.8g": "3.8G"}


@dataclass(frozen=True)
class PublishedNet:
    """A net of the paper, or a hand-crafted one for comparison; its cost in the search's convention."""

    name: str
    architecture: Architecture
    cost: Cost


def published_nets(space: str, resolution: int) -> list[PublishedNet]:
    """Those of a space, ascending by MACs at a resolution in pixels; most spaces have none."""
    nets = []
    for path in sorted(_FOLDER.glob("*.json")):
        document = read_document(path)
        if document.get("space") == space:
            architecture = Architecture.from_dict(document, str(path))
            cost = cost_table(space, resolution).cost(architecture)
            nets.append(PublishedNet(_title(path.stem), architecture, cost))
    return sorted(nets, key=lambda net: (net.cost.macs, net.name))


def _title(stem: str) -> str:
    return " ".join(_WORDS.get(word, word) for word in stem.split("-"))
