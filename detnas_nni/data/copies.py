"""Which images are copies of one picture, and a seeded hold-out that keeps copies together.

An image that guides a search must not be a copy of one that was trained on: augmented copies (Roboflow's
`.rf.`), tiles of one scan, frames of one video, and pictures that look alike, whatever their names.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from detnas_nni.data.headers import FORMATS
from detnas_nni.data.pixels import as_rgb
from detnas_nni.errors import DataError
from detnas_nni.util.seeding import derive_seed
from detnas_nni.util.text import show
from detnas_nni.util.user_files import MAX_JSON_BYTES, read_bytes

ALIKE = 0.9
"""Correlation of two pictures' gradients from which they count as one: different photos of one microscope
series reach 0.45, drawn scenes on similar backgrounds 0.7, a brightened or scaled copy 0.99."""

MOST_LOOKED_AT = 10_000
"""Images of a set up to which looks are compared: all pairs of so many take some seconds."""

_SIDE = 16  # cells of a thumbnail
_FLAT = 1.0  # grey levels; pictures with less contrast all look alike
_THREADS = 4

_ROBOFLOW = re.compile(r"(.+)\.rf\.[0-9A-Za-z]+")
_OLD_SUFFIX = re.compile(r"(.+)[_.](?:jpe?g|png|bmp|tiff?|webp)", re.IGNORECASE)
_SERIES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # DOTA's tiles: P0001__1__0___824
        r"(.+?)__\d+(?:\.\d+)?__\d+___\d+",
        # scan_tile_3_4, scan-patch12, scan_crop_x0_y512, scan_aug_2
        r"(.+?)[._ -]+(?:tile|patch|crop|chip|slice|window|aug|augmented|copy)(?:[._ -]*[a-z]{0,3}\d+)*",
        # scan_x0_y512, scan_r1_c2, scan_row1_col2
        r"(.+?)[._ -]+(?:x|r|row)[._ -]?\d+[._ -]+(?:y|c|col)[._ -]?\d+",
        # SAHI's slices: scan_0_0_512_512
        r"(.+?)(?:_\d+){4}",
        # clip_frame_0012, clip-frame12, frame0012
        r"(.*?)[._ -]*(?:frame|frm)[._ -]*\d+",
        # video3_0012, clip-3-12, drive.mp4-12: a number after a word for a video
        r"(.*(?:video|clip|movie|seq|sequence|mp4|avi|mov|mkv|webm)[._ -]*\d*?)[._ -]+\d+",
        # aug_0_photo, flipped_photo, Copy of photo
        r"(?:aug|augmented|[hv]?flip|flipped|copy of)(?:[._ -]*\d+)?[._ -]+(.+)",
        # photo - Copy (2), photo_BURST003
        r"(.+?)[._ -]+(?:copy ?\(\d+\)|burst[._ -]*\d+)",
        # photo_flipped, photo_rot90, photo_bright2
        r"(.+?)[._ -]+(?:h?flip|vflip|flipped|rot|rotated?|rotation|bright\w*|dark\w*|blur\w*|noisy?\w*"
        r"|contrast\w*)[._ -]*\d*",
    )
)
_GRID = re.compile(r"(.+?)[_-](\d{1,5})[_-](\d{1,5})")


@dataclass(frozen=True)
class Copies:
    """Groups of images of one picture each.

    Attributes:
        groups: image files, two or more per group, in the set's order.
        by_name: groups recognised by the names.
        by_look: groups in which images of different names look alike.
    """

    groups: tuple[tuple[Path, ...], ...]
    by_name: int = 0
    by_look: int = 0

    @property
    def images(self) -> int:
        """The number of images in all groups."""
        return sum(map(len, self.groups))


def seeded_choice(
    keys: Sequence[str],
    count: int,
    seed: int,
    groups: Sequence[int] | None = None,
    has: Sequence[Collection[int]] = (),
) -> list[int]:
    """Positions of `count` of the `keys` (unique), chosen by `seed`, in ascending order.

    The choice follows the keys, not their order or number: a key that is among the first `count` stays chosen
    when others are reordered, so a held-out split survives a re-export of the annotations.

    Args:
        keys: what is chosen from.
        count: how many.
        seed: the config's.
        groups: the number of each key's group, whose members are chosen together or not at all; then fewer
            than `count` may be chosen, and none if every group is larger.
        has: the classes of each key; the last key or group with a class is not chosen.
    """
    ranked = sorted(range(len(keys)), key=lambda position: derive_seed(seed, "hold-out", keys[position]))
    if groups is None and not has:
        return sorted(ranked[:count])
    members: dict[int, list[int]] = defaultdict(list)
    for position in ranked:
        members[position if groups is None else groups[position]].append(position)
    classes = [
        {name for position in together for name in has[position]} if has else set()
        for together in members.values()
    ]
    left = Counter(name for of_group in classes for name in of_group)
    chosen: list[int] = []
    # In the order of each group's first member.
    for together, of_group in zip(members.values(), classes, strict=True):
        if len(chosen) + len(together) <= count and all(left[name] > 1 for name in of_group):
            chosen += together
            left.subtract(of_group)
    return sorted(chosen)


def group_numbers(files: Sequence[Path], groups: Iterable[Iterable[str]]) -> list[int] | None:
    """The number of each file's group; None if no two files share one.

    Args:
        files: the images.
        groups: their names, with as many of their folders as tell them apart, so that groups still hold when
            the data moves. A name is of all files whose paths end in it, except those that a longer one
            names; groups with a name in common are one.
    """
    named = [[PurePosixPath(name).parts for name in group] for group in groups]
    links = _Links(len(named))
    of_name: dict[tuple[str, ...], int] = {}
    for number, group in enumerate(named):
        for name in group:
            links.join((of_name.setdefault(name, number), number))
    lengths = sorted({len(name) for name in of_name}, reverse=True)
    numbers = []
    for position, file in enumerate(files):
        ends = (file.parts[-length:] for length in lengths)
        number = next((of_name[end] for end in ends if end in of_name), None)
        numbers.append(len(named) + position if number is None else links.root(number))
    return numbers if len(set(numbers)) < len(numbers) else None


def read_groups(path: Path) -> list[list[str]]:
    """The groups in a file written by `detnas init` or a user: {"groups": [["a.jpg", "b.jpg"], …]}.

    Raises:
        DataError: the file cannot be read, or is not such a file.
    """
    try:
        groups = json.loads(read_bytes(path, MAX_JSON_BYTES))["groups"]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a file of copies.") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: is not a file of copies ({show(str(error))}); expected "
            '{"groups": [["a.jpg", "b.jpg"], …]}.'
        ) from None
    if not isinstance(groups, list):
        raise DataError(f"{path}: `groups` is {show(groups)}, expected a list of lists of file names.")
    for position, group in enumerate(groups):
        if not isinstance(group, list) or not all(isinstance(name, str) for name in group):
            raise DataError(f"{path}: `groups[{position}]` is {show(group)}, expected a list of file names.")
    return groups


def groups_text(groups: Iterable[Sequence[Path]], files: Sequence[Path]) -> str:
    """A file of groups of images, as `read_groups` takes it.

    Args:
        groups: the groups.
        files: all images of the set, which the names have to tell apart.
    """
    names = short_names(files)
    lines = ",\n".join(
        f"  {json.dumps([names[file] for file in group], ensure_ascii=False)}" for group in groups
    )
    return f'{{"groups": [\n{lines}\n]}}\n'


def short_names(files: Sequence[Path]) -> dict[Path, str]:
    """The files' names, each with only the folders, below the common one, that tell it from the others."""
    levels = zip(*(file.parent.parts for file in files), strict=False)
    common = len(list(takewhile(lambda folders: len(set(folders)) == 1, levels)))
    below = {file: file.parts[common:] for file in files}
    ends = Counter(parts[at:] for parts in below.values() for at in range(len(parts)))
    names = {}
    for file, parts in below.items():
        unique = (parts[at:] for at in reversed(range(len(parts))) if ends[parts[at:]] == 1)
        names[file] = str(PurePosixPath(*next(unique, parts)))
    return names


def find_copies(files: Sequence[Path], *, look: bool = True) -> Copies:
    """The groups of images that show one picture.

    Args:
        files: the images.
        look: whether to open and compare them as well, if they are few enough.
    """
    links = _Links(len(files))
    for group in by_name(files):
        links.join(group)
    named = links.count()
    if look and len(files) <= MOST_LOOKED_AT:
        for first, second in _alike(files):
            links.join((first, second))
    groups = links.groups()
    return Copies(
        tuple(tuple(files[place] for place in group) for group in groups),
        by_name=named,
        by_look=sum(len({_picture(files[place]) for place in group}) > 1 for group in groups),
    )


def by_name(files: Sequence[Path]) -> list[list[int]]:
    """Indices of files that belong to one picture or video by their names, two or more per group."""
    groups: dict[tuple[Path, str], list[int]] = defaultdict(list)
    for place, file in enumerate(files):
        groups[file.parent, _picture(file)].append(place)
    groups |= _grids(files)
    return [group for group in groups.values() if len(group) > 1]


def _picture(file: Path) -> str:
    """The picture that a file's name refers to: the name without the mark of a copy, a tile or a frame."""
    name = file.stem
    for pattern in (_ROBOFLOW, _OLD_SUFFIX):
        found = pattern.fullmatch(name)
        name = found[1] if found else name
    found = next(filter(None, (pattern.fullmatch(name) for pattern in _SERIES)), None)
    return (found[1] if found else name).lower()


def _grids(files: Sequence[Path]) -> dict[tuple[Path, str], list[int]]:
    """Tiles named only by two numbers, scan_0_0 … scan_2_3, if most cells of the grid exist."""
    cells: dict[tuple[Path, str], dict[tuple[int, int], int]] = defaultdict(dict)
    for place, file in enumerate(files):
        found = _GRID.fullmatch(file.stem)
        if found is not None:
            cells[file.parent, found[1].lower()][int(found[2]), int(found[3])] = place
    grids = {}
    for key, of_picture in cells.items():
        rows, columns = ({cell[axis] for cell in of_picture} for axis in (0, 1))
        if len(rows) > 1 and len(columns) > 1 and len(of_picture) > len(rows) * len(columns) / 2:
            grids[key[0], f"{key[1]} (grid)"] = list(of_picture.values())
    return grids


def _alike(files: Sequence[Path]) -> Iterable[tuple[int, int]]:
    """Pairs of indices of images that look alike, possibly mirrored."""
    # Once around all threads: Python's warning filters belong to the process.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(_THREADS) as threads:
        thumbnails = list(threads.map(_thumbnail, files))
    places = np.array([place for place, found in enumerate(thumbnails) if found is not None], dtype=np.int64)
    if len(places) < 2:
        return
    stack = np.stack([thumbnails[place] for place in places])
    plain = _gradients(stack)
    for mirrored in (stack, stack[:, :, ::-1], stack[:, ::-1], stack[:, ::-1, ::-1]):
        other = plain if mirrored is stack else _gradients(mirrored)
        for start in range(0, len(places), 1024):
            rows, columns = np.nonzero(plain[start : start + 1024] @ other.T >= ALIKE)
            rows += start
            later = rows < columns
            yield from zip(places[rows[later]].tolist(), places[columns[later]].tolist(), strict=True)


def _thumbnail(file: Path) -> np.ndarray | None:
    """Mean grey values (17, 17) of an image's cells; None if it is flat or cannot be read."""
    side = _SIDE + 1
    try:
        with file.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
            image.draft("L", (4 * side, 4 * side))
            grey = as_rgb(image).convert("L").resize((side, side), Image.Resampling.BOX)
    except Exception:  # the reader of the pixels reports what is wrong with them
        return None
    values = np.asarray(grey, dtype=np.float32)
    return values if values.std() >= _FLAT else None


def _gradients(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 512) unit vectors: differences of neighbouring cells, which brightness does not change."""
    across = (thumbnails[:, :, 1:] - thumbnails[:, :, :-1])[:, :-1]
    down = (thumbnails[:, 1:] - thumbnails[:, :-1])[:, :, :-1]
    flat = np.concatenate([across.reshape(len(thumbnails), -1), down.reshape(len(thumbnails), -1)], axis=1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


class _Links:
    """Indices that belong together, joined pair by pair (union-find)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def join(self, places: Iterable[int]) -> None:
        first, *others = places
        for other in others:
            self._above[self.root(other)] = self.root(first)

    def count(self) -> int:
        """The number of groups of two or more."""
        return len(self.groups())

    def groups(self) -> list[list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for place in range(len(self._above)):
            found[self.root(place)].append(place)
        return [group for group in found.values() if len(group) > 1]

    def root(self, place: int) -> int:
        """The index that stands for all that belong together with one."""
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place
