"""Ends what is orphaned or out of time: a search of which a part was killed, and a trial.

NNI 3.0 leaves processes behind. A manager that is killed leaves the tuner and the trials; a killed tuner
leaves a manager that waits for it, and trials. The guard, a small process beside both, watches them and
whatever they start, outlives them all, and ends when they have: `python -m`, started by the tuner; it imports
neither torch nor NNI. In each trial a `Watchdog` does the same for the trial alone. Whether a trial's whole
machine is gone is seen from its heartbeat (`heartbeat.py`, which imports nothing from the package).
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detnas_nni.errors import too_long
from detnas_nni.util.processes import Process, descendants, end, wait

_EVERY = 1.0  # seconds between two checks
_MANAGERS_OWN_END = 12.0  # seconds that NNI's manager gets to end its trials and itself; it takes 5 to 10


def start_guard(tuner: Process, manager: Process, log: Path) -> Process | None:
    """Start the guard of a tuner and its manager; it writes what it does to `log`."""
    pair = json.dumps([tuner.to_dict(), manager.to_dict()])
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "detnas_nni.search.nnictl.liveness", pair],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # a terminal's Ctrl-C or hang-up must not reach it
        )
    return Process.of(process.pid)


def guard(tuner: Process, manager: Process) -> None:
    """Return when tuner and manager and all that they started have ended, if need be by this process."""
    known: set[Process] = set(descendants(tuner, manager))
    _say(f"watching the tuner ({tuner.pid}) and NNI's manager ({manager.pid})")
    while tuner.alive and manager.alive:
        # What they started is noted while they live: the kernel forgets whose children these were.
        known = {process for process in known if process.alive} | set(descendants(tuner, manager))
        known.discard(Process.current())
        time.sleep(_EVERY)
    if manager.alive:
        # Either it is stopping and has ended the tuner first, or the tuner died. In the first case one more
        # SIGTERM does no harm.
        _say(f"the tuner ({tuner}) has ended; ending NNI's manager ({manager})")
        manager.send(signal.SIGTERM)
        known |= set(descendants(manager))
        for process in wait([manager], _MANAGERS_OWN_END):
            process.send(signal.SIGKILL)
    left = [process for process in {tuner, *known} - {Process.current()} if process.alive]
    if left:
        _say(f"ending what is left: {', '.join(str(process.pid) for process in left)}")
    end(left)


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def _main() -> None:
    tuner, manager = (Process(**values) for values in json.loads(sys.argv[1]))
    # Closing the terminal or ending the process group is meant for the search, which is what this guards.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    guard(tuner, manager)


# Seconds after its limit at which a trial is ended without Python's help: code that holds the interpreter's
# lock keeps the watchdog from running.
_BACKSTOP = 30.0


class Watchdog:
    """Kills this process with all its children when its time is up or what it runs for is gone.

    Args:
        lifeline: processes without which this one has no purpose, such as NNI's manager.
        every: seconds between two checks.
    """

    def __init__(self, lifeline: Sequence[Process], every: float = 1.0) -> None:
        self._lifeline = lifeline
        self._every = every
        self._deadline: float | None = None
        self._on_late: Callable[[str], None] = lambda text: None
        self._seconds = 0.0
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    @contextmanager
    def limit(self, seconds: float | None, on_late: Callable[[str], None]) -> Iterator[None]:
        """Give this block this many seconds; `on_late` gets the error to report before the process ends."""
        if seconds is None:
            yield
            return
        self._seconds, self._on_late = seconds, on_late
        self._deadline = time.monotonic() + seconds
        faulthandler.dump_traceback_later(seconds + _BACKSTOP, exit=True)
        try:
            yield
        finally:
            self._deadline = None
            faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        while True:
            time.sleep(self._every)
            if not all(process.alive for process in self._lifeline):
                _end_now()
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                try:
                    self._on_late(f"EvaluationError: {too_long(self._seconds)} {_where()}")
                finally:
                    _end_now()


def _where() -> str:
    """Where the main thread is, as the last line of its traceback."""
    frame = sys._current_frames()[threading.main_thread().ident]
    last = traceback.extract_stack(frame)[-1]
    return f"({Path(last.filename).name}, line {last.lineno}, in {last.name})"


def _end_now() -> None:
    for process in descendants(Process.current()):
        process.send(signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    _main()
