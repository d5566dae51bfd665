"""Question c: is a search guided by detection better for a detector than one guided by classification?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

from benchmarks.evidence.drawing import intervals
from benchmarks.evidence.found import Evidence, test_ap
from benchmarks.evidence.lines import Line
from benchmarks.evidence.markdown import (
    NOT_RUN,
    compared,
    difference,
    estimated,
    linked,
    number,
    p_value,
    raw,
    signed,
    table,
)
from benchmarks.evidence.plan import best_of, spelled
from benchmarks.evidence.questions import Answer
from detnas_nni.audit.statistics import mean_interval, sign_flip_test


@dataclass(frozen=True)
class _Pair:
    """The winners of two searches in one supernet with one seed, trained with the same seeds."""

    supernet: str
    seed: int
    by_ap: list[Line]
    by_top1: list[Line]

    @property
    def gain(self) -> float:
        return mean(map(test_ap, self.by_ap)) - mean(map(test_ap, self.by_top1))


def guides(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"c. Is AP a better guide than classification accuracy? ({evidence.name})"
    pairs = list(_pairs(evidence))
    if not pairs:
        return Answer(title, f"Guide on {evidence.name}: not run yet.", NOT_RUN)
    gains = [pair.gain for pair in pairs]
    gain, p = mean_interval(gains), sign_flip_test(gains)
    by_ap = mean_interval([mean(map(test_ap, pair.by_ap)) for pair in pairs])
    by_top1 = mean_interval([mean(map(test_ap, pair.by_top1)) for pair in pairs])
    rows = [
        [
            pair.supernet,
            str(pair.seed),
            *(
                cell
                for lines in (pair.by_ap, pair.by_top1)
                for cell in (
                    spelled(lines[0]["ops"]),
                    ", ".join(linked(line, number(test_ap(line))) for line in lines),
                )
            ),
            signed(pair.gain),
        ]
        for pair in pairs
    ]
    header = [
        "supernet",
        "seed",
        "by AP: ops",
        "AP, one per seed",
        "by top-1: ops",
        "AP, one per seed",
        "gain",
    ]
    body = "\n".join(
        [
            "The evolution, the pre-trained supernet and the limit on MACs are the same; one search is "
            "guided by AP in the fine-tuned supernet, the other by top-1 in the pre-trained one (ClsNAS). "
            "Both winners are trained alone in the same detector, from the same start and with the same "
            "seeds.\n",
            f"![AP of the winners](images/evidence-guides-{evidence.name}.svg)\n",
            table(
                ["winners of the search guided by", "AP", "n", "raw lines"],
                [
                    ["AP", estimated(by_ap), str(by_ap.n), _where(evidence, "ap")],
                    ["top-1", estimated(by_top1), str(by_top1.n), _where(evidence, "top1")],
                    [f"difference ({p_value(p)})", difference(gain), str(gain.n), "below"],
                ],
            ),
            table(header, rows),
        ]
    )
    means = compared(
        gain,
        "finds better detectors than",
        "finds worse detectors than",
        "may or may not find better detectors than",
        p=p,
    )
    summary = (
        f"Guide on {evidence.name}: a search guided by AP {means} one guided by classification accuracy "
        f"(AP {difference(gain)}, {gain.n} pairs of winners, {p_value(p)})."
    )
    image = intervals({"guided by AP": by_ap, "guided by top-1": by_top1}, "AP of the winners, trained alone")
    return Answer(title, summary, body, {f"evidence-guides-{evidence.name}.svg": image})


def _pairs(evidence: Evidence) -> Iterator[_Pair]:
    searches, winners = evidence.part.searches, evidence.part.winners
    if searches is None or winners is None:
        return
    for seed in evidence.part.classification_searches:
        for supernet in evidence.supernets:
            found = [
                evidence.search(supernet, searches.strategies[0], seed, guide) for guide in ("ap", "top1")
            ]
            if None in found:
                continue
            nets = [best_of(line) for line in found if line is not None]
            both = [
                (one, other)
                for trained in winners.seeds
                if (one := evidence.net(nets[0], trained)) is not None
                and (other := evidence.net(nets[1], trained)) is not None
            ]
            if both:
                yield _Pair(supernet, seed, [one for one, _ in both], [other for _, other in both])


def _where(evidence: Evidence, guide: str) -> str:
    return raw("searches", f"{evidence.name}/search/*/{guide}/")
