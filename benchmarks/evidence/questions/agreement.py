"""Question a, why: do two supernets agree on the order of nets, and on which block's candidates?"""

from __future__ import annotations

from benchmarks.evidence.estimates import (
    Effects,
    block_effects,
    mean_tau,
    mean_tau_between,
    shared_spread,
    spread,
)
from benchmarks.evidence.found import Evidence, test_ap
from benchmarks.evidence.markdown import NOT_RUN, counted, estimated, number, raw, table
from benchmarks.evidence.plan import SEARCH
from benchmarks.evidence.plan import table as costs
from benchmarks.evidence.questions import Answer


def agreement(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"a. Do supernets agree with each other? ({evidence.name})"
    nets = evidence.trained
    fitness = {name: lines for name in evidence.supernets if (lines := evidence.fitness(nets, name))}
    measures = [[line["fitness"] for line in lines] for lines in fitness.values()]
    between = mean_tau_between(measures)
    if between is None:
        return Answer(title, f"Agreement on {evidence.name}: not run yet.", NOT_RUN)
    where = raw("fitness", f"{evidence.name}/fitness/s*/{SEARCH}/")
    count = len(measures)
    summary = (
        f"Agreement on {evidence.name}: the orders of two supernets that differ in their seed agree at "
        f"{estimated(between)} ({count * (count - 1) // 2} pairs)"
    )
    body = [
        f"{counted(count, 'supernet')} trained alike, but for the seed, rank the same {len(nets)} nets: "
        f"Kendall's τ between two of them is {estimated(between)} on average ({where})."
    ]
    averaged = [sum(values) / count for values in zip(*measures, strict=True)]
    together = mean_tau([averaged], [test_ap(net) for net in nets])
    if together is not None:
        body.append(f"The mean of their fitness agrees with training alone at {estimated(together)}.")
    effects = {name: found for name in fitness if (found := _effects(evidence, name)) is not None}
    if len(effects) > 1:
        blocks = list(zip(*effects.values(), strict=True))
        most = max(range(len(blocks)), key=lambda block: spread(blocks[block]))
        own, shared = number(spread(blocks[most]), 4), number(shared_spread(blocks[most]), 4)
        summary += (
            f"; the candidate of block {most + 1} moves the fitness most, by {own} (standard deviation) in a "
            f"supernet, of which two share {shared}"
        )
        body.append(
            "The table says which blocks that comes from. To all nets that were measured in a supernet an "
            "additive model is fitted, a number for each candidate of each block, by least squares. The "
            "spread of a block is the standard deviation of its candidates' numbers; what two supernets "
            "share of it is the root of the mean product of the numbers in one and in the other, and cannot "
            "be the chance of one training.\n"
        )
        rows = [
            [str(block), number(spread(of), 4), number(shared_spread(of), 4), str(len(of)), where]
            for block, of in enumerate(blocks, start=1)
        ]
        header = ["block", "spread of fitness in a supernet", "shared by two", "supernets", "raw lines"]
        body.append(table(header, rows))
    return Answer(title, f"{summary}.", "\n".join(body))


def _effects(evidence: Evidence, supernet: str) -> Effects | None:
    prefix = f"{evidence.name}/fitness/{supernet}/{SEARCH}/"
    lines = [line for key, line in evidence.found["fitness"].items() if key.startswith(prefix)]
    sizes = [len(block) for block in costs(evidence.part).blocks]
    nets = [tuple(line["ops"]) for line in lines]
    return block_effects(nets, [line["fitness"] for line in lines], sizes)
