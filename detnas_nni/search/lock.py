"""One search per folder: the lock that its owner holds while it lives, and who the owner is, for others."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detnas_nni.config.run_folder import OWNER
from detnas_nni.errors import DetNASError
from detnas_nni.util.files import write_json
from detnas_nni.util.lock import FolderLock
from detnas_nni.util.processes import Process

_log = logging.getLogger(__name__)

# Seconds to wait for an owner that is ending: NNI's manager is gone, and the guard ends the rest.
_PATIENCE = 30.0


class SearchRunsError(DetNASError):
    """Another process searches in the folder."""


@dataclass(frozen=True)
class Owner:
    """Who searches in a folder, as recorded in its `owner.json`."""

    process: Process
    door: str
    """the command that started it: `detnas search` or `nnictl create`"""
    since: str
    manager: Process | None = None
    """NNI's manager, in a search by nnictl"""
    guard: Process | None = None
    experiment: str | None = None
    """NNI's id"""
    port: int | None = None
    """of NNI's web UI"""
    ended: bool = False
    """whether the search has ended; NNI's manager and the tuner may live on for the web UI"""
    evaluations: int | None = None
    """how many candidates the search will evaluate"""

    @classmethod
    def here(cls, door: str, **nni: Any) -> Owner:
        """This process as owner, from now on."""
        return cls(Process.current(), door, datetime.now(UTC).isoformat(timespec="seconds"), **nni)

    @property
    def processes(self) -> list[Process]:
        return [process for process in (self.process, self.manager, self.guard) if process is not None]

    def __str__(self) -> str:
        nni = "" if self.experiment is None else f", experiment {self.experiment}, web UI on port {self.port}"
        return f"{self.process} (`{self.door}`{nni}) since {self.since}"


def write_owner(folder: Path, owner: Owner) -> None:
    """Record the owner of a search's folder in the folder."""
    processes = {name: getattr(owner, name) for name in ("process", "manager", "guard")}
    named = {name: None if process is None else process.to_dict() for name, process in processes.items()}
    write_json(_owner_path(folder), {**vars(owner), **named})


def read_owner(folder: Path) -> Owner | None:
    """The last owner of a folder; None if it had none."""
    try:
        values = json.loads(_owner_path(folder).read_text())
        processes = {name: Process.from_dict(values[name]) for name in ("process", "manager", "guard")}
        return Owner(**{**values, **processes})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("%s: cannot be read: %s", _owner_path(folder), error)
        return None


class SearchLock:
    """A search's folder, locked for this process until `release`, or until the process has ended.

    Args:
        folder: the search's.
        owner: who wants it.

    Raises:
        SearchRunsError: another process has it.
    """

    def __init__(self, folder: Path, owner: Owner) -> None:
        self.owner = owner
        self._folder = folder
        self._lock = FolderLock(folder)
        try:
            self._acquire()
        except BaseException:
            self._lock.release()
            raise

    def update(self, **changes: Any) -> None:
        """Record the owner in the folder, with changes."""
        self.owner = replace(self.owner, **changes)
        write_owner(self._folder, self.owner)

    def release(self) -> None:
        """Let others search here."""
        self._lock.release()

    def _acquire(self) -> None:
        if not self._lock.wait(_PATIENCE, lambda: _is_ending(read_owner(self._folder))):
            by = read_owner(self._folder) or "another process"
            raise SearchRunsError(
                f"{self._folder}: {by} searches here already, and two would corrupt each other's journal; "
                "wait until it ends, end it with `detnas stop`, or give this search another name with "
                "search.name"
            )


def _is_ending(owner: Owner | None) -> bool:
    """Whether the lock's holder is about to end: a dead owner's child, or a tuner whose manager is dead."""
    return owner is not None and any(
        process.is_here and not process.alive for process in (owner.process, owner.manager) if process
    )


def _owner_path(folder: Path) -> Path:
    return folder / OWNER
