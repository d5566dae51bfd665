"""Does a high fitness in the supernet mean a high AP when the net is trained on its own?"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.architecture import Architecture, read_document
from detnas_nni.config.run_folder import results_of
from detnas_nni.errors import ArchitectureError
from detnas_nni.report.searches import ReportedSearch

LEAST = 3
"""Pairs below which a rank correlation says nothing: of two it is always 1 or -1."""


@dataclass(frozen=True)
class Pair:
    """One net: its fitness in the search, and its AP on the test split after training on its own."""

    architecture: Architecture
    supernet: float
    retrained: float


@dataclass(frozen=True)
class Agreement:
    """The nets that started their detector training alike: at a classifier, the supernet, or nothing.

    `tau` (Kendall's, b) and `rho` (Spearman's) are None for fewer than three nets, and where one of the two
    measures is the same for all of them.
    """

    init: str
    pairs: tuple[Pair, ...]
    tau: float | None
    rho: float | None


def agreements(search: ReportedSearch, run_dir: Path, space: str) -> list[Agreement]:
    """Of the run's nets that are both in the search's journal and retrained, by where they started.

    Raises ArchitectureError for a results.json that is not as `detnas retrain` writes it.
    """
    fitness = {e.ops: e.fitness for e in search.evaluations if e.fitness is not None}
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for path in results_of(run_dir):
        document = read_document(path)
        architecture = Architecture.from_dict(document, str(path), trusted=(space,))
        detection = document.get("detection")
        retrained = detection.get("default") if isinstance(detection, dict) else None
        if isinstance(retrained, bool) or not isinstance(retrained, int | float):
            raise ArchitectureError(
                f"{path}: key 'detection.default' is {retrained!r}, expected a share of one; delete the file "
                "and let `detnas retrain` write it again"
            )
        # COCO's AP is -1 where there is nothing to find.
        if architecture.space == space and architecture.ops in fitness and retrained >= 0:
            pair = Pair(architecture, fitness[architecture.ops], float(retrained))
            pairs[str(document.get("init"))].append(pair)
    return [Agreement(init, tuple(found), *correlations(found)) for init, found in sorted(pairs.items())]


def correlations(pairs: Sequence[Pair]) -> tuple[float | None, float | None]:
    """Kendall's tau-b and Spearman's rho; None where they are not defined, or mean nothing."""
    if len(pairs) < LEAST:
        return None, None
    from scipy.stats import kendalltau, spearmanr

    first, second = [p.supernet for p in pairs], [p.retrained for p in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant measure: it is said in the report
        tau, rho = float(kendalltau(first, second)[0]), float(spearmanr(first, second)[0])
    return (None, None) if math.isnan(tau) or math.isnan(rho) else (tau, rho)
