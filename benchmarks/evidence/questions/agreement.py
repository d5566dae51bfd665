"""Question a, why: do two supernets agree on the order of nets, and on which block's candidates?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evidence.estimates import Effects, block_effects, shared, spread, taus_between
from benchmarks.evidence.found import Evidence
from benchmarks.evidence.markdown import NOT_RUN, counted, number, p_value, raw, signed, table
from benchmarks.evidence.plan import table as costs
from benchmarks.evidence.questions import Answer
from benchmarks.evidence.settings import SEARCH


def agreement(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"a. Do supernets agree with each other? ({evidence.name})"
    nets = evidence.trained
    fitness = {name: lines for name in evidence.supernets if (lines := evidence.fitness(nets, name))}
    measures = [[line["fitness"] for line in lines] for lines in fitness.values()]
    taus = taus_between(measures)
    if not taus:
        return Answer(title, f"Agreement on {evidence.name}: not run yet.", NOT_RUN)
    where = raw("fitness", f"{evidence.name}/fitness/s*/{SEARCH}/")
    said = averaged_over_pairs(taus)
    summary = f"Agreement on {evidence.name}: the orders of two supernets agree at Kendall's τ {said}"
    body = [
        f"{counted(len(measures), 'supernet')} of the same training, but for the seed (and the machine, if "
        f"the end of the page names two), rank the same {len(nets)} nets. Kendall's τ between two of them "
        f"is {said} ({where}).\n"
    ]
    effects = {name: found for name in fitness if (found := _effects(evidence, name)) is not None}
    if len(effects) > 1:
        blocks = [(spread(of), *shared(of)) for of in zip(*effects.values(), strict=True)]
        most = max(range(len(blocks)), key=lambda block: blocks[block][0])
        deviation, in_common, p = blocks[most]
        summary += (
            f"; the candidate of block {most + 1} moves the fitness most, by a standard deviation of "
            f"{number(deviation, 4)}, of which two supernets share {signed(in_common)} "
            f"({p_value(p)})"
        )
        body.append(
            "Which blocks the differences come from: an additive model, a number for each candidate of each "
            "block, is fitted by least squares to all nets that were measured in a supernet, those of its "
            "searches included. A block's deviation is that of its candidates' numbers. What two supernets "
            "share is the mean product of these numbers in one and in the other, over their mean square: 1 "
            "if they are the same, 0 if they have nothing to do with each other. Its p is the share of "
            "random shuffles of each supernet's candidates that give as much; it is not corrected for the "
            "number of blocks.\n"
        )
        rows = [
            [str(block), number(own, 4), signed(common), p_value(chance), str(len(effects)), where]
            for block, (own, common, chance) in enumerate(blocks, start=1)
        ]
        header = ["block", "deviation of fitness", "shared by two supernets", "p", "supernets", "raw lines"]
        body.append(table(header, rows))
    return Answer(title, f"{summary}.", "\n".join(body))


def averaged_over_pairs(taus: Sequence[float]) -> str:
    """Such as `0.021 on average (10 pairs, from -0.421 to 0.563)`."""
    mean = number(sum(taus) / len(taus))
    if len(taus) == 1:
        return f"{mean} (1 pair)"
    return f"{mean} on average ({len(taus)} pairs, from {number(min(taus))} to {number(max(taus))})"


def _effects(evidence: Evidence, supernet: str) -> Effects | None:
    prefix = f"{evidence.name}/fitness/{supernet}/{SEARCH}/"
    lines = [line for key, line in evidence.found["fitness"].items() if key.startswith(prefix)]
    sizes = [len(block) for block in costs(evidence.part).blocks]
    nets = [tuple(line["ops"]) for line in lines]
    return block_effects(nets, [line["fitness"] for line in lines], sizes)
