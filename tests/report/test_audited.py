"""The audit in the report's ranking section: its figures, its sentence, and when it is left out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detnas_nni.audit.figures import figures, verdict
from detnas_nni.audit.journal import NetTraining
from detnas_nni.audit.plan import draw, ranked_candidates
from detnas_nni.audit.result import AuditResult, Net, read_result
from detnas_nni.config import Config
from detnas_nni.config.run_folder import audit_file
from detnas_nni.errors import AuditError
from detnas_nni.report.searches import ReportedSearch
from detnas_nni.search.journal import Journal, journal_path
from tests.report.journals import write_result
from tests.report.test_agreement import ranking

APS = (0.34, 0.32, 0.33, 0.30, 0.31)  # of the search's first to its last


@pytest.fixture
def searched_five(searched: Callable[..., tuple[Config, ReportedSearch]]) -> tuple[Config, ReportedSearch]:
    return searched(5, fitness=(0.1, 0.2, 0.3, 0.4, 0.5).__getitem__)


def write_audit(config: Config, *, complete: bool = True, seeds: tuple[int, ...] = (0, 1)) -> AuditResult:
    """An audit of all candidates, where a second seed gives the same AP."""
    sample = draw(ranked_candidates(Journal(journal_path(config.search_dir))), 5, "spread", 0)
    aps = {net.ops: ap for net, ap in zip(sample.nets, APS, strict=True)}

    def ap(training: NetTraining) -> float:
        return aps[training.ops]

    found = figures(sample.nets, sample.first, seeds, ap, failed=0, chance=0)
    nets = tuple(
        Net(n.ops, n.rank, n.fitness, n.macs, n.params, True, {str(seed): aps[n.ops] for seed in seeds})
        for n in sample.nets
    )
    result = AuditResult(
        complete=complete,
        pick="spread",
        how=sample.how(),
        init="supernet",
        measure="AP",
        seeds=seeds,
        figures=found,
        verdict=verdict(found),
        nets=nets,
        identity={},
        finished_at="2030-01-01T00:00:00+00:00",
        versions={},
    )
    result.write(audit_file(config))
    return result


def test_what_is_written_is_read_again(searched_five: tuple[Config, ReportedSearch]) -> None:
    config, _ = searched_five
    assert read_result(audit_file(config)) is None
    written = write_audit(config)
    assert read_result(audit_file(config)) == written


def test_figures_and_sentence_stand_in_the_section(searched_five: tuple[Config, ReportedSearch]) -> None:
    config, search = searched_five
    result = write_audit(config)
    exhibit = ranking(config, search)
    rows = {name: values for name, *values in exhibit.table.rows}
    assert list(rows) == ["supernet, audit", "seed against seed", "MACs alone", "parameters alone"]
    assert rows["supernet, audit"][0] == "5" and rows["supernet, audit"][1].startswith("0.600 (")
    assert rows["seed against seed"][1] == "1.000 (1.000 to 1.000)"
    assert result.verdict.sentence in exhibit.caption and result.how in exhibit.caption
    assert "Regret at 1: 0.0000 AP (of random nets 0.0200)" in exhibit.caption
    points = exhibit.figure.axes[0].collections[0].get_offsets()
    assert sorted(map(tuple, points.tolist())) == sorted(
        (net.fitness, ap) for net, ap in zip(result.nets, APS, strict=True)
    )


def test_nets_of_retrain_stand_beside_it(searched_five: tuple[Config, ReportedSearch]) -> None:
    config, search = searched_five
    write_audit(config)
    for evaluation in search.evaluations[:3]:
        write_result(config.run_dir, evaluation.ops, 0.3 + evaluation.id / 10)
    exhibit = ranking(config, search)
    assert exhibit.table.rows[-1] == ("classification", "3", "1.000", "1.000")
    assert "(n = 8)" in exhibit.caption


def test_one_that_has_not_ended_says_so(searched_five: tuple[Config, ReportedSearch]) -> None:
    config, search = searched_five
    write_audit(config, complete=False)
    assert "It has not ended yet." in ranking(config, search).caption


def test_an_audit_of_another_search_is_left_out(
    searched: Callable[..., tuple[Config, ReportedSearch]], searched_five: tuple[Config, ReportedSearch]
) -> None:
    write_audit(searched_five[0])
    config, search = searched(5)  # in the same folder, with another fitness
    exhibit = ranking(config, search)
    assert exhibit.table is None
    assert f"{audit_file(config)} is an audit of another search, so it is left out." in exhibit.caption


def test_without_one_the_section_says_how_to_make_it(searched_five: tuple[Config, ReportedSearch]) -> None:
    assert "`detnas audit`" in ranking(*searched_five).caption


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 1', '"format": 2', "key 'format' is 2, expected 1"),
        ('"pick": "spread"', '"pick": "best"', "pick: "),
        ('"complete": true', '"complete"', "Invalid JSON"),
    ],
)
def test_a_damaged_audit_is_named(
    old: str, new: str, message: str, searched_five: tuple[Config, ReportedSearch]
) -> None:
    config, search = searched_five
    write_audit(config)
    path: Path = audit_file(config)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(AuditError, match=rf"audit\.json: .*{message}"):
        ranking(config, search)
