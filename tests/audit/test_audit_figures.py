"""The numbers of an audit: which nets and seeds each is of, and what a failed net leaves out."""

import pytest
from scipy import stats

from detnas_nni.audit.figures import Figures, figures
from detnas_nni.audit.journal import NetTraining
from detnas_nni.audit.plan import Candidate
from detnas_nni.audit.statistics import null_half_width, tau_b

# Fitness falls, MACs fall with it but for the last two, parameters rise.
NETS = [
    Candidate((0,), 1, 0.9, 60.0, 1.0),
    Candidate((1,), 3, 0.7, 50.0, 2.0),
    Candidate((2,), 4, 0.6, 40.0, 3.0),
    Candidate((3,), 7, 0.5, 20.0, 4.0),
    Candidate((4,), 9, 0.3, 30.0, 5.0),
]
APS = [
    0.50,
    0.52,
    0.45,
    0.40,
    0.41,
]  # the first two and the last two the wrong way round: 8 of 10 pairs agree


def of(aps: dict[tuple[int, int], float], nets=NETS, first=NETS[0], seeds=(0, 1), failed: int = 0) -> Figures:
    """The figures of AP by net and seed."""

    def ap(training: NetTraining) -> float | None:
        return aps.get((training.ops[0], training.seed))

    return figures(nets, first, seeds, ap, failed=failed, chance=0)


@pytest.fixture
def once() -> dict[tuple[int, int], float]:
    return {(net, 0): ap for net, ap in enumerate(APS)}


def test_the_searchs_order_is_compared_with_training_and_with_costs(once) -> None:
    found = of(once)
    assert (found.n, found.failed) == (5, 0)
    assert found.tau.value == pytest.approx((8 - 2) / 10)
    assert found.rho.value == pytest.approx(stats.spearmanr([net.fitness for net in NETS], APS)[0])
    assert found.tau_p == pytest.approx(stats.kendalltau([net.fitness for net in NETS], APS)[1])
    assert found.macs.value == pytest.approx((9 - 1) / 10)
    assert found.params.value == pytest.approx(-(8 - 2) / 10)
    assert found.over_macs.value == pytest.approx(0.6 - 0.8)
    assert found.over_params.value == pytest.approx(0.6 + 0.6)
    assert found.no_relation == null_half_width(5)


def test_regret_is_of_the_searchs_first_choices_against_the_best_net_and_chance(once) -> None:
    first, three = of(once).regret
    assert (first.k, first.search) == (1, pytest.approx(0.02))
    assert first.chance == pytest.approx(0.52 - sum(APS) / 5)
    assert (three.k, three.search) == (3, 0.0)


def test_other_seeds_tell_of_the_seed_and_change_nothing_else(once) -> None:
    alone = of(once)
    assert alone.between_seeds is None and alone.seed_deviation is None
    repeated = of({**once, (0, 1): 0.60, (2, 1): 0.45, (4, 1): 0.40})
    assert (repeated.tau, repeated.regret) == (alone.tau, alone.regret)
    assert (repeated.between_seeds.value, repeated.between_seeds.n) == (1.0, 3)
    assert repeated.seed_deviation == pytest.approx(((0.1**2 + 0.01**2) / 2 / 3) ** 0.5)


def test_a_net_that_failed_is_left_out_and_counted(once) -> None:
    del once[1, 0]
    found = of(once, failed=1)
    assert (found.n, found.failed) == (4, 1)
    kept = [net for net in NETS if net.rank != 3]
    assert found.tau.value == pytest.approx(tau_b([net.fitness for net in kept], [0.50, 0.45, 0.40, 0.41]))
    assert found.regret[0].search == 0.0


def test_if_the_searchs_first_choice_failed_its_regret_is_unknown(once) -> None:
    del once[0, 0]
    found = of(once, failed=1)
    assert [regret.search for regret in found.regret] == [None, None]
    assert found.regret[0].chance == pytest.approx(0.52 - (0.52 + 0.45 + 0.40 + 0.41) / 4)


def test_the_first_choice_counts_for_regret_alone_where_a_uniform_draw_left_it_out(once) -> None:
    found = of(once, nets=NETS[1:])
    assert found.n == 4
    assert found.tau.value == pytest.approx((5 - 1) / 6)
    assert found.regret[0].search == pytest.approx(0.02)
    assert found.regret[0].chance == pytest.approx(0.52 - sum(APS) / 5)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_nets_with_a_result_give_no_order(count: int, once) -> None:
    found = of({key: once[key] for key in list(once)[:count]}, failed=5 - count)
    assert found.n == count
    assert found.tau is found.tau_p is found.rho is found.macs is found.over_macs is found.no_relation is None


def test_nets_of_equal_ap_give_no_order(once) -> None:
    found = of(dict.fromkeys(once, 0.0))
    assert found.n == 5 and found.tau is found.rho is found.macs is None
    assert [(regret.search, regret.chance) for regret in found.regret] == [(0.0, 0.0)] * 2
