"""A config's data sections, opened: the training, search and test splits, kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detnas_nni import config as cfg
from detnas_nni.data.coco import read_coco
from detnas_nni.data.imagenet import ClassificationSet, read_image_folder
from detnas_nni.data.joining import expect_same_classes, join
from detnas_nni.data.records import DetectionSet, check_disjoint
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError


@dataclass(frozen=True)
class DetectionSplits:
    """What is trained on, what guides the search, and what the reported AP comes from (None if not named)."""

    train: DetectionSet
    search: DetectionSet
    test: DetectionSet | None
    whole: DetectionSet
    """the training split with what was held out of it: what a final net is trained on"""


@dataclass(frozen=True)
class ClassificationSplits:
    """As `DetectionSplits`, of labelled images."""

    train: ClassificationSet
    search: ClassificationSet
    test: ClassificationSet | None
    whole: ClassificationSet


def open_detection(data: cfg.DetectionData, seed: int, max_images: int | None = None) -> DetectionSplits:
    """Read and check every detection split.

    Without a search split of its own, `holdout` images are held out of the training split by the seed, as
    the paper holds 5k out of trainval35k. No image is in two splits, or in two sources of a split.

    Args:
        data: the config's section. `max_bad_annotations` is for each of its sources.
        seed: of the hold-out.
        max_images: the most images that are kept of each split, for a trial run: its first ones with a box
            to train on, then others. Classes and hold-out stay those of the whole.

    Raises DataError.
    """
    whole = train = _read(data.train, data.classes, data.max_bad_annotations)

    def other(sources: cfg.Sources | None) -> DetectionSet | None:
        return None if sources is None else _read(sources, train.classes, data.max_bad_annotations)

    search, test = other(data.search), other(data.test)
    if test is not None:
        check_disjoint(train, test)
    if search is None:
        train, search = train.hold_out(data.holdout, seed)
    else:
        check_disjoint(train, search)
        if test is not None:
            check_disjoint(search, test)

    def kept(split: DetectionSet) -> DetectionSet:
        return split if max_images is None else _first_trainable(split, max_images, data.train_difficult)

    return DetectionSplits(kept(train), kept(search), None if test is None else kept(test), kept(whole))


def open_classification(
    data: cfg.ClassificationData, seed: int, max_images: int | None = None
) -> ClassificationSplits:
    """Read the labelled images; `holdout` of the training part are held out for a search's top-1.

    Args:
        data: the config's section.
        seed: of the hold-out.
        max_images: the most images that are kept of each split, for a trial run, evenly spread over its list
            and so over its classes. The list of classes and the hold-out stay those of the whole.

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

    def kept(split: ClassificationSet) -> ClassificationSet:
        return split if max_images is None else _evenly_spread(split, max_images)

    return ClassificationSplits(kept(train), kept(search), None if test is None else kept(test), kept(whole))


def _read(sources: cfg.Sources, classes: Sequence[str] | None, max_bad: int) -> DetectionSet:
    parts = [read_source(source, classes, max_bad) for source in sources]
    if len(parts) == 1:
        return parts[0]
    if classes is None and isinstance(sources[0], cfg.CocoSplit):
        expect_same_classes(parts)  # a COCO file lists its categories, so a difference is a mistake
        classes = parts[0].classes
    elif classes is None:
        classes = sorted({name for part in parts for name in part.classes})
    return join(parts, classes)


def read_source(source: cfg.Split, classes: Sequence[str] | None, max_bad: int) -> DetectionSet:
    """One source of a split; arguments and errors as of its form's reader."""
    if isinstance(source, cfg.CocoSplit):
        return read_coco(source.images, source.annotations, classes=classes, max_bad=max_bad)
    return read_voc(
        source.root, source.image_set, classes=classes, max_bad=max_bad, one_based=source.one_based
    )


def _first_trainable(images: DetectionSet, count: int, difficult: bool) -> DetectionSet:
    if count >= len(images):
        return images
    # A stable sort: images with a box to train on come first, each kind in the set's order.
    ranked = sorted(range(len(images)), key=lambda at: not images.records[at].trainable(difficult).any())
    return images.subset(sorted(ranked[:count]), f"{images.name} ({count} of {len(images)})")


def _evenly_spread(images: ClassificationSet, count: int) -> ClassificationSet:
    if count >= len(images):
        return images
    indices = [len(images) * step // count for step in range(count)]
    return images.subset(indices, f"{images.name} ({count} of {len(images)})")
