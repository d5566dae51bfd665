"""The files of a data set: listed once; pictures found by their names in annotations, sizes from headers."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from detnas_nni.data.formats.dataset import split_of
from detnas_nni.data.formats.note import ELSEWHERE, MISSING, UNREADABLE, Note
from detnas_nni.data.headers import read_header
from detnas_nni.errors import DataError
from detnas_nni.util.user_files import IMAGE_SUFFIXES

_LONGEST = 4096  # characters; no path is longer
_HIDDEN = (".git", "__MACOSX", ".ipynb_checkpoints", "__pycache__", ".venv", "node_modules")


class Listing:
    """The files below a folder, links followed, except hidden ones.

    Args:
        root: the folder.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            os.scandir(root).close()
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
            raise DataError(
                f"{root}: the folder cannot be read ({getattr(error, 'strerror', error)}); expected a data "
                "set"
            ) from None
        found: list[PurePosixPath] = []
        seen: set[str] = set()
        for folder, folders, files in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if name not in _HIDDEN and not name.startswith("."))
            below = PurePosixPath(Path(folder).relative_to(root).as_posix())
            found += [below / name for name in sorted(files) if not name.startswith(".")]
        self.files: tuple[PurePosixPath, ...] = tuple(found)

    def of(self, *suffixes: str) -> Iterator[PurePosixPath]:
        """The files with one of these suffixes, relative to the root, in order."""
        return (file for file in self.files if file.suffix.lower() in suffixes)

    @cached_property
    def folders(self) -> frozenset[PurePosixPath]:
        """The folders with files in or below them, relative to the root."""
        return frozenset(parent for file in self.files for parent in file.parents)


class Pictures:
    """The pictures of a data set; never one outside its folder, whatever an annotation says.

    Args:
        listing: that of their folder.
        note: collects what is missing, or elsewhere.
    """

    def __init__(self, listing: Listing, note: Note) -> None:
        self.root = listing.root
        self._listing = listing
        self._note = note
        self.files: tuple[PurePosixPath, ...] = tuple(listing.of(*IMAGE_SUFFIXES, ".gif"))
        self._by_name: dict[str, list[PurePosixPath]] = {}
        self._by_stem: dict[str, list[PurePosixPath]] = {}
        for file in self.files:
            self._by_name.setdefault(_plain(file.name), []).append(file)
            self._by_stem.setdefault(_plain(file.stem), []).append(file)

    @property
    def folders(self) -> frozenset[PurePosixPath]:
        """The folders with files in or below them, relative to the root."""
        return self._listing.folders

    def find(
        self,
        name: str,
        near: PurePosixPath,
        named_by: str,
        *,
        stem: bool = False,
        split: str | None = None,
        size: int | None = None,
    ) -> Path | None:
        """The picture that an annotation calls `name`; None, and noted, if there is not exactly one.

        Args:
            name: a path in any tool's spelling: backslashes, another machine's folders, `%20`.
            near: the annotation's folder, relative to the root.
            named_by: where the name is, for the note.
            stem: whether the name has no suffix.
            split: the picture's split, if known: splits may use the same names.
            size: the file's size in bytes, if known.
        """
        found = self.look(name, near, stem=stem, split=split, size=size)
        if found is None:
            alike = self._alike(name, stem)
            why = (
                f"of which there are {len(alike)} below {self.root}, such as {alike[0]} and {alike[1]}"
                if alike
                else f"which is not below {self.root}"
            )
            self._note.entry(MISSING, f"{named_by} names {name!r:.200}, {why}")
            return None
        if not stem and found not in _exact(name, near):
            self._note.count(ELSEWHERE)
        return self.root / found

    def _alike(self, name: str, stem: bool) -> list[PurePosixPath]:
        """The pictures with this name, in any folder."""
        parts = parts_of(name)
        return (self._by_stem if stem else self._by_name).get(_plain(parts[-1]), []) if parts else []

    def look(
        self,
        name: str,
        near: PurePosixPath,
        *,
        stem: bool = False,
        split: str | None = None,
        size: int | None = None,
    ) -> PurePosixPath | None:
        """Like `find`, but relative to the root, and without a note."""
        for spelling in dict.fromkeys((name, _without_percents(name))):
            parts, candidates = parts_of(spelling), self._alike(spelling, stem)
            if not candidates:
                continue
            exact = [path for path in _exact(spelling, near) if path in candidates]
            if exact and not stem:
                return exact[0]
            shared = [_shared(file.parts[:-1], parts[:-1]) for file in candidates]
            best = [file for file, count in zip(candidates, shared, strict=True) if count == max(shared)]
            of_split = [file for file in best if split and split_of(file.parts[:-1]) == split] or best
            closer = [file for file in of_split if file.is_relative_to(near)] or of_split
            beside = [file for file in closer if file.parent == near] or closer
            if len(beside) > 1 and size is not None:
                same = [file for file in beside if _bytes(self.root / file) == size]
                beside = same[:1]  # several are copies
            if len(beside) == 1:
                return beside[0]
        return None

    def size(self, file: Path) -> tuple[int, int] | None:
        """Width and height as displayed; None, and noted, if the picture cannot be read."""
        header = read_header(file)
        if header is None:
            self._note.entry(UNREADABLE, f"{file}: is not a picture that can be read")
            return None
        return header.shown


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a path in any system's spelling, without drive, root, `.` and `..`."""
    if len(name) > _LONGEST:
        return ()
    text = re.sub(r"^(?:[A-Za-z]:|file://|https?://[^/]*)", "", name.replace("\\", "/"))
    parts = [part for part in text.split("/") if part not in ("", ".")]
    above = [at for at, part in enumerate(parts) if part == ".."]
    return tuple(parts[above[-1] + 1 :] if above else parts)


def _exact(name: str, near: PurePosixPath) -> tuple[PurePosixPath, ...]:
    """The paths of a name as written, from the annotation's folder, its `images` and the root."""
    written = posixpath.normpath(posixpath.join(near.as_posix(), name.replace("\\", "/")))
    parts = parts_of(name)
    return (
        PurePosixPath(written),
        near.joinpath(*parts),
        near.joinpath("images", *parts),
        PurePosixPath(*parts),
    )


def _bytes(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _without_percents(name: str) -> str:
    def decoded(match: re.Match[str]) -> str:
        return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace")

    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", decoded, name)


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    """How many of the last parts are the same."""
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if _plain(one) != _plain(other):
            break
        count += 1
    return count
