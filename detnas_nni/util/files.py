"""Files and folders that are either complete or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and rename it to `path`.

    Raises OSError naming `path`; the file is then as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # a full disk's error names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def is_free(folder: Path) -> bool:
    """Whether the folder does not exist or is empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which replaces `folder` if the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        new.rename(folder)


@contextmanager
def restored_on_error(folder: Path, names: Collection[str]) -> Iterator[None]:
    """If the block fails, these files of a folder are as before it, and folders that it made are gone."""
    before = [name for name in names if (folder / name).is_file()]
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with tempfile.TemporaryDirectory() as kept:
        for name in before:
            shutil.copy2(folder / name, kept)
        try:
            yield
        except BaseException:
            for name in names:
                (folder / name).unlink(missing_ok=True)
            for name in before:
                shutil.copy2(Path(kept) / name, folder)
            for path in made:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
            raise
