"""Which of a folder's COCO files belongs to which split, and where its pictures are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from detnas_nni.data.formats.dataset import SPLITS, TRAIN, split_of
from detnas_nni.data.formats.note import Note
from detnas_nni.data.formats.pictures import Listing, Pictures, parts_of
from detnas_nni.errors import DataError

_NAMES = 200  # file names of a COCO file that are looked for
_CHUNK = 2**22  # bytes
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class CocoFile:
    """A COCO file of a folder.

    Attributes:
        split: train, val or test; None if neither its name nor its folders say.
        annotations: the file.
        images: the folder that its file names are relative to.
        found: how many of the first names exist.
    """

    split: str | None
    annotations: Path
    images: Path
    found: int


def coco_splits(
    root: Path, files: Sequence[PurePosixPath], listing: Listing, images: Path | None = None
) -> tuple[dict[str, CocoFile], list[str]]:
    """The COCO file of each split, including train, and sentences on what was chosen.

    Args:
        root: the folder.
        files: its COCO files, relative to it.
        listing: its files.
        images: the folder of the pictures, if they are elsewhere.

    Raises:
        DataError: two files may belong to one split.
    """
    pictures = Pictures(listing if images is None else Listing(images), Note())
    found = [_coco_file(root, file, pictures) for file in files]
    chosen: list[str] = []
    if found and not any(file.found for file in found):
        name = next(_names(found[0].annotations), None)
        if name is not None:
            raise DataError(
                f"{found[0].annotations}: none of its first pictures is below {pictures.root}; the first is "
                f"{name!r:.200}. Copy them there, or name their folder: --images DIR."
            )
    if any(file.found for file in found):
        for file in found:
            if not file.found:
                chosen.append(f"{file.annotations}: none of its pictures exists; left out")
        found = [file for file in found if file.found]
    splits: dict[str | None, list[CocoFile]] = {}
    for file in found:
        splits.setdefault(file.split, []).append(file)
    if None in splits and TRAIN in splits:
        names = ", ".join(str(file.annotations) for file in splits.pop(None))
        chosen.append(f"left out, as nothing says which split it belongs to: {names}")
    elif None in splits:
        splits[TRAIN] = splits.pop(None)
    elif TRAIN not in splits:
        name = next(split for split in SPLITS if split in splits)
        splits[TRAIN] = splits.pop(name)
        chosen.append(f"there is no training split; {name} is used for training")
    return {name: _one(splits[name], name) for name in SPLITS if name in splits}, chosen


def _one(files: list[CocoFile], split: str) -> CocoFile:
    """COCO's own folder has captions and key points of the same pictures besides the boxes."""
    boxes = [file for file in files if "instances" in file.annotations.stem] or files
    if len(boxes) > 1:
        raise DataError(
            f"{', '.join(str(file.annotations) for file in boxes[:5])} may each be the split {split}; "
            "expected one. Name the one to take: detnas init --coco IMAGES FILE."
        )
    return boxes[0]


def _coco_file(root: Path, file: PurePosixPath, pictures: Pictures) -> CocoFile:
    """A COCO file with the folder in which most of the first names exist."""
    votes: Counter[Path] = Counter()
    split = split_of((*file.parts[:-1], file.stem))
    for name in _names(root / file):
        path = pictures.look(name, file.parent, split=split)
        if path is not None:
            shared = _shared(path.parts, parts_of(name))
            votes[pictures.root.joinpath(*path.parts[: len(path.parts) - shared])] += 1
    folder, found = max(votes.items(), key=lambda item: item[1]) if votes else (None, 0)
    if folder is None:
        beside = root / file.parent / "images"
        folder = beside if beside.is_dir() else root / file.parent
    return CocoFile(split, root / file, folder, found)


def _names(file: Path) -> Iterator[str]:
    """The first file names of a COCO file, without reading the gigabytes that may follow."""
    count, rest = 0, b""
    with file.open("rb") as stream:
        while count < _NAMES and (chunk := stream.read(_CHUNK)):
            text, end = rest + chunk, 0
            for match in _FILE_NAME.finditer(text):
                end = match.end()
                try:
                    name = json.loads(match[1])
                except ValueError:  # not what it looks like: a name within a name, or not UTF-8
                    continue
                count += 1
                yield name
                if count == _NAMES:
                    return
            rest = text[max(end, len(text) - 10_000) :]


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return max(count, 1)
