"""A trial's heartbeat: whether its machine still runs it, shown through the search's folder.

If a machine dies, NNI reports its trials as canceled, as if by a user; if one stops answering, it reports
them as running, forever. So beside each trial a small process updates a file's time while the trial lives,
and writes a final mark when the trial has ended, however that happened. A file without that mark which no
longer changes means that the trial's machine is gone. It is a process, not a thread: a trial that hangs in
compiled code is alive, but may let no thread run.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_EVERY = 2.0  # seconds between two beats
_SEEN = 0.25  # seconds within which a trial's end is noticed
_LAST_WORD = b"ended\n"

# Seconds that count at most between two checks. Whatever stops this process or the shared folder, such as a
# file server that restarts, silences every trial and says nothing about any of them.
_STEP = 5.0


@dataclass(frozen=True)
class Beat:
    """A trial's last heartbeat."""

    moment: int
    """of a clock that may be wrong or another machine's: only a change of it means something"""
    ended: bool
    """whether it was seen to end, on a machine that lived on"""


@contextlib.contextmanager
def heartbeat(path: Path) -> Iterator[None]:
    """Have a file beat for this process in this block, and mark its end if it is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")  # a resumed trial may have left a final mark before
    # As a script, not as a module: it imports nothing from this package, and so starts at once.
    command = [sys.executable, "-I", "-S", __file__, str(path), str(os.getpid())]
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **nowhere) as witness:
        try:
            yield
        finally:
            witness.kill()
            witness.wait()
            _say_last_word(path)


def read_beat(path: Path) -> Beat | None:
    """The last beat in a file; None if there is no such file."""
    try:
        # NFS gives the current time when a file is opened, but may give an old one when it is only asked for.
        with path.open("rb") as file:
            return Beat(os.fstat(file.fileno()).st_mtime_ns, file.read() == _LAST_WORD)
    except FileNotFoundError:
        return None


class Listener:
    """How long trials have been silent, by the listener's clock."""

    def __init__(self) -> None:
        self.clock = 0.0
        """seconds, without those in which no trial could be heard"""
        self._looked = time.monotonic()
        self._heard: dict[str, tuple[int, float]] = {}

    def look(self) -> None:
        """Advance the clock; to be called before the beats are read."""
        now = time.monotonic()
        self.clock += min(now - self._looked, _STEP)
        self._looked = now

    def silent_for(self, trial: str, beat: Beat) -> float:
        """Seconds since a trial's last beat was seen to change."""
        moment, since = self._heard.get(trial, (None, 0.0))
        if moment != beat.moment:
            since = self.clock
            self._heard[trial] = (beat.moment, since)
        return self.clock - since


def _beat_while_it_lives(path: Path, trial: int) -> None:
    # A dead process's children get another parent.
    while os.getppid() == trial:
        # A folder that is out of reach for a while may come back.
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            path.touch()
        next_beat = time.monotonic() + _EVERY
        while os.getppid() == trial and time.monotonic() < next_beat:
            time.sleep(_SEEN)
    _say_last_word(path)


def _say_last_word(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.write_bytes(_LAST_WORD)


if __name__ == "__main__":
    _beat_while_it_lives(Path(sys.argv[1]), int(sys.argv[2]))
