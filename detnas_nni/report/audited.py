"""What `detnas audit` has found about a search, as the report's ranking section shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from detnas_nni.architecture import Architecture
from detnas_nni.audit.result import AuditResult, read_result, show
from detnas_nni.config import Config
from detnas_nni.config.run_folder import audit_file
from detnas_nni.report.data import Agreement, Pair
from detnas_nni.report.searches import ReportedSearch

_NONE = "–"


@dataclass(frozen=True)
class Audited:
    """Attributes:
    agreement: its nets as points of the figure; None if there is no audit of this search.
    rows: of the table: what is compared, n, tau, rho.
    caption: what it means, to be appended to the section's caption.
    """

    agreement: Agreement | None = None
    rows: tuple[tuple[str, str, str, str], ...] = ()
    caption: str = ""


def audited(search: ReportedSearch, config: Config) -> Audited:
    """The audit of a search; empty if there is none. Raises AuditError for a damaged audit.json."""
    path = audit_file(config)
    result = read_result(path)
    if result is None:
        return Audited()
    fitness = {evaluation.ops: evaluation.fitness for evaluation in search.finished}
    if any(fitness.get(net.ops) != net.fitness for net in result.nets):
        return Audited(caption=f" {path} is an audit of another search, so it is left out.")
    found = result.figures
    pairs = tuple(
        Pair(Architecture(config.space.name, net.ops), net.fitness, net.aps[str(result.seeds[0])])
        for net in result.nets
        if net.drawn and str(result.seeds[0]) in net.aps
    )
    agreement = Agreement(
        f"{result.init}, audit",
        pairs,
        None if found.tau is None else found.tau.value,
        None if found.rho is None else found.rho.value,
    )
    return Audited(agreement if pairs else None, tuple(_rows(result)), _caption(result))


def _rows(result: AuditResult) -> Iterator[tuple[str, str, str, str]]:
    found = result.figures
    yield f"{result.init}, audit", str(found.n), show(found.tau), show(found.rho)
    repeated = "–" if found.between_seeds is None else str(found.between_seeds.n)
    yield "seed against seed", repeated, show(found.between_seeds), _NONE
    yield "MACs alone", str(found.n), show(found.macs), _NONE
    yield "parameters alone", str(found.n), show(found.params), _NONE


def _caption(result: AuditResult) -> str:
    so_far = "" if result.complete else " It has not ended yet."
    lost = "".join(
        f" Regret at {regret.k}: {regret.search:.4f} {result.measure} (of random nets {regret.chance:.4f})."
        for regret in result.figures.regret
        if regret.search is not None
    )
    failed = f" Trainings that failed: {result.figures.failed}." if result.figures.failed else ""
    return (
        f" The audit says: {result.verdict.sentence}{lost}{failed}{so_far} Its nets are {result.how}; "
        "in brackets are 95 % intervals."
    )
