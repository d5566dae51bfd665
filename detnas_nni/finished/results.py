"""Reads the results that `detnas retrain` leaves for a final net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Architecture, read_document
from detnas_nni.config.run_folder import results_of
from detnas_nni.errors import ArchitectureError


@dataclass(frozen=True)
class FinalResult:
    """One final net, as recorded in its results.json.

    Attributes:
        architecture: which net.
        init: what its detector started from: classification, supernet, scratch, file.
        detection: the detector's AP or VOC mAP, in [0, 1]; -1 where the split has nothing to find.
        top1: the accuracy of the classifier that it started from, in [0, 1]; None if not measured.
        metrics: all metrics of the detector, including `default`.
        weights: the file of its weights, as the training named it.
    """

    architecture: Architecture
    init: str
    detection: float
    top1: float | None
    metrics: Mapping[str, float]
    weights: str | None


def final_results(run_dir: Path, space: str) -> list[FinalResult]:
    """The final nets in a run's folder, in the order of their files.

    `space` is the config's, whose code may be imported. Raises ArchitectureError for a file that `detnas
    retrain` would not write.
    """
    return [final_result(file, space) for file in results_of(run_dir)]


def final_result(file: Path, space: str) -> FinalResult:
    """The net of one results.json. Raises ArchitectureError like `final_results`."""
    document = read_document(file)
    return FinalResult(
        architecture=Architecture.from_dict(document, str(file), trusted=(space,)),
        init=str(document.get("init")),
        detection=_share(document, "detection", file),
        top1=None if document.get("classification") is None else _share(document, "classification", file),
        metrics=document["detection"],
        weights=(document.get("weights") or {}).get("file"),
    )


def _share(document: Mapping[str, Any], part: str, file: Path) -> float:
    metrics = document.get(part)
    share = metrics.get("default") if isinstance(metrics, Mapping) else None
    if not isinstance(share, int | float) or isinstance(share, bool) or not -1 <= share <= 1:
        raise ArchitectureError(
            f"{file}: key '{part}.default' is {share!r}, expected a number from 0 to 1; delete the file and "
            "let `detnas retrain` write it again"
        )
    return float(share)
