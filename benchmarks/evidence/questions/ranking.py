"""Question a: does the supernet rank nets as training them on their own does?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.evidence.drawing import Panel, scatter
from benchmarks.evidence.estimates import mean_tau, mean_tau_difference, tau_of_true_order
from benchmarks.evidence.found import Evidence, test_ap
from benchmarks.evidence.lines import Line
from benchmarks.evidence.markdown import (
    NOT_RUN,
    compared,
    counted,
    difference,
    estimated,
    folded,
    interval,
    linked,
    number,
    p_value,
    raw,
    table,
)
from benchmarks.evidence.plan import best_of, spelled
from benchmarks.evidence.questions import Answer
from detnas_nni.audit.statistics import (
    LEAST,
    Estimate,
    null_half_width,
    regret,
    regret_of_chance,
    rho_interval,
    seed_deviation,
    tau_between_seeds_interval,
    tau_p_value,
)

Row = tuple[str, str, str, str, str]


def ranking(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"a. Does the supernet rank nets as training them on their own does? ({evidence.name})"
    nets = evidence.trained
    fitness = {name: lines for name in evidence.supernets if (lines := evidence.fitness(nets, name))}
    if len(nets) < LEAST or not fitness:
        return Answer(title, f"Ranking on {evidence.name}: not run yet.", NOT_RUN)
    ap = [test_ap(net) for net in nets]
    measures = [[line["fitness"] for line in lines] for lines in fitness.values()]
    macs = [float(net["macs"]) for net in nets]
    tau = mean_tau(measures, ap)
    over_macs = mean_tau_difference(measures, [macs], ap)
    by_seed = _by_seed(evidence, nets)
    seeds, at_most = tau_between_seeds_interval(by_seed), tau_of_true_order(by_seed, ap)
    body = "\n".join(
        [
            _sample(evidence, nets),
            f"![AP of {len(nets)} nets over their fitness](images/evidence-ranking-{evidence.name}.svg)\n",
            table(
                ["what", "value", "95 % interval", "n", "raw lines"],
                [
                    *_order(evidence, fitness, ap),
                    *_for_nothing(evidence, nets, ap, over_macs),
                    *_ceiling(evidence, tau, seeds, at_most),
                    *_regrets(evidence, fitness, ap),
                    *_spreads(evidence, nets, ap),
                    *_own_starts(evidence, fitness),
                ],
            ),
            _winner(evidence, ap),
            folded("Every net", _every(evidence, nets, fitness)),
        ]
    )
    panels = [Panel(f"supernet {name}", measure, ap) for name, measure in zip(fitness, measures, strict=True)]
    image = scatter(panels, "fitness in the supernet", "AP, trained alone")
    summary = _summary(evidence.name, len(fitness), tau, seeds, at_most, macs, ap, over_macs)
    return Answer(title, summary, body, {f"evidence-ranking-{evidence.name}.svg": image})


def _summary(
    name: str,
    supernets: int,
    tau: Estimate | None,
    seeds: Estimate | None,
    at_most: Estimate | None,
    macs: Sequence[float],
    ap: Sequence[float],
    over_macs: Estimate | None,
) -> str:
    if tau is None:
        return f"Ranking on {name}: all nets came to the same AP, so there is no order to find."
    meaning = compared(tau, "better than chance", "the wrong way round", "which cannot be told from chance")
    text = (
        f"Ranking on {name}: over {tau.n} random nets, the order of {counted(supernets, 'supernet')} agrees "
        f"with that of training alone at Kendall's τ {estimated(tau)}, {meaning}"
    )
    if seeds is not None:
        text += f"; two trainings that differ in their seed agree at {estimated(seeds)} ({seeds.n} nets)"
    if at_most is not None:
        text += ", and seeds move AP so much that even the true order would reach no more than "
        text += estimated(at_most)
    by_macs = mean_tau([macs], ap)
    if by_macs is not None and over_macs is not None:
        against = compared(
            over_macs,
            "the supernet is better",
            "the supernet is worse",
            "which of the two is better we cannot tell",
        )
        text += f"; MACs alone give {number(by_macs.value)}: {against}"
    return f"{text}."


def _sample(evidence: Evidence, nets: Sequence[Line]) -> str:
    planned = len(evidence.sample)
    missing = f" {planned - len(nets)} more are not trained yet." if len(nets) < planned else ""
    return (
        f"{len(nets)} nets, drawn uniformly and by the seed from those within the limit on MACs, not picked "
        f"by what the supernet says of them, which would flatter τ.{missing} Each was trained on its own, "
        f"from the paths of the first pre-trained supernet, for {nets[0]['steps']} steps, and measured on "
        "the test split. The other supernets know nothing of these weights, so their order owes nothing to a "
        "common start.\n"
    )


def _order(evidence: Evidence, fitness: dict[str, list[Line]], ap: Sequence[float]) -> Iterator[Row]:
    for name, lines in fitness.items():
        measure = [line["fitness"] for line in lines]
        where = _where(evidence, f"fitness/{name}/search/")
        tau, rho = mean_tau([measure], ap), rho_interval(measure, ap)
        if tau is not None:
            chance = p_value(tau_p_value(measure, ap))
            yield f"Kendall's τ, supernet {name} ({chance})", *_cells(tau), where
        if rho is not None:
            yield f"Spearman's ρ, supernet {name}", *_cells(rho), where
    measures = [[line["fitness"] for line in lines] for lines in fitness.values()]
    mean, n = mean_tau(measures, ap), len(ap)
    if mean is not None and len(measures) > 1:
        yield "τ, mean of the supernets", *_cells(mean), _where(evidence, "fitness/s*/search/")
    averaged = _averaged(evidence, next(iter(fitness.values())))
    if averaged is not None:
        several = mean_tau(measures, averaged)
        if several is not None:
            yield "the same, with the mean AP of a net's seeds", *_cells(several), _raw_nets(evidence, "*")
    best = sorted(range(n), key=lambda net: -ap[net])[: n // 2]
    half = mean_tau([[measure[net] for net in best] for measure in measures], [ap[net] for net in best])
    if half is not None:
        yield "τ among the half with the highest AP", *_cells(half), _where(evidence, "fitness/s*/search/")
    width = null_half_width(n)
    yield "τ of two unrelated orders", "0", f"[-{number(width)}, {number(width)}]", str(n), "-"


def _for_nothing(
    evidence: Evidence, nets: Sequence[Line], ap: Sequence[float], over_macs: Estimate | None
) -> Iterator[Row]:
    where = _raw_nets(evidence)
    for name, key in (("MACs", "macs"), ("parameters", "params")):
        tau = mean_tau([[float(net[key]) for net in nets]], ap)
        if tau is not None:
            yield f"τ of {name} alone", *_cells(tau), where
    if over_macs is not None:
        yield "τ of the supernets minus τ of MACs", *_signed(over_macs), where


def _ceiling(
    evidence: Evidence, ours: Estimate | None, seeds: Estimate | None, at_most: Estimate | None
) -> Iterator[Row]:
    if seeds is None or ours is None or at_most is None:
        return
    where, n = _raw_nets(evidence, "*"), f"{ours.n}, {seeds.n}"
    yield "τ between two trainings that differ in their seed", *_cells(seeds), where
    if seeds.low > 0:
        yield "τ of the supernets over that", number(ours.value / seeds.value, 2), "-", n, where
    low_high = interval(at_most)
    yield "τ of the true order, at most, from the deviations below", number(at_most.value), low_high, n, where


def _regrets(evidence: Evidence, fitness: dict[str, list[Line]], ap: Sequence[float]) -> Iterator[Row]:
    n = str(len(ap))
    for k in (1, 3):
        chance = number(regret_of_chance(ap, k))
        drawn = "a net" if k == 1 else f"the best of {k} nets"
        yield f"AP lost by {drawn} drawn at random", chance, "-", n, _raw_nets(evidence)
        for name, lines in fitness.items():
            lost = regret([line["fitness"] for line in lines], ap, k)
            where = _where(evidence, f"fitness/{name}/search/")
            chosen = "the first" if k == 1 else f"the best of the first {k}"
            yield f"AP lost by {chosen} of supernet {name}", number(lost), "-", n, where


def _spreads(evidence: Evidence, nets: Sequence[Line], ap: Sequence[float]) -> Iterator[Row]:
    where, n = _raw_nets(evidence), len(ap)
    yield (
        "AP of the nets, mean",
        number(float(np.mean(ap))),
        f"{number(min(ap))} to {number(max(ap))}",
        str(n),
        where,
    )
    yield "standard deviation of AP between nets", number(float(np.std(ap, ddof=1))), "-", str(n), where
    aps = _by_seed(evidence, nets)
    several = int((np.isfinite(aps).sum(axis=1) >= 2).sum())
    seed = seed_deviation(aps)
    if seed is not None:
        yield "the same, between seeds of one net", number(seed), "-", str(several), _raw_nets(evidence, "*")
    noise = list(_noise(evidence))
    if noise:
        where = raw("noise", f"{evidence.name}/noise/")
        own = float(np.mean([np.std(values, ddof=1) for values in noise]))
        yield "the same, by resampling the test images", number(own), "-", str(len(noise)), where
    if len(noise) > 1:
        pairs = [
            np.std(np.subtract(one, other), ddof=1) / math.sqrt(2)
            for place, one in enumerate(noise)
            for other in noise[:place]
        ]
        text = "the same, without what resampling does to all nets alike"
        yield text, number(float(np.mean(pairs))), "-", str(len(noise)), where


def _own_starts(evidence: Evidence, fitness: dict[str, list[Line]]) -> Iterator[Row]:
    """Nets that each had their own classifier, as in the paper, compared with the supernets."""
    both = [
        (own, common)
        for ops in evidence.sample
        if (own := evidence.net(ops, start="own")) is not None and (common := evidence.net(ops)) is not None
    ]
    if len(both) < LEAST:
        return
    own = [test_ap(line) for line, _ in both]
    nets, where = [line for _, line in both], _raw_nets(evidence, "0", "own")
    measures = [
        [line["fitness"] for line in lines]
        for name in fitness
        if (lines := evidence.fitness(nets, name)) is not None
    ]
    ours, common = mean_tau(measures, own), mean_tau([[test_ap(line) for line in nets]], own)
    if ours is not None:
        yield "τ of the supernets with nets from a classifier of their own", *_cells(ours), where
    if common is not None:
        yield "τ of nets from the common start with the same", *_cells(common), where


def _winner(evidence: Evidence, ap: Sequence[float]) -> str:
    searches = evidence.part.searches
    if searches is None:
        return ""
    search = evidence.search(evidence.part.supernets[0], searches.strategies[0], searches.seeds[0])
    line = None if search is None else evidence.net(best_of(search))
    if search is None or line is None:
        return f"The winner of a search, trained alone: {NOT_RUN.lower()}\n"
    value, fitness = test_ap(line), max(fitness for _, fitness in search["candidates"])
    better = sum(other > value for other in ap)
    return (
        f"The winner of one search in the first supernet ({linked(search, number(fitness))} there) comes to "
        f"AP {linked(line, number(value))} on its own: {better} of the {len(ap)} random nets are better, the "
        f"best by {number(max(0.0, max(ap) - value))}.\n"
    )


def _every(evidence: Evidence, nets: Sequence[Line], fitness: dict[str, list[Line]]) -> str:
    header = ["ops", "MACs (M)", *(f"AP, seed {seed}" for seed in evidence.seeds)]
    rows = []
    for place, net in enumerate(nets):
        ops = tuple(net["ops"])
        trainings = (evidence.net(ops, seed) for seed in evidence.seeds)
        rows.append(
            [
                spelled(ops),
                number(net["macs"] / 1e6, 2),
                *("" if line is None else linked(line, number(test_ap(line))) for line in trainings),
                *(linked(lines[place], number(lines[place]["fitness"])) for lines in fitness.values()),
            ]
        )
    return table([*header, *(f"fitness in {name}" for name in fitness)], rows)


def _by_seed(evidence: Evidence, nets: Sequence[Line]) -> np.ndarray:
    """(N, S), NaN where a net was not trained with a seed."""
    rows = []
    for net in nets:
        lines = (evidence.net(tuple(net["ops"]), seed) for seed in evidence.seeds)
        rows.append([math.nan if line is None else test_ap(line) for line in lines])
    return np.array(rows)


def _averaged(evidence: Evidence, nets: Sequence[Line]) -> list[float] | None:
    """Mean AP over seeds; None unless every net has the same two or more."""
    aps = _by_seed(evidence, nets)
    known = np.isfinite(aps).all(axis=0)
    return aps[:, known].mean(axis=1).tolist() if known.sum() >= 2 else None


def _noise(evidence: Evidence) -> Iterator[list[float]]:
    prefix = f"{evidence.name}/noise/"
    for key, line in evidence.found["noise"].items():
        if key.startswith(prefix):
            yield line["resamples"]


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    return number(estimate.value), interval(estimate), str(estimate.n)


def _signed(estimate: Estimate) -> tuple[str, str, str]:
    return difference(estimate).split(" ", 1)[0], interval(estimate), str(estimate.n)


def _where(evidence: Evidence, keys: str) -> str:
    return raw("fitness", f"{evidence.name}/{keys}")


def _raw_nets(evidence: Evidence, seed: str = "0", start: str = "pretrained") -> str:
    return raw("nets", f"{evidence.name}/net/*/{start}/{seed}")
