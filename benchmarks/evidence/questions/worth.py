"""Question e: what is each part of the protocol and of the supernet's training worth?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.evidence.drawing import intervals
from benchmarks.evidence.estimates import (
    Measures,
    mean_tau,
    mean_tau_difference,
    taus_between,
)
from benchmarks.evidence.found import Evidence, test_ap
from benchmarks.evidence.markdown import (
    NOT_RUN,
    compared,
    counted,
    difference,
    estimated,
    number,
    raw,
    signed,
    table,
)
from benchmarks.evidence.questions import Answer
from benchmarks.evidence.settings import SEARCH, Protocol
from detnas_nni.audit.statistics import LEAST, Estimate

_MEANING = {
    "not-calibrated": "BN not recalibrated, the supernet's statistics",
    "reset-alone": "BN reset, not recalibrated",
    "finetuned-10": "each candidate trained on its own for 10 steps before it is measured",
    "finetuned-40": "each candidate trained on its own for 40 steps before it is measured",
    "top-1": "top-1 in the pre-trained supernet, no detector",
    "half": "half the supernet's steps in the detector",
    "double": "twice the supernet's steps in the detector",
    "quadruple": "four times the supernet's steps in the detector",
    "balanced": "balanced path sampling in the detector",
    "fair": "fair path sampling in the detector, a quarter of the updates",
    "averaged": "weights averaged over the last quarter of the steps",
    "faster": "two and a half times the learning rate in the detector",
    "thorough": "two and a half times the learning rate, four times the steps, the last quarter averaged",
    "averaged-fast": "weights averaged over the last half of the steps, at an undiminished learning rate",
    "not-rescaled": "weights not rescaled before the detector",
}


@dataclass(frozen=True)
class _Variant:
    """A deviation from the search's protocol: its tau, and how far that is from the search's."""

    name: str
    taus: Mapping[str, float]
    """by supernet"""
    tau: Estimate
    change: Estimate
    between: Sequence[float]
    """tau between the orders of two supernets, of each pair"""
    fitness: float
    """mean of all nets in all of its supernets"""
    raised: float | None
    """that minus the standard's, in the same supernets; None where it is not AP"""
    keys: str


def worth(evidence: Evidence) -> Answer:
    """The answer for one data set."""
    title = f"e. What is each part worth? ({evidence.name})"
    variants = list(_variants(evidence))
    if not variants:
        return Answer(title, f"Parts on {evidence.name}: not run yet.", NOT_RUN)
    header = [
        "variant",
        *(f"τ, {name}" for name in evidence.supernets),
        *("mean τ", "minus the standard", "τ between supernets"),
        *("mean fitness", "minus the standard", "n"),
    ]
    rows = [
        [
            f"{_meaning(variant.name)} (`{variant.name}`)",
            *(number(variant.taus.get(name)) for name in evidence.supernets),
            estimated(variant.tau),
            difference(variant.change),
            _range(variant.between),
            number(variant.fitness),
            "-" if variant.raised is None else signed(variant.raised),
            str(variant.change.n),
            raw("fitness", variant.keys),
        ]
        for variant in variants
    ]
    without = _without_order(evidence)
    measures = _standard(evidence, evidence.supernets)
    standard = mean_tau(measures, [test_ap(net) for net in evidence.trained])
    body = "\n".join(
        [
            "τ of each variant against the same trained nets; the standard protocol, which recalibrates BN, "
            f"has {'no τ' if standard is None else estimated(standard)}. A variant is compared with it net "
            "by net, in the supernets that both were measured in. τ between supernets, of the orders of two "
            "of them, owes nothing to the trained nets; in brackets are its lowest and highest. They are of "
            "few supernets, and say nothing of others.\n",
            f"![Change of τ](images/evidence-worth-{evidence.name}.svg)\n",
            table([*header, "raw lines"], rows),
            *(f"\n{sentence}" for sentence in without.values()),
        ]
    )
    image = intervals(
        {variant.name: variant.change for variant in variants}, "change of τ against the standard", zero=True
    )
    summary = f"Parts on {evidence.name}, change of τ against the standard: {_clauses(variants)}."
    if without:
        summary += f" All nets have the same fitness with: {', '.join(map(_meaning, without))}."
    return Answer(title, summary, body, {f"evidence-worth-{evidence.name}.svg": image})


def _clauses(variants: Sequence[_Variant]) -> str:
    """What the variants' intervals mean: by name where they say something, else how many they are."""
    changes = {variant.name: variant.change for variant in variants}
    clauses = [f"{means}: {'; '.join(names)}" for means, names in _told(changes, "better", "worse").items()]
    unknown = [change.value for change in changes.values() if compared(change, "better", "worse", "") == ""]
    if unknown:
        of = f"{len(unknown)} of {counted(len(variants), 'variant')}"
        clauses.append(f"cannot tell of {of} ({signed(min(unknown))} to {signed(max(unknown))})")
    return "; ".join(clauses)


def _told(changes: Mapping[str, Estimate], above: str, below: str) -> dict[str, list[str]]:
    """The variants of which an interval says something, by what it says."""
    told: dict[str, list[str]] = {}
    for name, change in changes.items():
        means = compared(change, above, below, "")
        if means:
            told.setdefault(means, []).append(f"{_meaning(name)} {difference(change)}")
    return told


def _variants(evidence: Evidence) -> Iterator[_Variant]:
    for protocol in evidence.part.protocols:
        yield from _variant(evidence, protocol, {name: (name, protocol) for name in evidence.supernets})
    for variant in evidence.part.supernet_variants:
        places = {name: (f"{name}-{variant}", SEARCH) for name in evidence.supernets}
        yield from _variant(evidence, variant, places)


def _without_order(evidence: Evidence) -> dict[str, str]:
    """A sentence for each protocol that gives all nets of a supernet the same fitness."""
    found = {}
    for protocol in evidence.part.protocols:
        lines = {
            name: evidence.fitness(evidence.trained, name, protocol) or [] for name in evidence.supernets
        }
        values = {name: {line["fitness"] for line in of} for name, of in lines.items() if len(of) > 1}
        same = [f"{number(min(of))} in {name}" for name, of in values.items() if len(of) == 1]
        if same:
            keys = raw("fitness", f"{evidence.name}/fitness/s*/{protocol}/")
            where = ", ".join(same)
            found[protocol] = (
                f"{_meaning(protocol)}: all nets have the same fitness, {where}, so no order ({keys})."
            )
    return found


def _variant(evidence: Evidence, name: str, places: Mapping[str, tuple[str, str]]) -> Iterator[_Variant]:
    nets = evidence.trained
    ap = [test_ap(net) for net in nets]
    measured = {
        supernet: [line["fitness"] for line in lines]
        for supernet, place in places.items()
        if (lines := evidence.fitness(nets, *place)) is not None and evidence.fitness(nets, supernet)
    }
    if len(nets) < LEAST or not measured:
        return
    measures, standard = list(measured.values()), _standard(evidence, measured)
    tau, change = mean_tau(measures, ap), mean_tau_difference(measures, standard, ap)
    if tau is not None and change is not None:
        singles = {supernet: mean_tau([values], ap) for supernet, values in measured.items()}
        taus = {supernet: single.value for supernet, single in singles.items() if single is not None}
        supernet, protocol = next(iter(places.values()))
        keys = f"{evidence.name}/fitness/{supernet.replace('s0', 's*', 1)}/{protocol}/"
        fitness = _mean(measures)
        settings = evidence.part.protocols.get(protocol, Protocol()).set
        is_ap = "evaluation.task=classification" not in settings
        raised = fitness - _mean(standard) if is_ap else None
        yield _Variant(name, taus, tau, change, taus_between(measures), fitness, raised, keys)


def _standard(evidence: Evidence, supernets: Mapping[str, object] | tuple[str, ...]) -> Measures:
    found = (evidence.fitness(evidence.trained, name) for name in supernets)
    return [[line["fitness"] for line in lines] for lines in found if lines is not None]


def _range(taus: Sequence[float]) -> str:
    """Mean, lowest and highest."""
    if not taus:
        return "-"
    return f"{number(sum(taus) / len(taus))} ({number(min(taus))} to {number(max(taus))})"


def _mean(measures: Measures) -> float:
    """Of all nets in all supernets."""
    return sum(map(sum, measures)) / sum(map(len, measures))


def _meaning(name: str) -> str:
    if name.startswith("calibrate-"):
        return f"{name.removeprefix('calibrate-')} calibration images"
    return _MEANING.get(name, name)
