"""A config's data sections, opened: the training, search and test splits, kept apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType

import numpy as np

from detnas_nni import config as cfg
from detnas_nni.data.coco import read_coco
from detnas_nni.data.copies import by_name, read_groups
from detnas_nni.data.entries import DEFAULT, Conventions
from detnas_nni.data.imagenet import ClassificationSet, read_image_folder
from detnas_nni.data.problems import Correction, Kind
from detnas_nni.data.records import DetectionSet, ImageRecord, check_disjoint
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError
from detnas_nni.util.text import show

LISTED_ELSEWHERE = Kind(
    "classes of other sources",
    "class is listed in one source of the split and not in another; no object of it is expected there",
    "classes are listed in one source of the split and not in another; no object of them is expected there",
    corrects=False,
)


@dataclass(frozen=True)
class DetectionSplits:
    """What is trained on, what guides the search, and what the reported AP comes from (None if not named)."""

    train: DetectionSet
    search: DetectionSet
    test: DetectionSet | None
    whole: DetectionSet
    """the training split including what was held out of it: what a final net is trained on"""
    held_out: frozenset[str] = frozenset()
    """which of `search` and `test` were held out of the training split"""

    @property
    def leaks(self) -> list[str]:
        """A sentence for each held-out split of whose pictures copies are trained on, by their names."""
        found = []
        if "search" in self.held_out:
            found.append(_leaks(self.train, self.search, "search's AP", "search"))
        if "test" in self.held_out:
            found.append(_leaks(self.whole, self.test, "reported AP", "test"))
        return [sentence for sentence in found if sentence]

    @property
    def set_apart(self) -> str | None:
        """A hash of the names of the images that are held out for the test; None if there are none."""
        if "test" not in self.held_out:
            return None
        names = sorted(record.file.name for record in self.test.records)
        return hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]

    def told(self) -> Iterator[str]:
        """A line for each kind of correction in each split, and one if the hold-out is flawed."""
        for name, split in (("train", self.whole), ("search", self.search), ("test", self.test)):
            if split is not None and name not in self.held_out:
                yield from (f"{name}: {correction.text}" for correction in split.corrections)
        yield from self.leaks


@dataclass(frozen=True)
class ClassificationSplits:
    """Like `DetectionSplits`, for labelled images."""

    train: ClassificationSet
    search: ClassificationSet
    test: ClassificationSet | None
    whole: ClassificationSet


def open_detection(
    data: cfg.DetectionData,
    seed: int,
    max_images: int | None = None,
    *,
    strict: bool = False,
    scan: bool = False,
) -> DetectionSplits:
    """Read and check every detection split.

    If there is no test split, `test_holdout` images are held out of the training split, if the config says
    so. If there is no search split, `holdout` of the rest are held out by the seed, as the paper holds 5k
    out of trainval35k. No image is in two splits, or in two sources of a split.

    Args:
        data: the config's section. `max_bad_annotations` applies to each source.
        seed: for the hold-out.
        max_images: how many images of each split to keep at most, for a trial run: the first with a box to
            train on, then others. Classes and hold-out are those of the whole split.
        strict: the config's `data.strict`.
        scan: whether to open every image file, to report also what needs no correction.

    Raises DataError.
    """
    conventions = replace(conventions_of(data), strict=strict, scan=scan)
    train = _read(data.train, data.classes, data.max_bad_annotations, conventions)
    following = conventions.following(train)

    def other(sources: cfg.Sources | None) -> DetectionSet | None:
        if sources is None:
            return None
        return _read(sources, train.classes, data.max_bad_annotations, following, lenient=True)

    search, test = other(data.search), other(data.test)
    copies = () if data.copies is None else read_groups(data.copies)
    held_out = {"search"} if search is None else set()
    if test is not None:
        check_disjoint(train, test)
    elif data.test_holdout is not None:
        train, test = train.hold_out_test(data.test_holdout, copies)
        held_out.add("test")
    whole = train
    if search is None:
        train, search = train.hold_out(data.holdout, seed, copies)
    else:
        check_disjoint(train, search)
        if test is not None:
            check_disjoint(search, test)

    def kept(split: DetectionSet) -> DetectionSet:
        return split if max_images is None else _first_trainable(split, max_images, data.train_difficult)

    return DetectionSplits(
        kept(train), kept(search), None if test is None else kept(test), kept(whole), frozenset(held_out)
    )


def conventions_of(data: cfg.DetectionData) -> Conventions:
    """How to read annotations, according to a config."""
    return Conventions(exif=data.exif, box_form=data.box_form, box_units=data.box_units, crowds=data.crowds)


def open_classification(
    data: cfg.ClassificationData, seed: int, max_images: int | None = None
) -> ClassificationSplits:
    """Read the labelled images; `holdout` of the training part are held out for a search's top-1.

    Args:
        data: the config's section.
        seed: for the hold-out.
        max_images: how many images of each split to keep at most, for a trial run, evenly spread over its
            list and so over its classes. Classes and hold-out are those of the whole split.

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


def _read(
    sources: cfg.Sources,
    classes: Sequence[str] | None,
    max_bad: int,
    conventions: Conventions,
    *,
    lenient: bool = False,
) -> DetectionSet:
    parts: list[DetectionSet] = []
    for source in sources:
        several = lenient or (classes is not None and len(sources) > 1)
        parts.append(read_source(source, classes, max_bad, conventions, lenient=several))
        conventions = conventions.following(parts[0])
    if len(parts) == 1:
        return parts[0]
    # A COCO file lists its classes; a VOC folder has only those of its objects.
    listed = isinstance(sources[0], cfg.CocoSplit)
    return join(parts, _common_classes(parts, listed) if classes is None else classes, listed=listed)


def read_source(
    source: cfg.Split,
    classes: Sequence[str] | None,
    max_bad: int,
    conventions: Conventions = DEFAULT,
    *,
    lenient: bool = False,
) -> DetectionSet:
    """One source of a split; arguments and errors as for its format's reader."""
    if isinstance(source, cfg.CocoSplit):
        return read_coco(
            source.images,
            source.annotations,
            classes=classes,
            max_bad=max_bad,
            lenient=lenient,
            conventions=conventions,
        )
    return read_voc(
        source.root,
        source.image_set,
        classes=classes,
        max_bad=max_bad,
        one_based=source.one_based,
        backgrounds=source.backgrounds,
        conventions=conventions,
    )


def join(parts: Sequence[DetectionSet], classes: Sequence[str], *, listed: bool) -> DetectionSet:
    """All images of several annotation files, in order, such as the trainval sets of VOC2007 and VOC2012.

    Images are renumbered from 1, and categories by their labels, as the ids of two files may collide (a VOC
    image has its line's number).

    Args:
        parts: the sets.
        classes: K names in the order of their labels, including those of every part.
        listed: whether a part lists its classes, so that a missing one is worth reporting.

    Raises:
        DataError: two parts share an image file.
    """
    for first, second in combinations(parts, 2):
        check_disjoint(first, second, "each image in only one source, or it would count twice")
    records: list[ImageRecord] = []
    dropped: Counter[str] = Counter()
    corrections: list[Correction] = []
    for part in parts:
        # Maps a part's label to the joint one; 0 is the background.
        labels = np.array([0, *(classes.index(name) + 1 for name in part.classes)], dtype=np.int64)
        for number, record in enumerate(part.records, start=len(records) + 1):
            records.append(replace(record, image_id=number, labels=labels[record.labels]))
        dropped.update(part.dropped)
        corrections += part.corrections
        absent = [name for name in classes if name not in part.classes]
        if absent and listed:
            corrections.append(LISTED_ELSEWHERE.told(len(absent), f"{part.name} lacks {show(absent[0])}"))
    return DetectionSet(
        name=" + ".join(part.name for part in parts),
        classes=tuple(classes),
        category_ids=tuple(range(1, len(classes) + 1)),
        own_category_ids=tuple(range(1, len(classes) + 1)),
        records=tuple(records),
        dropped=MappingProxyType(dict(dropped)),
        corrections=tuple(corrections),
        reading=parts[0].reading,
    )


def _common_classes(parts: Sequence[DetectionSet], listed: bool) -> list[str]:
    """The classes of all parts: the first one's in its order if it lists them, then the others, sorted."""
    names = {name for part in parts for name in part.classes}
    first = list(parts[0].classes) if listed else []
    return first + sorted(names - set(first))


def _leaks(train: DetectionSet, held: DetectionSet, what: str, split: str) -> str:
    """A sentence if the names of the images indicate that the hold-out separates copies of a picture."""
    files = [record.file for record in (*train.records, *held.records)]
    groups = [group for group in by_name(files) if len(group) <= len(files) / 2]
    parted = [group for group in groups if min(group) < len(train) <= max(group)]
    if not parted:
        return ""
    first = ", ".join(files[place].name for place in parted[0][:2])
    return (
        f"the held-out images are not independent of the training images: by name {len(parted):,} groups of "
        f"copies (augmented ones, tiles, frames) are in both, such as {first}; so the {what} is too high. "
        f"Name a {split} split, or a file of groups in data.detection.copies, as `detnas init` writes it"
    )


def _first_trainable(images: DetectionSet, count: int, difficult: bool) -> DetectionSet:
    if count >= len(images):
        return images
    # A stable sort: images with a box to train on come first, otherwise in the set's order.
    ranked = sorted(range(len(images)), key=lambda at: not images.records[at].trainable(difficult).any())
    return images.subset(sorted(ranked[:count]), f"{images.name} ({count} of {len(images)})")


def _evenly_spread(images: ClassificationSet, count: int) -> ClassificationSet:
    if count >= len(images):
        return images
    indices = [len(images) * step // count for step in range(count)]
    return images.subset(indices, f"{images.name} ({count} of {len(images)})")
