"""Question d: what does one get without a supernet, at equal cost or at none?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from benchmarks.evidence.drawing import intervals
from benchmarks.evidence.estimates import best_of_random, group_test, over_best_of_random
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
    table,
)
from benchmarks.evidence.plan import best_of, spelled
from benchmarks.evidence.questions import Answer
from detnas_nni.audit.statistics import LEAST, Estimate, mean_difference_interval, mean_interval


def baselines(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"d. What does one get without a supernet? ({evidence.name})"
    searched = _winners(evidence)
    nets = [net for net in evidence.trained if net["search"] is not None]
    if len(searched) < 2 or len(nets) < LEAST:
        return Answer(title, f"Baselines on {evidence.name}: not run yet.", NOT_RUN)
    won = [test_ap(line) for line in searched]
    ap, chosen_by = [test_ap(net) for net in nets], [net["search"]["AP"] for net in nets]
    k, cost = _equal_cost(evidence, nets)
    winners = mean_interval(won)
    rows = [
        ["winners of the search", estimated(winners), str(winners.n), "-", "linked under *Every search* in b"]
    ]
    drawn: dict[str, Estimate | Sequence[float]] = {"winners of the search": winners}
    gain = None
    if k is not None:
        random, gain = best_of_random(chosen_by, ap, k), over_best_of_random(won, chosen_by, ap, k)
        name = f"best of {k} random nets"
        rows.append([name, estimated(random), str(random.n), difference(gain), _where(evidence, "*")])
        drawn[name] = random
    one = mean_interval(ap)
    over = mean_difference_interval(won, ap)
    rows.append(["a random net", estimated(one), str(one.n), difference(over), _where(evidence, "*")])
    drawn["a random net"] = one
    clauses = [] if gain is None else [_clause(f"the best of {k} random nets trained at equal cost", gain)]
    for name, ops in zip(
        ("the net designed by hand", "the largest net"), evidence.plain_and_largest, strict=True
    ):
        lines = evidence.nets(ops)
        if len(lines) < 2:
            rows.append([name, NOT_RUN, "", "", ""])
            continue
        values = [test_ap(line) for line in lines]
        over, p = mean_difference_interval(won, values), group_test(won, values)
        shown = ", ".join(linked(line, number(test_ap(line))) for line in lines)
        text = f"{number(mean(values))} (seeds: {shown}; sd {number(stdev(values))})"
        apart = f"{difference(over)}, {p_value(p)}"
        rows.append([name, text, str(len(values)), apart, _where(evidence, spelled(ops))])
        drawn[name] = values
        clauses.append(_clause(name, over, p))
    body = "\n".join(
        [
            f"Winners are those of the paper's evolution, {len(won)} searches over all supernets, each "
            "trained once. The last column but one is their mean AP minus that of the row. The net designed "
            "by hand has op 0 in every block; the largest has the most MACs within the limit. Their p comes "
            "from a test that reassigns winners and seeds to two groups.\n",
            cost,
            f"![AP without a supernet](images/evidence-baselines-{evidence.name}.svg)\n",
            table(["net", "AP, 95 % interval", "n", "search minus this", "raw lines"], rows),
        ]
    )
    image = intervals(drawn, "AP, trained alone")
    said = f"the search's winners are, in AP, {'; '.join(clauses)}." if clauses else "not run yet."
    summary = f"Baselines on {evidence.name}: {said}"
    return Answer(title, summary, body, {f"evidence-baselines-{evidence.name}.svg": image})


def _clause(name: str, over: Estimate, p: float | None = None) -> str:
    means = compared(over, "better than", "worse than", "indistinguishable from", p=p)
    return f"{means} {name} ({difference(over)})"


def _winners(evidence: Evidence) -> list[Line]:
    searches = evidence.part.searches
    if searches is None:
        return []
    found = []
    for supernet in evidence.supernets:
        for seed in (*searches.seeds, *searches.more_seeds):
            search = evidence.search(supernet, searches.strategies[0], seed)
            net = None if search is None else evidence.net(best_of(search))
            if net is not None:
                found.append(net)
    return found


def _equal_cost(evidence: Evidence, nets: list[Line]) -> tuple[int | None, str]:
    """How many nets can be trained for what the supernet and the search cost, and how that was counted."""
    supernets = [
        line["cpu_seconds"]
        for name in evidence.supernets
        if (line := evidence.found["supernets"].get(f"{evidence.name}/finetune/{name}")) is not None
        and line["cpu_seconds"] is not None
    ]
    trainings = [net["cpu_seconds"] for net in nets if net["cpu_seconds"] is not None]
    searches = [line for line in evidence.found["searches"].values() if line["part"] == evidence.name]
    prefix = f"{evidence.name}/fitness/s"
    evaluations = [
        line["cpu_seconds"]
        for key, line in evidence.found["fitness"].items()
        if key.startswith(prefix) and "/search/" in key
    ]
    if not supernets or not trainings or not searches or not evaluations:
        return None, "What equal cost would be is not known yet.\n"
    supernet, training = mean(supernets), mean(trainings)
    search = mean(len(line["candidates"]) for line in searches if line["guide"] == "ap") * mean(evaluations)
    k = 1 + round((supernet + search) / training)
    text = (
        f"Equal cost, in seconds of one core: {supernet:.0f} for the supernet's training in the detector and "
        f"{search:.0f} for a search, {training:.0f} for a net on its own. The search's winner still has to "
        f"be trained, so {k} random nets cost the same; of these the one with the highest AP on the search "
        "split is kept. Its AP is the mean over all ways to draw that many from the random sample. "
        f"(Raw lines: {raw('supernets', f'{evidence.name}/finetune/')}, "
        f"{raw('nets', f'{evidence.name}/net/')}, {raw('fitness', prefix + '*/search/')}.) The pre-trained "
        "classification supernet is common to both and counted for neither.\n"
    )
    return k, text


def _where(evidence: Evidence, ops: str) -> str:
    return raw("nets", f"{evidence.name}/net/{ops}/pretrained/")
