"""audit.json: what an audit has measured and what it means, for `detnas report` and for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from detnas_nni.audit.figures import Figures, Verdict
from detnas_nni.audit.plan import Pick
from detnas_nni.audit.statistics import Estimate
from detnas_nni.errors import AuditError
from detnas_nni.util.files import write_json

_FORMAT = 1


@dataclass(frozen=True)
class Net:
    """One net of an audit.

    Attributes:
        ops: what it is.
        rank: in the search, from 1.
        fitness: in the search.
        macs: multiply-adds, backbone convention.
        params: parameters, likewise.
        drawn: whether it is in the sample; the search's first choice may not be in a uniform one.
        aps: AP on the test split by seed; without those that failed or have not ended.
    """

    ops: tuple[int, ...]
    rank: int
    fitness: float
    macs: float
    params: float
    drawn: bool
    aps: dict[str, float]


@dataclass(frozen=True)
class AuditResult:
    """The content of audit.json.

    Attributes:
        complete: whether all trainings have ended.
        pick: how the nets were drawn.
        how: the same in words.
        init: what trainings started from: classification, supernet, scratch or file.
        measure: the metric of the nets, AP or VOC mAP.
        seeds: of the trainings; the first is used for every net.
        figures: the numbers.
        verdict: what they mean.
        nets: what was trained, in the search's order.
        identity: of search, supernet, training and start, as hashes.
        finished_at: UTC, ISO 8601.
        versions: of the packages that the result depends on.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    complete: bool
    pick: Pick
    how: str
    init: str
    measure: str
    seeds: tuple[int, ...]
    figures: Figures
    verdict: Verdict
    nets: tuple[Net, ...]
    identity: dict[str, str]
    finished_at: str
    versions: dict[str, str]
    format: int = _FORMAT

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, asdict(self))

    def lines(self) -> Iterator[str]:
        """The figures as a terminal shows them, the verdict last."""
        found = self.figures
        so_far = "" if self.complete else "; not all have ended yet"
        yield f"  {self.how}"
        yield f"  trained from the start {self.init!r}, seeds {', '.join(map(str, self.seeds))}{so_far}"
        if found.failed:
            yield f"  {found.failed} trainings failed and are left out; run the command again to retry them"
        for name, value in self.rows():
            yield f"  {name:<32}  {value}"
        yield self.verdict.sentence

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each figure's name and its value with interval, as a table shows them."""
        found = self.figures
        nets = "" if found.between_seeds is None else f", {found.between_seeds.n} nets"
        yield f"Kendall's τ-b, {found.n} nets", show(found.tau)
        yield "Spearman's ρ", show(found.rho)
        yield f"τ of seed against seed{nets}", show(found.between_seeds)
        yield "τ of MACs alone", show(found.macs)
        yield "τ of parameters alone", show(found.params)
        for regret in found.regret:
            search = "unknown" if regret.search is None else f"{regret.search:.4f}"
            yield f"regret at {regret.k}", f"{search} {self.measure} (at random {regret.chance:.4f})"


def show(estimate: Estimate | None) -> str:
    """ "0.571 (0.349 to 0.758)", or a dash."""
    if estimate is None:
        return "–"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def read_result(path: Path) -> AuditResult | None:
    """The result in a file, None if there is none; AuditError if an audit would not write it like this."""
    if not path.exists():
        return None
    try:
        result = _FILE.validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AuditError(
            f"{path}: {place + ': ' if place else ''}{first['msg']}; delete the file and let `detnas audit` "
            "write it again"
        ) from None
    if result.format != _FORMAT:
        raise AuditError(f"{path}: key 'format' is {result.format}, expected {_FORMAT}")
    return result


_FILE: TypeAdapter[AuditResult] = TypeAdapter(AuditResult)
