"""Names of image files: as written, or in another form if exactly one file fits.

Labelling tools write `images/` before the name although `images` is the given folder, or leave it out; they
write Windows' backslashes, %20 for a blank, a Mac's form of Unicode, another case, absolute paths of another
machine. Such a name is taken only if exactly one file below the folder fits: the last parts of the name are
that file's whole path below the folder, or the whole name is the end of that path. No file outside the folder
is ever taken.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from detnas_nni.data.problems import Kind
from detnas_nni.errors import DataError
from detnas_nni.util.text import show
from detnas_nni.util.user_files import IMAGE_SUFFIXES, leaves_folder

OTHER_PLACES = Kind(
    "names in other forms",
    "image is found under another form of its name",
    "images are found under another form of their names",
)

Parts = tuple[str, ...]

_NEAREST = 20_000  # files up to which a similar name is looked for


class ImageFiles:
    """The files below a folder, by the names that annotations give them.

    Folders are listed when a name needs them, one listing instead of a stat per file; the whole tree is
    searched only if a name is missing.

    Args:
        root: the folder that names are relative to.
        key: the config key that names the folder, for the message.

    Raises:
        DataError: `root` is not a folder that can be read.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root = root
        self._names: dict[PurePosixPath, frozenset[str]] = {}
        try:
            self._top = _file_names(root)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
            raise DataError(
                f"{root}: the folder cannot be read ({getattr(error, 'strerror', error)}); expected a folder "
                f"of images, named by `{key}`."
            ) from None
        self._names[PurePosixPath()] = self._top
        self._tree: dict[str, list[Parts]] | None = None

    def __contains__(self, name: str) -> bool:
        """Whether there is a file with exactly this name."""
        if "/" not in name:
            return name in self._top
        path = PurePosixPath(name)
        if path.parent not in self._names:
            try:
                self._names[path.parent] = _file_names(self.root / path.parent)
            except (OSError, ValueError):  # ValueError: a NUL byte in the name
                self._names[path.parent] = frozenset()
        return path.name in self._names[path.parent]

    def all_names(self, *suffixes: str) -> list[str]:
        """The names of all files below the folder with one of these suffixes, except hidden ones."""
        paths = {parts for several in self._files().values() for parts in several}
        return [
            "/".join(parts)
            for parts in paths
            if parts[-1].lower().endswith(suffixes) and not any(part.startswith(".") for part in parts)
        ]

    def resolve(self, names: Mapping[int, str], taken: set[Path], *, stems: bool = False) -> dict[int, Path]:
        """The files meant by names that no file has exactly.

        Args:
            names: by any unique key.
            taken: files that other names match exactly, and which no other name may get.
            stems: whether names lack their suffix.

        Returns:
            The file of each name that exactly one file fits, if it fits no other of the names.
        """
        found: dict[int, Path] = {}
        for key, name in names.items():
            fitting = [self.root.joinpath(*parts) for parts in self._fitting(name, stems)]
            free = [file for file in fitting if file not in taken]
            if len(free) == 1:
                found[key] = free[0]
        claims = Counter(found.values())
        return {key: file for key, file in found.items() if claims[file] == 1}

    def nearest(self, name: str) -> str:
        """What exists instead of a missing file, for the end of a message; may be empty."""
        fitting = self._fitting(name, stems=False)
        if len(fitting) > 1:
            return f"; {len(fitting)} files fit, such as {show('/'.join(sorted(fitting)[0]))}"
        wanted = next(iter(_readings(name)), ())
        if not wanted:
            return ""
        for above in (self.root.parent, self.root.parent.parent):
            if above != self.root and _is_file(above, wanted):
                return f"; it is in {above}, which may be the folder to name"
        files = [parts[-1] for several in self._files().values() for parts in several]
        near = difflib.get_close_matches(wanted[-1], files[:_NEAREST], n=1)
        return f"; the most similar is {show(near[0])}" if near else ("" if files else "; it has no image")

    def _fitting(self, name: str, stems: bool) -> list[Parts]:
        """Paths below the folder of the files that a name may mean."""
        foreign = leaves_folder(name)
        readings = [wanted for wanted in _readings(name) if wanted]
        # Label Studio puts eight digits and a dash before the names of uploads.
        uploaded = [
            (*folders, _UPLOADED.sub("", last)) for *folders, last in readings if _UPLOADED.match(last)
        ]
        tries = [(wanted, stems) for wanted in [*readings, *uploaded]]
        if not stems:  # a name without its suffix, or with the other one of JPEG
            tries += [
                ((*folders, _JPEG.sub("", last)), True) for *folders, last in readings if _is_stem(last)
            ]
        of_jpeg = not stems and any(_JPEG.search(wanted[-1]) for wanted in readings)
        for wanted, stems in tries:
            last = _folded(wanted[-1])
            candidates = self._files().get(f"{last}." if stems else last, [])
            whole = [_folded(part) for part in wanted]
            fitting = [parts for parts in candidates if _ends_alike(parts, whole, stems)]
            if not fitting and foreign:  # its folders are from another machine
                fitting = candidates
            if stems and of_jpeg:
                fitting = [parts for parts in fitting if _JPEG.search(parts[-1])]
            exact = [parts for parts in fitting if parts[-1] == wanted[-1]]
            if fitting:
                return exact if len(exact) == 1 else fitting
        return []

    def _files(self) -> Mapping[str, list[Parts]]:
        """All files below the folder, by their folded name; images also by their folded stem and "."."""
        if self._tree is None:
            self._tree = defaultdict(list)
            for parts in _walk(self.root):
                name = _folded(parts[-1])
                stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
                self._tree[name].append(parts)
                if suffix in IMAGE_SUFFIXES:
                    self._tree[f"{stem}."].append(parts)
        return self._tree


_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
_JPEG = re.compile(r"\.jpe?g$", re.IGNORECASE)


def _is_stem(name: str) -> bool:
    return bool(_JPEG.search(name)) or PurePosixPath(name).suffix.lower() not in IMAGE_SUFFIXES


def _readings(name: str) -> Iterator[Parts]:
    """The parts of a name, in the ways in which it may be written."""
    plain = name.strip().replace("\\", "/")
    yield _parts(plain)
    try:
        address = urlsplit(plain) if "://" in plain or "?" in plain else None
    except ValueError:  # such as http://[x/a.jpg
        address = None
    if address is not None:  # Label Studio names local files in the query
        stored = parse_qs(address.query).get("d")
        yield _parts(unquote(stored[0].replace("\\", "/") if stored else address.path))
    for _ in range(2):  # some write %2520
        if "%" in plain:
            plain = unquote(plain).replace("\\", "/")
            yield _parts(plain)


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part not in ("", ".", "..") and not part.endswith(":"))


def _folded(part: str) -> str:
    return unicodedata.normalize("NFC", part).casefold()


def _ends_alike(parts: Parts, wanted: list[str], stems: bool) -> bool:
    """Whether one path is the end of the other, ignoring case and form of Unicode."""
    here = [_folded(part) for part in parts]
    if stems:
        here[-1] = PurePosixPath(here[-1]).stem
    count = min(len(here), len(wanted))
    return here[-count:] == wanted[-count:]


def _walk(root: Path) -> Iterator[Parts]:
    """The files below a folder; links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    waiting: list[Parts] = [()]
    while waiting:
        folder = waiting.pop()
        try:
            path = root.joinpath(*folder)
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir():
                        waiting.append((*folder, entry.name))
                    elif entry.is_file():
                        yield (*folder, entry.name)
        except OSError:
            continue


def _is_file(folder: Path, parts: Parts) -> bool:
    try:
        return folder.joinpath(*parts).is_file()
    except (OSError, ValueError):
        return False


def _file_names(folder: Path) -> frozenset[str]:
    with os.scandir(folder) as entries:
        return frozenset(entry.name for entry in entries if entry.is_file())
