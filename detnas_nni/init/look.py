"""What is in the data: classes, images, boxes and their sizes, in numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from detnas_nni.data.copies import Copies, find_copies, groups_text
from detnas_nni.data.crops import usable
from detnas_nni.data.entries import DEFAULT, Conventions
from detnas_nni.data.records import DetectionSet, ImageRecord
from detnas_nni.data.splits import read_source
from detnas_nni.errors import DataError
from detnas_nni.init.sources import Sources

NAMED_TEST = "--test, with --coco or --voc, or by a folder or file called test"
"""How a user names the images of the final number."""

MIN_IMAGES = 10
"""Training images; with fewer a search cannot tell candidates apart."""

_LEAST_TESTED = 5  # images; the AP of fewer says nothing
_ANY_NUMBER = 2**31  # of mistakes: here they are counted and reported
_HOLDOUT_SHARE, _MOST_HELD_OUT = 0.2, 5000  # [P: 5k]

# COCO's limits between small, medium and large, square pixels: https://cocodataset.org/#detection-eval
_SMALL, _MEDIUM = 32**2, 96**2


@dataclass(frozen=True)
class Look:
    """What was found.

    Attributes:
        splits: by name, train first.
        conventions: how their annotations were read.
        copies: the groups of images, over all splits, that show the same picture.
        test_holdout: how many images to hold out of what the user trains on, for the test split; 0 if there
            is one, or too few images for it.
    """

    splits: dict[str, DetectionSet]
    conventions: Conventions
    copies: Copies
    test_holdout: int = 0

    @property
    def train(self) -> DetectionSet:
        """The training split, including the images that will guide the search, but none of the test split."""
        return self.splits["train"]

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """The splits' image files, with links resolved."""
        return {
            name: [record.file.resolve() for record in split.records] for name, split in self.splits.items()
        }

    @cached_property
    def pool(self) -> list[Path]:
        """The images that hold-outs are taken from."""
        tested = self.splits["test"].records if self.test_holdout else ()
        return [record.file for record in (*self.train.records, *tested)]

    @cached_property
    def groups(self) -> list[list[Path]]:
        """Groups of images of the same picture that hold-outs keep together; of the pool, at most half."""
        return [group for group in self.groups_in(self.pool) if len(group) <= len(self.pool) / 2]

    def groups_in(self, files: Sequence[Path]) -> list[list[Path]]:
        """What each group of copies has among some images, if at least two."""
        return _within(self.copies.groups, files)

    @property
    def groups_text(self) -> str:
        """The file of the groups that hold-outs keep together, as the config's `copies` names it."""
        return groups_text(self.groups, self.pool)

    @cached_property
    def share_held_out(self) -> int:
        """A fifth of the training images, or as many as the smallest group of copies if all have copies."""
        training = [record.file for record in self.train.records]
        groups = _within(self.groups, training)
        share = max(1, min(_MOST_HELD_OUT, round(_HOLDOUT_SHARE * len(training))))
        least = min(map(len, groups)) if sum(map(len, groups)) == len(training) else 1
        return max(share, least)

    def with_test_split(self) -> Look:
        """The same with a test split, held out of the training images if there is none; not out of few."""
        count = self.share_held_out
        if len(self.splits) > 1 or len(self.train) - count < MIN_IMAGES:
            return self
        try:
            train, test = self.train.hold_out_test(count, [list(map(str, group)) for group in self.groups])
        except DataError:  # every image is the last of a class
            return self
        train = replace(train, name=self.train.name)
        # What was wrong with the annotations is told once.
        test = replace(test, dropped={}, notes={}, problems=(), corrections=())
        found = replace(self, splits={**self.splits, "train": train, "test": test}, test_holdout=count)
        return found if found._is_useful else self

    @property
    def _is_useful(self) -> bool:
        """Whether test split and rest have boxes and images enough, the rest also for a search split."""
        left = len(self.train) - self.share_held_out
        boxes = (
            any(record.trainable().any() for record in self.splits[name].records)
            for name in ("train", "test")
        )
        return len(self.splits["test"]) >= _LEAST_TESTED and left >= MIN_IMAGES // 2 and all(boxes)

    def corrected(self) -> list[str]:
        """Lines about what was read differently from how it is written, and other remarks."""
        return [
            f"{name}: {correction.text}"
            for name, split in self.splits.items()
            for correction in split.corrections
        ]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of their labels."""
        return self.train.classes

    @property
    def mistakes(self) -> int:
        """The highest number of entries with a mistake that had to be left out of one source."""
        kinds = ("bad images", "bad boxes")
        return max(sum(split.dropped.get(kind, 0) for kind in kinds) for split in self.splits.values())

    def boxes_by_class(self) -> np.ndarray:
        """(K,) training boxes of each class."""
        return self._by_class(ImageRecord.trainable)

    def crops(self) -> np.ndarray:
        """(K,) boxes of each class that can be cut out as crops."""
        return self._by_class(usable)

    def _by_class(self, counted: Callable[[ImageRecord], np.ndarray]) -> np.ndarray:
        counts = np.zeros(len(self.classes), dtype=np.int64)
        for record in self.train.records:
            np.add.at(counts, record.labels[counted(record)] - 1, 1)
        return counts

    @cached_property
    def image_sizes(self) -> np.ndarray:
        """(N, 2) width and height of the training images, pixels."""
        return np.array([(record.width, record.height) for record in self.train.records], dtype=np.int64)

    @cached_property
    def box_sizes(self) -> np.ndarray:
        """(B, 2) width and height of the training boxes, pixels."""
        boxes = [record.boxes[record.trainable()] for record in self.train.records]
        stacked = np.concatenate(boxes)
        return stacked[:, 2:] - stacked[:, :2]

    @cached_property
    def image_size_per_box(self) -> np.ndarray:
        """(B, 2) width and height of the image that each of `box_sizes` is in."""
        return np.repeat(self.image_sizes, self.boxes_per_image, axis=0)

    @cached_property
    def boxes_per_image(self) -> np.ndarray:
        """(N,) training boxes of each image."""
        return np.array([int(record.trainable().sum()) for record in self.train.records])


def look(sources: Sources, conventions: Conventions = DEFAULT) -> Look:
    """Read the splits, hold a test split out if there is none; mistakes in them are counted, not raised.

    Args:
        sources: where the splits are.
        conventions: how to read annotations; the header of every image file is read.

    Raises:
        DataError: a file cannot be read, the splits' classes disagree, or there is no box to train on.
    """
    wanted = replace(conventions, scan=True)
    with _told_later():
        train = read_source(sources.train, None, _ANY_NUMBER, wanted)
        following = wanted.following(train)
        splits = {"train": train}
        for name in ("search", "test"):
            if name in sources.splits:
                splits[name] = read_source(
                    sources.splits[name], train.classes, _ANY_NUMBER, following, lenient=True
                )
    copies = find_copies([record.file for split in splits.values() for record in split.records])
    found = Look(splits, conventions, copies)
    if not len(found.box_sizes):
        raise DataError(f"{train.name}: there is no box to train on. {_why_none(train)}")
    return found.with_test_split()


def _within(groups: Iterable[Iterable[Path]], files: Iterable[Path]) -> list[list[Path]]:
    """What each group has among some files, if at least two."""
    there = set(files)
    parts = ([file for file in group if file in there] for group in groups)
    return [part for part in parts if len(part) > 1]


def _why_none(train: DetectionSet) -> str:
    """Why a set has no box to train on."""
    told = [*train.problems, *(correction.text for correction in train.corrections)]
    told += [f"{count:,} {reason} left out" for reason, count in train.dropped.items()]
    if not told:
        return "Its images have no annotations; expected boxes"
    return f"What was found: {'; '.join(told)}"


def describe(found: Look) -> list[str]:
    """Lines that describe the data, without the problems."""
    lines = []
    for name, split in found.splits.items():
        boxes = sum(len(record.boxes) for record in split.records)
        lines.append(f"{name:<8} {len(split):>7,} images, {boxes:>9,} boxes   {split.name}")
    counts = found.boxes_by_class()
    lines.append(f"classes  {len(counts):>7,}, with boxes to train on:")
    order = np.argsort(-counts, kind="stable")
    shown = order if len(order) <= 25 else [*order[:10], *order[-10:]]
    width = max(len(found.classes[label]) for label in shown)
    for position, label in enumerate(shown):
        if len(order) > 25 and position == 10:
            lines.append(f"  … {len(order) - 20} more")
        lines.append(
            f"  {found.classes[label]:<{width}} {counts[label]:>9,}  {counts[label] / counts.sum():.1%}"
        )
    sizes = found.image_sizes
    by_area = sizes[np.argsort(sizes.prod(axis=1), kind="stable")]
    smallest, middle, largest = (
        "x".join(map(str, by_area[at].tolist())) for at in (0, len(by_area) // 2, -1)
    )
    lines.append(f"image sizes   min {smallest}, median {middle}, max {largest} pixels")
    areas = found.box_sizes.prod(axis=1)
    sides = np.sqrt(areas)
    smallest, middle, largest = np.quantile(sides, (0, 0.5, 1))
    lines.append(f"box sizes     min {smallest:.0f}, median {middle:.0f}, max {largest:.0f} pixels (√area)")
    small, large = (areas < _SMALL).mean(), (areas >= _MEDIUM).mean()
    lines.append(
        f"              COCO's small (< 32²) {small:.0%}, medium {1 - small - large:.0%}, "
        f"large (≥ 96²) {large:.0%}"
    )
    per_image = found.boxes_per_image
    lines.append(f"boxes per image   median {np.median(per_image):.0f}, max {per_image.max()}")
    if found.test_holdout:
        lines.append(
            f"there is neither a val nor a test split: {len(found.splits['test']):,} of the images are set "
            "apart for the final number (data.detection.test_holdout), and nothing is trained on them; "
            f"others are named by {NAMED_TEST}"
        )
    elif "test" not in found.splits:
        lines.append(
            "there is neither a val nor a test split, and there are too few independent images with boxes to "
            "set some apart: `detnas retrain`, which trains the final net, needs images to measure it on; "
            f"name some by {NAMED_TEST}"
        )
    return lines


@contextmanager
def _told_later() -> Iterator[None]:
    """Silence the readers' warnings, which `problems` reports in its own words."""
    logger = logging.getLogger("detnas_nni.data.problems")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
