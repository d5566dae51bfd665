"""The raw numbers: one JSON object per line, one file per kind, each line found by its key."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from detnas_nni.errors import DataError
from detnas_nni.util.files import write_text

KINDS = ("supernets", "nets", "fitness", "searches", "noise")


@dataclass(frozen=True)
class Line:
    """One raw line: its place, and its content."""

    file: str
    number: int
    """from 1"""
    values: Mapping[str, Any] = field(repr=False)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)


class Lines:
    """The files of a folder. Several processes may append at a time; a line is on disk when that returns.

    Whatever follows a file's last end of line was torn by a kill: it is not read, and is cut off before the
    next line is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, kind: str) -> Path:
        return self.folder / f"{kind}.jsonl"

    def read(self, kind: str) -> dict[str, Line]:
        """The lines of a kind by key, in the file's order. Raises DataError that names a damaged one."""
        path = self.path(kind)
        if not path.exists():
            return {}
        return _parsed(path, path.read_bytes())

    def read_all(self) -> dict[str, dict[str, Line]]:
        """Every kind's lines."""
        return {kind: self.read(kind) for kind in KINDS}

    def append(self, kind: str, key: str, values: Mapping[str, Any]) -> None:
        """Add a line, unless there is one with the key. Raises DataError like `read`."""
        line = _spelled({"key": key, **values}).encode()
        path = self.path(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as file:
            content = file.read()
            whole = content.rpartition(b"\n")
            if key in _parsed(path, content):
                return
            file.truncate(len(whole[0]) + len(whole[1]))
            file.seek(0, os.SEEK_END)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, kind: str, keys: Collection[str]) -> None:
        """Remove the lines with these keys, so that they are run again. Raises DataError like `read`."""
        path = self.path(kind)
        kept = [line.values for key, line in self.read(kind).items() if key not in keys]
        write_text(path, "".join(map(_spelled, kept)))


def _spelled(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(", ", ": ")) + "\n"


def _parsed(path: Path, content: bytes) -> dict[str, Line]:
    found: dict[str, Line] = {}
    for number, line in enumerate(content.rpartition(b"\n")[0].splitlines(), start=1):
        try:
            values = json.loads(line)
            key = values["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: line {number} is damaged ({type(error).__name__}: {error}); remove it, and what it "
                "said is run again"
            ) from None
        found.setdefault(key, Line(path.name, number, values))
    return found


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file
