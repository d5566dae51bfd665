"""The images that a user names: files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from detnas_nni.data.files import IMAGE_SUFFIXES
from detnas_nni.errors import UsageError


def image_files(names: Sequence[str], leave_out: Path | None = None) -> list[Path]:
    """The files, each once, in the order of the names; a folder's and a pattern's are sorted.

    Args:
        names: a file; a folder, of which all images at any depth are meant; or a pattern such as `a/*.jpg`,
            as a shell leaves it that finds nothing, or that it was quoted from.
        leave_out: a folder of drawn images, which are no input where it lies in a folder that is named.

    Raises:
        UsageError: there is no such file or folder, or no image in it.
    """
    found: dict[Path, None] = {}
    for name in names:
        files = _files(name, leave_out)
        if not files:
            raise UsageError(f"{name}: there is no image; expected files of {', '.join(IMAGE_SUFFIXES)}")
        found |= dict.fromkeys(files)
    return list(found)


def _files(name: str, leave_out: Path | None) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        images = (
            file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
        )
        lies_within = leave_out is not None and _is_below(leave_out, path)
        return sorted(file for file in images if not (lies_within and _is_below(file, leave_out)))
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise UsageError(f"{name}: there is no such file or folder")
    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - pathlib's takes no absolute pattern
    return [file for match in matches for file in _files(match, leave_out)]


def _is_below(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def drawn_names(files: Sequence[Path]) -> list[str]:
    """A name for the drawn image of each file: its own, as PNG, numbered where two would have the same."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = f"{file.stem}.png", 2
        while name.lower() in taken:  # a disk may not tell upper case from lower
            name, number = f"{file.stem}-{number}.png", number + 1
        taken.add(name.lower())
        names.append(name)
    return names
