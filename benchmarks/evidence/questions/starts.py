"""Question f: where should the trunk start on data of one's own?"""

from __future__ import annotations

from statistics import mean

from benchmarks.evidence.drawing import intervals
from benchmarks.evidence.found import Evidence, test_ap
from benchmarks.evidence.lines import Line
from benchmarks.evidence.markdown import (
    NOT_RUN,
    compared,
    difference,
    linked,
    number,
    p_value,
    raw,
    table,
)
from benchmarks.evidence.plan import spelled
from benchmarks.evidence.questions import Answer
from detnas_nni.audit.statistics import mean_interval, sign_flip_test

_NAMES = {"pretrained": "crops of the boxes", "scratch": "random weights", "own": "a classifier of its own"}


def starts(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"f. Where should the trunk start on data of one's own? ({evidence.name})"
    settings = evidence.part.starts
    if settings is None or len(settings.names) < 2:
        return Answer(title, f"Starts on {evidence.name}: not run yet.", NOT_RUN)
    ops = evidence.sample[0]
    found = {
        start: {seed: line for seed in settings.seeds if (line := evidence.net(ops, seed, start)) is not None}
        for start in settings.names
    }
    first, second = settings.names[:2]
    shared = sorted(found[first].keys() & found[second].keys())
    if len(shared) < 2:
        return Answer(title, f"Starts on {evidence.name}: not run yet.", NOT_RUN)
    gains = [test_ap(found[first][seed]) - test_ap(found[second][seed]) for seed in shared]
    gain, p = mean_interval(gains), sign_flip_test(gains)
    rows = [
        [
            _NAMES[start],
            _shown(lines),
            str(len(lines)),
            raw("nets", f"{evidence.name}/net/{spelled(ops)}/{start}/"),
        ]
        for start, lines in found.items()
    ]
    # Three differences cannot reach a small p, and the bootstrap of so few is too narrow: the seeds' ranges
    # are all that can be compared.
    apart = min(map(test_ap, found[first].values())) > max(map(test_ap, found[second].values()))
    below = max(map(test_ap, found[first].values())) < min(map(test_ap, found[second].values()))
    means = compared(gain, "above", "below") if apart or below else "cannot tell"
    summary = (
        f"Starts on {evidence.name}: a net that starts from {_NAMES[first]} against one that starts from "
        f"{_NAMES[second]}, {len(shared)} seeds: AP {difference(gain)} ({means})."
    )
    body = "\n".join(
        [
            f"One net of the sample, `{spelled(ops)}`, trained in the detector with the same steps and seeds "
            "from each start, on the test split.\n",
            f"![AP by start](images/evidence-starts-{evidence.name}.svg)\n",
            table(["the trunk starts from", "AP, one per seed", "n", "raw lines"], rows),
            f"{_NAMES[first].capitalize()} minus {_NAMES[second]}: {difference(gain)}, n {gain.n}, "
            f"{p_value(p)} (the smallest p that {gain.n} pairs can give is {number(2 / 2**gain.n)}). One "
            "counts as better only where each of its seeds is above every seed of the other.\n",
        ]
    )
    image = intervals(
        {
            _NAMES[start]: [test_ap(line) for line in lines.values()]
            for start, lines in found.items()
            if lines
        },
        "AP, one dot per seed",
    )
    return Answer(title, summary, body, {f"evidence-starts-{evidence.name}.svg": image})


def _shown(lines: dict[int, Line]) -> str:
    if not lines:
        return NOT_RUN
    shown = ", ".join(linked(line, number(test_ap(line))) for line in lines.values())
    return f"{number(mean(map(test_ap, lines.values())))} ({shown})"
