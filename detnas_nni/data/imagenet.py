"""Reads a classification set with one folder per class, like ImageNet's train and val."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detnas_nni.data.copies import seeded_choice
from detnas_nni.errors import DataError
from detnas_nni.util.text import show
from detnas_nni.util.user_files import IMAGE_SUFFIXES


@dataclass(frozen=True, eq=False)
class ClassificationSet:
    """Images with one label each.

    Attributes:
        name: its name in messages, usually the folder.
        classes: K names; the class at position i has label i.
        files: N image files.
        labels: (N,) int64 in 0..K-1.
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, indices: Sequence[int], name: str | None = None) -> "ClassificationSet":
        """The images at `indices`, in that order."""
        return replace(
            self,
            name=self.name if name is None else name,
            files=tuple(self.files[index] for index in indices),
            labels=self.labels[np.asarray(indices, dtype=np.int64)],
        )

    def hold_out(self, count: int, seed: int) -> tuple["ClassificationSet", "ClassificationSet"]:
        """Split off `count` images, classes in proportion: (the rest, the held-out part), disjoint, in order.

        Raises:
            DataError: `count` is below 1 or leaves a class without an image.
        """
        sizes = np.bincount(self.labels, minlength=len(self.classes))
        room = np.maximum(sizes - 1, 0)
        if not 1 <= count <= room.sum():
            raise DataError(
                f"{self.name}: {count} images to hold out, expected 1 to {room.sum()}, so that each of its "
                f"{len(self.classes)} classes keeps an image."
            )
        held: list[int] = []
        for label, share in enumerate(_shares(sizes, room, count)):
            members = np.flatnonzero(self.labels == label)
            keys = [self.files[index].name for index in members]
            held += members[seeded_choice(keys, int(share), seed)].tolist()
        rest = np.setdiff1d(np.arange(len(self)), held)
        return (
            self.subset(rest.tolist(), f"{self.name} (without the {count} held out)"),
            self.subset(sorted(held), f"{self.name} ({count} held out)"),
        )


def _shares(sizes: np.ndarray, room: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` each class gives: in proportion to its size, the largest remainders rounded up."""
    exact = sizes * (count / sizes.sum())
    shares = np.minimum(np.floor(exact).astype(np.int64), room)
    order = np.argsort(-(exact - np.floor(exact)), kind="stable")
    while shares.sum() < count:
        for label in order:
            if shares.sum() < count and shares[label] < room[label]:
                shares[label] += 1
    return shares


def read_image_folder(root: Path, *, classes: Sequence[str] | None = None) -> ClassificationSet:
    """List `root/CLASS/*.jpg` (or another image suffix), sorted; no image is opened.

    Args:
        root: the folder; each folder in it is a class. Hidden ones and other files are ignored.
        classes: the classes it must have, in the order of their labels (those of the training part).

    Raises:
        DataError: the folder cannot be read, has no class folder, a class has no image, or its classes are
            not those asked for.
    """
    try:
        with os.scandir(root) as entries:
            found = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{root}: the folder cannot be read ({error.strerror}); expected one folder per class in it."
        ) from None
    if not found:
        raise DataError(f"{root}: has no folder in it; expected one folder of images per class.")
    if classes is None:
        classes = found
    elif set(found) != set(classes):
        missing, extra = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
        raise DataError(
            f"{root}: lacks the class folders {show(missing)} and has the unexpected ones {show(extra)}; "
            f"expected the {len(classes)} classes of the training part."
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = _images(root / name)
        if not images:
            raise DataError(
                f"{root / name}: has no image; expected at least one file per class, with a suffix of "
                f"{', '.join(IMAGE_SUFFIXES)}."
            )
        files += images
        labels += [label] * len(images)
    return ClassificationSet(str(root), tuple(classes), tuple(files), np.array(labels, dtype=np.int64))


def _images(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror}).") from None
    return [folder / name for name in sorted(names) if name.lower().endswith(IMAGE_SUFFIXES)]
