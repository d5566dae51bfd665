"""What may be wrong with the data, in plain words."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from detnas_nni.config import VocSplit
from detnas_nni.data.corrections.orientation import WIDE
from detnas_nni.data.images import BadImageError, read_image
from detnas_nni.data.problems import CLIPPED, MISSING, OUTSIDE
from detnas_nni.data.records import DetectionSet
from detnas_nni.init.look import Look
from detnas_nni.init.sources import Sources

FEW_BOXES = 30
"""With fewer boxes of a class its AP says little, and a net hardly learns it."""

_DECODED = 200  # images of a split that are decoded, to find unreadable ones
_BEGINNING = 2**20  # bytes; files whose beginnings differ are not read further
_DARK = 64  # of 255; a set whose brightest value is below this is reported
_AT_ONE = 5  # so many boxes that begin at pixel 1, while none begins at 0, are no accident


@dataclass(frozen=True)
class Problem:
    """One thing that may be wrong.

    Attributes:
        text: what it is, and what to do.
        refused: whether the steps refuse to run with it.
    """

    text: str
    refused: bool = False


def problems(found: Look, sources: Sources) -> list[Problem]:
    """All problems, those that the steps refuse first."""
    told = [
        *(Problem(text) for text in sources.told),
        *_shared_files(found),
        *_same_content(found),
        *_copies(found),
        *_mistakes(found),
        *_unreadable(found),
        *_empty_images(found),
        *_rare_classes(found),
        *_one_based(found, sources),
    ]
    return sorted(told, key=lambda problem: not problem.refused)


def _shared_files(found: Look) -> Iterator[Problem]:
    files = {name: set(of_split) for name, of_split in found.files.items()}
    for first, second in combinations(files, 2):
        shared = sorted(files[first] & files[second])
        if shared:
            yield Problem(
                f"{_count(len(shared), 'image file is', 'image files are')} both in {first} and in {second}, "
                f"such as {shared[0]}: its AP would be measured on images that the net was trained on; "
                "remove them from one split",
                refused=True,
            )


def _same_content(found: Look) -> Iterator[Problem]:
    """Images that two splits have under different names; a split of our own is no fault of the data."""
    if found.test_holdout:
        return
    sizes: dict[str, dict[int, list[Path]]] = {}
    for name, files in found.files.items():
        sizes[name] = defaultdict(list)
        for file in files:
            sizes[name][_size(file)].append(file)
    for first, second in combinations(sizes, 2):
        pairs = []
        for size in sizes[first].keys() & sizes[second].keys() - {0}:
            beginnings = {_digest(file, _BEGINNING) for file in sizes[first][size]}
            alike = [file for file in sizes[second][size] if _digest(file, _BEGINNING) in beginnings]
            known = {_digest(file): file for file in sizes[first][size]} if alike else {}
            for file in alike:
                other = known.get(_digest(file))
                if other is not None and other != file:
                    pairs.append((other, file))
        if pairs:
            yield Problem(
                f"{_count(len(pairs), 'picture is', 'pictures are')} in {first} and in {second} under two "
                f"names, such as {pairs[0][0]} and {pairs[0][1]}: the AP on {second} is not of unseen images"
            )


def _copies(found: Look) -> Iterator[Problem]:
    """Copies of one picture in two splits, and groups too large to be held out together."""
    split_of = {record.file: name for name, split in found.splits.items() for record in split.records}
    across: dict[tuple[str, ...], list[tuple[Path, ...]]] = defaultdict(list)
    for group in found.copies.groups:
        names = tuple(name for name in found.splits if any(split_of[file] == name for file in group))
        if len(names) > 1 and not found.test_holdout:
            across[names].append(group)
    for names, groups in across.items():
        shown = [next(file for file in groups[0] if split_of[file] == name) for name in names[:2]]
        yield Problem(
            f"{_count(len(groups), 'picture is', 'pictures are')} in {' and in '.join(names)} in copies "
            f"(augmented ones, tiles, frames of a video, or pictures that look alike), such as {shown[0]} "
            f"and {shown[1]}: the AP on {names[-1]} is not of unseen pictures; split by picture"
        )
    held_out = "search" not in found.splits
    if found.groups and held_out:
        images = sum(map(len, found.groups))
        yield Problem(
            f"{images:,} images are copies in {_count(len(found.groups), 'group', 'groups')} of one "
            "picture each (augmented copies, tiles, frames, or pictures that look alike), such as "
            f"{' and '.join(file.name for file in found.groups[0][:2])}; each group is held out whole or not "
            "at all (copies.json, data.detection.copies)"
        )
    large = [group for group in found.groups_in(found.pool) if len(group) > len(found.pool) / 2]
    if large and held_out:
        purpose = "the search and for the test" if found.test_holdout else "the search"
        yield Problem(
            f"{len(large[0]):,} of {len(found.pool):,} images are one series by name or appearance, such as "
            f"{' and '.join(file.name for file in large[0][:2])}, so the images held out for {purpose} are "
            "not independent of those trained on: the AP is too high. Name splits of other pictures: --val "
            "and --test, with --coco or --voc, or folders or files called val and test"
        )


def _mistakes(found: Look) -> Iterator[Problem]:
    for name, split in found.splits.items():
        notes, dropped = split.notes, split.dropped
        known = notes.get(MISSING, 0), notes.get(OUTSIDE, 0)
        if known[0]:
            yield Problem(
                f"{name}: {_count(known[0], 'image has', 'images have')} no file; left out with their boxes"
            )
        if known[1]:
            yield Problem(
                f"{name}: {_count(known[1], 'box lies', 'boxes lie')} entirely outside the image; left out"
            )
        if notes.get(CLIPPED):
            yield Problem(
                f"{name}: {_count(notes[CLIPPED], 'box extends', 'boxes extend')} beyond the image; "
                "clipped at its edge"
            )
        if dropped.get("zero-area boxes"):
            count = _count(dropped["zero-area boxes"], "box has", "boxes have")
            yield Problem(f"{name}: {count} no area; left out")
        others = dropped.get("bad images", 0) + dropped.get("bad boxes", 0) - sum(known)
        if others:
            yield Problem(f"{name}: {_count(others, 'other entry is', 'other entries are')} wrong; left out")
        if split.problems:
            yield Problem(f"{name}: the first of what is wrong: {'; '.join(split.problems)}")


def _unreadable(found: Look) -> Iterator[Problem]:
    for name, split in found.splits.items():
        bad, brightest = [], 0
        for record in _spread(split):
            try:
                pixels = read_image(record.file, record.size, upright=record.upright)
                brightest = max(brightest, int(pixels.max()))
            except BadImageError as error:
                bad.append(f"{record.file} {error}")
        if 0 < brightest < _DARK and any(entry.kind == WIDE.name for entry in split.corrections):
            yield Problem(
                f"{name}: no value in its images with more than 8 bits is above {brightest} of 255 once "
                "they are scaled by the range of their type: they are nearly black. If their values have "
                "fewer bits than the files (12 of 16, say), multiply all of them by one factor first"
            )
        if bad:
            tried = min(len(split), _DECODED)
            yield Problem(
                f"{name}: of {tried} images that were decoded, {len(bad)} cannot be used: {bad[0]}; a step "
                "skips them, and gives up after data.max_bad_images (100)"
            )


def _spread(split: DetectionSet) -> Iterator:
    count = min(len(split), _DECODED)
    return (split.records[at * len(split) // count] for at in range(count))


def _empty_images(found: Look) -> Iterator[Problem]:
    for name, split in found.splits.items():
        empty = sum(not len(record.boxes) for record in split.records)
        if empty:
            yield Problem(
                f"{name}: {_count(empty, 'image has', 'images have')} no box ({empty / len(split):.0%}); "
                "kept, as images of background. If they are just not annotated yet, remove them"
            )


def _rare_classes(found: Look) -> Iterator[Problem]:
    counts = found.boxes_by_class()
    absent = [found.classes[label] for label in np.flatnonzero(counts == 0)]
    if absent:
        yield Problem(
            f"no box to train on of {_some(absent)}; a net cannot learn "
            f"{'it' if len(absent) == 1 else 'them'}"
        )
    few = [
        f"{found.classes[label]} ({counts[label]})"
        for label in np.flatnonzero((counts > 0) & (counts < FEW_BOXES))
    ]
    if few:
        yield Problem(f"fewer than {FEW_BOXES} boxes of {_some(few)}; their AP will be low and say little")


def _one_based(found: Look, sources: Sources) -> Iterator[Problem]:
    if not isinstance(sources.train, VocSplit) or sources.train.one_based:
        return
    starts = np.concatenate([record.boxes[:, :2] for record in found.train.records])
    at_one = int((starts == 1).sum())
    if at_one >= _AT_ONE and not (starts < 1).any():
        yield Problem(
            f"coordinates may count pixels from 1: no box begins at 0, and {at_one} sides begin at 1. The "
            "original VOC does this (pass --one-based, or set one_based: true); labelImg writes 1 for 0 and "
            "does not. The difference is one pixel"
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _digest(file: Path, count: int | None = None) -> str:
    """A file's hash, or that of its first `count` bytes."""
    try:
        with file.open("rb") as stream:
            if count is None:
                return hashlib.file_digest(stream, "sha256").hexdigest()
            return hashlib.sha256(stream.read(count)).hexdigest()
    except OSError:
        return str(file)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
