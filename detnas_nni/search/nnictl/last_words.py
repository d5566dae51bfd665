"""Why a trial failed, from its standard error: all that there is where it shares no folder with the tuner.

NNI says of a failed trial that it failed. But it keeps the trial's output, and brings it from other machines.
"""

from __future__ import annotations

import json
import sys

from detnas_nni.search.outcome import NO_RESULT
from detnas_nni.search.outcomes import Failure

_MARK = "detnas trial failed: "
_LONGEST = 300  # characters of a line that nobody wrote for this


def say(failure: Failure) -> None:
    """Write down, in a trial, why it fails."""
    print(_MARK + json.dumps({"text": failure, "fatal": failure.fatal}), file=sys.stderr, flush=True)


def read(output: str) -> Failure:
    """Why a trial has failed, by its own word; or what it printed last, which may be the reason."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(_MARK):
            values = json.loads(line.removeprefix(_MARK))
            return Failure(values["text"], fatal=values["fatal"])
    return Failure(f"{NO_RESULT}; it printed last: {lines[-1][:_LONGEST]}") if lines else NO_RESULT
