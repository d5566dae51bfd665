"""A small process beside NNI's manager and the tuner: when one of the two is killed, it ends the rest.

NNI 3.0 leaves processes behind. A manager that is killed leaves the tuner and the trials; a killed tuner
leaves a manager that waits for it, and trials. This process watches both and whatever they start, outlives
them all, and ends when they have. The tuner starts it; it imports neither torch nor NNI.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from detnas_nni.search.process import Process, descendants, end, wait

_EVERY = 1.0  # seconds between two looks
_MANAGERS_OWN_END = 12.0  # seconds that NNI's manager gets to end its trials and itself; it takes 5 to 10


def start_guard(tuner: Process, manager: Process, log: Path) -> Process | None:
    """Start the guard of a tuner and its manager; it writes what it does to `log`."""
    pair = json.dumps([tuner.to_dict(), manager.to_dict()])
    with log.open("ab") as file:
        guard = subprocess.Popen(
            [sys.executable, "-m", "detnas_nni.search.guard", pair],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # neither a terminal's Ctrl-C nor its end is meant for it
        )
    return Process.of(guard.pid)


def watch(tuner: Process, manager: Process) -> None:
    """Return when tuner and manager and all that they started have ended, if need be by this process."""
    known: set[Process] = set(descendants(tuner, manager))
    _say(f"watching the tuner ({tuner.pid}) and NNI's manager ({manager.pid})")
    while tuner.alive and manager.alive:
        # What they started is written down while they live: the kernel forgets whose children these were.
        known = {process for process in known if process.alive} | set(descendants(tuner, manager))
        known.discard(Process.current())
        time.sleep(_EVERY)
    if manager.alive:
        # Either it is stopping, and has ended the tuner first, or the tuner died. One more SIGTERM does not
        # disturb the former.
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
    # Whoever closes the terminal, or ends the process group, means the search; that is what is guarded.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    watch(tuner, manager)


if __name__ == "__main__":
    _main()
