"""A trial's heartbeat: whether its machine still runs it, told through the search's folder.

Of a machine that has died NNI says that its trials were canceled, as if by a user; of one that does not
answer any more, that they run, for good. So beside each trial a small process changes a file's time while the
trial lives, and writes a last word when the trial has ended, however that happened. A file without a last
word that does not change is a trial whose machine has gone. A process, and no thread: a trial that hangs in
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
_SEEN = 0.25  # seconds within which a trial's end is seen
_LAST_WORD = b"ended\n"

# Seconds that count at most between two looks. What stops this process or the folder that all share, such as
# a file server that is started anew, silences every trial, and says nothing about any.
_STEP = 5.0


@dataclass(frozen=True)
class Beat:
    """A trial's last one."""

    moment: int
    """of a clock that need not be right, nor anybody else's: only a change of it means something"""
    ended: bool
    """whether it was seen to end, on a machine that lived on"""


@contextlib.contextmanager
def heartbeat(path: Path) -> Iterator[None]:
    """Have a file beat for this process in this block, and after it has been killed say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")  # a trial that is resumed may have had a last word before
    # As a script, not as a module: it imports nothing of this package, and so is there at once.
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
        # NFS gives the time as it is to who opens a file, and may give an old one to who only asks for it.
        with path.open("rb") as file:
            return Beat(os.fstat(file.fileno()).st_mtime_ns, file.read() == _LAST_WORD)
    except FileNotFoundError:
        return None


class Listener:
    """How long trials have been silent, by the clock of who listens."""

    def __init__(self) -> None:
        self.clock = 0.0
        """seconds, without those in which nobody could be heard"""
        self._looked = time.monotonic()
        self._heard: dict[str, tuple[int, float]] = {}

    def look(self) -> None:
        """Let the clock go on; to be called before the beats are read."""
        now = time.monotonic()
        self.clock += min(now - self._looked, _STEP)
        self._looked = now

    def silent_for(self, trial: str, beat: Beat) -> float:
        """Seconds since a trial's last beat was seen to be another one."""
        moment, since = self._heard.get(trial, (None, 0.0))
        if moment != beat.moment:
            since = self.clock
            self._heard[trial] = (beat.moment, since)
        return self.clock - since


def _beat_while_it_lives(path: Path, trial: int) -> None:
    # A dead process's children are given to another one.
    while os.getppid() == trial:
        # A folder that cannot be reached for a while may be reached again.
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
