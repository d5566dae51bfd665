"""A folder that one process at a time may write to: a kernel lock on a file beside it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_EVERY = 0.2  # seconds between two attempts at a lock that another process has


class FolderLock:
    """The lock of a folder, held from `acquire` until `release`, or until the process has ended.

    It is a kernel lock (flock), so that a dead owner leaves none behind. The locked file is beside the
    folder, since `--fresh` clears the folder.

    Args:
        folder: it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._file = (folder.parent / f".{folder.name}.lock").open("ab")
        _OPEN.add(self)

    def acquire(self) -> bool:
        """Take the lock; False if another process has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            _log.warning(
                "%s: this file system has no locks; make sure that only one process at a time writes here",
                self._folder,
            )
        return True

    def wait(self, seconds: float, worth_it: Callable[[], bool] = lambda: True) -> bool:
        """Take the lock as soon as its holder releases it; False if that does not happen in time.

        Args:
            seconds: the longest wait.
            worth_it: called repeatedly; the wait also ends when it returns False.
        """
        deadline = time.monotonic() + seconds
        while not self.acquire():
            if time.monotonic() > deadline or not worth_it():
                return False
            time.sleep(_EVERY)
        return True

    def release(self) -> None:
        """Release the lock."""
        _OPEN.discard(self)
        self._file.close()


_OPEN: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_in_a_child() -> None:
    """Drop the lock in a forked process, such as a loader's worker, which would hold it for a dead parent."""
    for lock in _OPEN:
        lock._file.close()
    _OPEN.clear()


os.register_at_fork(after_in_child=_forget_in_a_child)
