"""Question b: does evolution find better nets than random search, in the supernet and trained alone?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from benchmarks.evidence.drawing import curves
from benchmarks.evidence.found import Evidence, test_ap
from benchmarks.evidence.lines import Line
from benchmarks.evidence.markdown import (
    NOT_RUN,
    compared,
    difference,
    estimated,
    folded,
    interval,
    linked,
    number,
    raw,
    signed,
    table,
)
from benchmarks.evidence.plan import best_of
from benchmarks.evidence.questions import Answer
from detnas_nni.audit.statistics import mean_interval, sign_flip_test

BASELINE = "random"

_NAMES = {"detnas": "the paper's evolution", "regularized_evolution": "NNI's regularized evolution"}

Pair = tuple[str, Line, Line]
"""A supernet, and two searches in it with one seed."""


def strategies(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"b. Does evolution find better nets than random search? ({evidence.name})"
    searches = evidence.part.searches
    others = [] if searches is None else [name for name in searches.strategies if name != BASELINE]
    pairs = {name: found for name in others if (found := list(_pairs(evidence, name)))}
    if not pairs:
        return Answer(title, f"Search on {evidence.name}: not run yet.", NOT_RUN)
    evaluations = min(
        len(line["candidates"]) for of_one in pairs.values() for _, *two in of_one for line in two
    )
    winners = {name: list(_winners(evidence, of_one)) for name, of_one in pairs.items()}
    body = "\n".join(
        [
            f"Searches of {evaluations} evaluations in the same supernets, with the same calibration images. "
            "A pair is two strategies in one supernet with one seed; the test flips the signs of the "
            "differences. Fitness is AP on the search split with the supernet's weights.\n",
            f"![Best fitness so far, mean of the searches](images/evidence-search-{evidence.name}.svg)\n",
            table(
                ["best fitness, minus random search's", "mean", "95 % interval", "n", "p", "raw lines"],
                [row for name, of_one in pairs.items() for row in _rows(evidence, name, of_one)],
            ),
            "AP on the test split of the winners, each trained on its own with one seed:\n",
            _winner_table(evidence, winners),
            folded("Every search", _every(evidence, others)),
        ]
    )
    image = curves(
        {name: _curve(evidence, name, evaluations) for name in (*pairs, BASELINE)},
        "evaluations",
        "best fitness so far",
    )
    summary = (
        _summary(evidence.name, others[0], pairs[others[0]], winners[others[0]]) if others[0] in pairs else ""
    )
    return Answer(title, summary, body, {f"evidence-search-{evidence.name}.svg": image})


def _summary(part: str, name: str, pairs: Sequence[Pair], winners: Sequence[tuple[Line, Line]]) -> str:
    gains = _gains(pairs)
    gain = mean_interval(gains)
    found = compared(
        gain,
        "finds fitter candidates than",
        "finds less fit candidates than",
        "may or may not beat",
        p=sign_flip_test(gains),
    )
    text = (
        f"Search on {part}: with the same number of evaluations {_NAMES[name]} {found} random search in the "
        f"supernet (best fitness {difference(gain)}, {gain.n} pairs)"
    )
    if not winners:
        return f"{text}; the winners are not trained yet."
    differences = [test_ap(ours) - test_ap(other) for ours, other in winners]
    trained = mean_interval(differences)
    means = compared(
        trained,
        "its winners are better detectors",
        "its winners are worse detectors",
        "we cannot tell whether its winners are better detectors",
        p=sign_flip_test(differences),
    )
    return f"{text}; trained alone, {means} (AP {difference(trained)}, {trained.n} pairs)."


def _pairs(evidence: Evidence, strategy: str, guide: str = "ap") -> Iterator[Pair]:
    searches = evidence.part.searches
    if searches is None:
        return
    for supernet in evidence.supernets:
        for seed in (*searches.seeds, *searches.more_seeds):
            ours = evidence.search(supernet, strategy, seed, guide)
            other = evidence.search(supernet, BASELINE, seed, guide)
            if ours is not None and other is not None:
                yield supernet, ours, other


def _gains(pairs: Sequence[Pair]) -> list[float]:
    return [best_fitness(ours) - best_fitness(other) for _, ours, other in pairs]


def best_fitness(search: Line) -> float:
    """The fitness of a search's winner."""
    return max(fitness for _, fitness in search["candidates"])


def _rows(evidence: Evidence, name: str, pairs: Sequence[Pair]) -> Iterator[Sequence[str]]:
    groups = {supernet: [pair for pair in pairs if pair[0] == supernet] for supernet in evidence.supernets}
    for supernet, of_one in {**groups, "all": pairs}.items():
        if of_one:
            gains = _gains(of_one)
            gain = mean_interval(gains)
            place = "*" if supernet == "all" else supernet
            yield (
                f"{_NAMES[name]}, {'all supernets' if supernet == 'all' else f'supernet {supernet}'}",
                signed(gain.value),
                interval(gain),
                str(gain.n),
                number(sign_flip_test(gains)),
                raw("searches", f"{evidence.name}/search/{place}/ap/{name}/", f"…/{BASELINE}/"),
            )


def _winners(evidence: Evidence, pairs: Sequence[Pair]) -> Iterator[tuple[Line, Line]]:
    for _, ours, other in pairs:
        first, second = evidence.net(best_of(ours)), evidence.net(best_of(other))
        if first is not None and second is not None:
            yield first, second


def _winner_table(evidence: Evidence, winners: dict[str, list[tuple[Line, Line]]]) -> str:
    rows = []
    for name, pairs in winners.items():
        if not pairs:
            rows.append([_NAMES[name], NOT_RUN, "", "", "", "", ""])
            continue
        differences = [test_ap(ours) - test_ap(other) for ours, other in pairs]
        gain = mean_interval(differences)
        means = (mean_interval([test_ap(pair[side]) for pair in pairs]) for side in (0, 1))
        rows.append(
            [
                _NAMES[name],
                *map(estimated, means),
                signed(gain.value),
                interval(gain),
                f"{gain.n}",
                number(sign_flip_test(differences)),
            ]
        )
    header = ["winners of", "their AP", "AP of random search's", "difference", "95 % interval", "n", "p"]
    return table(header, rows) + "\nThe raw line of each is linked under *Every search*.\n"


def _curve(evidence: Evidence, name: str, evaluations: int) -> list[float]:
    found = [
        list(accumulate((fitness for _, fitness in line["candidates"]), max))[:evaluations]
        for line in _searches(evidence, name)
    ]
    return np.mean(found, axis=0).tolist()


def _searches(evidence: Evidence, name: str) -> list[Line]:
    """Searches with a counterpart of the baseline, so that all curves are for the same supernets."""
    if name != BASELINE:
        return [ours for _, ours, _ in _pairs(evidence, name)]
    first = next(iter(evidence.part.searches.strategies))
    return [other for _, _, other in _pairs(evidence, first)]


def _every(evidence: Evidence, others: Sequence[str]) -> str:
    rows = []
    for name in (*others, BASELINE):
        for supernet in evidence.supernets:
            for seed in (*evidence.part.searches.seeds, *evidence.part.searches.more_seeds):
                line = evidence.search(supernet, name, seed)
                if line is not None:
                    net = evidence.net(best_of(line))
                    trained = "" if net is None else linked(net, number(test_ap(net)))
                    rows.append(
                        [name, supernet, str(seed), linked(line, number(best_fitness(line))), trained]
                    )
    return table(["strategy", "supernet", "seed", "best fitness", "AP of the winner, trained alone"], rows)
