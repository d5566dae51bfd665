"""A config's data sections, opened: the training, search and test splits, kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detnas_nni import config as cfg
from detnas_nni.data.coco import read_coco
from detnas_nni.data.imagenet import ClassificationSet, read_image_folder
from detnas_nni.data.records import DetectionSet, check_disjoint
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError


@dataclass(frozen=True)
class DetectionSplits:
    """What is trained on, what guides the search, and what the reported AP comes from (None if not named)."""

    train: DetectionSet
    search: DetectionSet
    test: DetectionSet | None


@dataclass(frozen=True)
class ClassificationSplits:
    """As `DetectionSplits`, of labelled images."""

    train: ClassificationSet
    search: ClassificationSet
    test: ClassificationSet | None


def open_detection(data: cfg.DetectionData, seed: int) -> DetectionSplits:
    """Read and check every detection split.

    Without a search split of its own, `holdout` images are held out of the training split by the seed, as
    the paper holds 5k out of trainval35k. No image is in two splits.

    Raises DataError.
    """
    train = _read(data.train, data.classes, data.max_bad_annotations)

    def other(split: cfg.Split | None) -> DetectionSet | None:
        return None if split is None else _read(split, train.classes, data.max_bad_annotations)

    search, test = other(data.search), other(data.test)
    if test is not None:
        check_disjoint(train, test)
    if search is None:
        train, search = train.hold_out(data.holdout, seed)
    else:
        check_disjoint(train, search)
        if test is not None:
            check_disjoint(search, test)
    return DetectionSplits(train, search, test)


def open_classification(data: cfg.ClassificationData, seed: int) -> ClassificationSplits:
    """Read the labelled images; `holdout` of the training part are held out for a search's top-1.

    Raises DataError.
    """
    whole = read_image_folder(data.train)
    if data.holdout >= len(whole):
        raise DataError(
            f"data.classification.holdout: {data.holdout} images are to be held out, but {data.train} has "
            f"{len(whole)}; hold out fewer"
        )
    train, search = whole.hold_out(data.holdout, seed)
    test = None if data.test is None else read_image_folder(data.test, classes=whole.classes)
    return ClassificationSplits(train, search, test)


def _read(split: cfg.Split, classes: Sequence[str] | None, max_bad: int) -> DetectionSet:
    if isinstance(split, cfg.CocoSplit):
        return read_coco(split.images, split.annotations, classes=classes, max_bad=max_bad)
    return read_voc(split.root, split.image_set, classes=classes, max_bad=max_bad, one_based=split.one_based)
