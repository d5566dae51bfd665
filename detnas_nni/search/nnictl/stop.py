"""End whatever searches in a run's folder, and nothing else: `detnas stop`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.errors import UsageError
from detnas_nni.search.lock import Owner, read_owner
from detnas_nni.search.nnictl.files import TrialFiles
from detnas_nni.util.processes import descendants, end, wait

_NNICTL = 75.0  # seconds; nnictl itself waits for a minute
_INTERRUPT = 15.0  # seconds allowed for a search in process to end by itself


def stop(config: Config) -> list[str]:
    """End the search in a config's folder with all its processes; returns what was ended, one line each.

    Processes are identified by pid *and* start time, so that one that merely reuses a pid is not ended.

    Raises UsageError if the search runs on another machine.
    """
    owner = read_owner(config.search_dir)
    trials = [taken.process for taken in TrialFiles(config.search_dir, {}).all_taken()]
    if owner is not None and not owner.process.is_here:
        raise UsageError(
            f"{config.search_dir}: {owner} was started on another machine; run `detnas stop` there"
        )
    ended = []
    known = trials if owner is None else [*owner.processes, *trials]
    known = [process for process in {*known, *descendants(*known)} if process.alive]
    if owner is not None and any(process.alive for process in owner.processes):
        ended.append(f"{owner}")
        _stop_owner(owner)
    left = [process for process in known if process.alive]
    # The guard ends by itself once the others have.
    if owner is not None and owner.guard in left:
        left = [process for process in wait(left, 3.0) if process.alive]
    ended += [f"{process}, left over from it" for process in left]
    end(left)
    return ended


def _stop_owner(owner: Owner) -> None:
    if owner.manager is not None and owner.manager.alive:
        nnictl = _nnictl()
        if nnictl is not None and owner.experiment is not None:
            # With NNI's own command, so that its list of experiments stays correct.
            subprocess.run(
                [nnictl, "stop", owner.experiment], check=False, capture_output=True, timeout=_NNICTL
            )
        if owner.manager.alive:  # in another user's home, or with another list
            owner.manager.send(signal.SIGTERM)
            wait([owner.manager], _INTERRUPT)
    elif owner.process.alive:
        # It treats this like Ctrl-C; SIGINT itself is ignored by processes that a shell runs in the
        # background.
        owner.process.send(signal.SIGTERM)
        wait([owner.process], _INTERRUPT)


def _nnictl() -> str | None:
    beside = Path(sys.executable).with_name("nnictl")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("nnictl")
