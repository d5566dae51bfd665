"""The supernet's ranking against training: numbers by hand, and what is said where there are none."""

import pytest
from scipy import stats

from detnas_nni.errors import ArchitectureError
from detnas_nni.report.data import Pair, agreements, correlations
from detnas_nni.report.exhibits import exhibits
from tests.report.journals import write_result

FITNESS = (0.10, 0.20, 0.30, 0.40, 0.50)
RETRAINED = (0.31, 0.30, 0.33, 0.32, 0.34)  # two neighbours the wrong way round, twice: 8 of 10 pairs agree


def ranking(config, search):
    return next(exhibit for exhibit in exhibits(config, search, []) if exhibit.name == "ranking")


@pytest.fixture
def five(searched):
    config, search = searched(5, fitness=FITNESS.__getitem__)
    return config, search


def test_tau_and_rho_are_those_of_hand_and_of_scipy(five):
    config, search = five
    for evaluation, ap in zip(search.evaluations, RETRAINED, strict=True):
        write_result(config.run_dir, evaluation.ops, ap)
    (found,) = agreements(search, config.run_dir, "tiny")
    assert found.init == "classification" and len(found.pairs) == 5
    assert found.tau == pytest.approx((8 - 2) / 10)
    assert found.rho == pytest.approx(1 - 6 * (1 + 1 + 1 + 1) / (5 * 24))
    assert found.tau == pytest.approx(stats.kendalltau(FITNESS, RETRAINED)[0])
    assert found.rho == pytest.approx(stats.spearmanr(FITNESS, RETRAINED)[0])
    exhibit = ranking(config, search)
    assert exhibit.table.rows == (("classification", "5", "0.600", "0.800"),)
    assert "(n = 5)" in exhibit.caption
    points = exhibit.figure.axes[0].collections[0].get_offsets()
    assert sorted(map(tuple, points.tolist())) == list(zip(FITNESS, RETRAINED, strict=True))


def test_without_a_retrained_net_it_says_so(five):
    exhibit = ranking(*five)
    assert exhibit.figure is None and "(n = 0)" in exhibit.caption and "`detnas retrain`" in exhibit.caption


def test_two_nets_are_too_few(five):
    config, search = five
    for evaluation in search.evaluations[:2]:
        write_result(config.run_dir, evaluation.ops, 0.3)
    exhibit = ranking(config, search)
    assert exhibit.table.rows == (("classification", "2", "too few", "too few"),)
    assert exhibit.caption.startswith("Too few")


def test_nets_of_another_start_or_another_search_are_not_mixed_in(five):
    config, search = five
    for evaluation in search.evaluations[:3]:
        write_result(config.run_dir, evaluation.ops, 0.3 + evaluation.id / 10)
        write_result(config.run_dir, evaluation.ops, 0.3 - evaluation.id / 100, init="scratch")
    write_result(config.run_dir, (3,) * 9, 0.9)
    write_result(config.run_dir, search.evaluations[4].ops, -1.0)  # nothing to find in the split
    found = agreements(search, config.run_dir, "tiny")
    assert [(a.init, len(a.pairs), a.tau) for a in found] == [
        ("classification", 3, 1.0),
        ("scratch", 3, -1.0),
    ]


def test_a_measure_that_is_the_same_for_all_gives_no_correlation(five):
    pairs = [Pair(None, value, 0.3) for value in FITNESS]
    assert correlations(pairs) == (None, None)


def test_a_damaged_result_is_named(five):
    config, search = five
    path = write_result(config.run_dir, search.evaluations[0].ops, 0.3)
    path.write_text(path.read_text().replace("0.3", '"good"'))
    with pytest.raises(ArchitectureError, match=r"results\.json: key 'detection\.default' is 'good'"):
        agreements(search, config.run_dir, "tiny")
