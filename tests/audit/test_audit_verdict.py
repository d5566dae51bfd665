"""What an audit concludes, case by case: the rules that docs/audit.md states."""

from dataclasses import replace

import pytest

from detnas_nni.audit.figures import Figures, Regret, verdict
from detnas_nni.audit.statistics import Estimate, null_half_width


def figures(
    tau: tuple[float, float, float] | None = (0.6, 0.35, 0.75),
    *,
    n: int = 30,
    p: float = 0.001,
    over_macs: tuple[float, float, float] | None = (0.5, 0.2, 0.8),
    **changes,
) -> Figures:
    """Figures of a search that ranks better than chance and than MACs, unless something is changed."""

    def estimate(values: tuple[float, float, float] | None) -> Estimate | None:
        return None if values is None else Estimate(*values, n)

    found = Figures(
        n=n,
        failed=0,
        tau=estimate(tau),
        tau_p=None if tau is None else p,
        rho=estimate(tau),
        between_seeds=None,
        seed_deviation=None,
        macs=estimate((0.1, -0.2, 0.4)),
        params=estimate((-0.1, -0.4, 0.2)),
        over_macs=estimate(over_macs),
        over_params=estimate((0.7, 0.4, 0.9)),
        no_relation=null_half_width(n) if n >= 3 else None,
        regret=(Regret(1, 0.008, 0.046),),
    )
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("tau", "p", "n", "expected"),
    [
        ((0.6, 0.35, 0.75), 0.001, 30, "better than chance"),
        ((0.7, 0.55, 0.85), 0.001, 30, "well"),
        ((0.7, 0.50, 0.85), 0.001, 10, "well"),
        ((1.0, 1.00, 1.00), 0.017, 5, "better than chance"),  # of few nets no order is called good
        ((1.0, 1.00, 1.00), 0.083, 4, "cannot tell"),  # an interval without width, but four nets
        ((0.3, -0.05, 0.6), 0.04, 30, "cannot tell"),  # 0 is within
        ((0.3, 0.01, 0.6), 0.06, 30, "cannot tell"),  # chance gives as much
        ((0.05, -0.2, 0.25), 0.7, 30, "hardly"),  # and no more than little
        ((0.05, -0.2, 0.25), 0.7, 10, "cannot tell"),  # ten nets would not have seen it
        ((0.15, 0.03, 0.28), 0.02, 90, "hardly"),  # better than chance, but of little use
        ((-0.5, -0.7, -0.2), 0.001, 30, "wrong"),
        (None, 0.0, 30, "cannot tell"),
    ],
)
def test_the_order_is_judged_by_interval_and_chance(tau, p: float, n: int, expected: str) -> None:
    found = verdict(figures(tau, p=p, n=n))
    assert found.ranking == expected
    assert found.sentence.startswith("Cannot tell") == (expected == "cannot tell")


@pytest.mark.parametrize(
    ("over_macs", "expected"),
    [
        ((0.5, 0.2, 0.8), "better"),
        ((-0.5, -0.8, -0.2), "worse"),
        ((0.1, -0.2, 0.4), "cannot tell"),
        (None, "cannot tell"),
    ],
)
def test_cost_alone_is_the_baseline(over_macs, expected: str) -> None:
    assert verdict(figures(over_macs=over_macs)).against_cost == expected


def test_of_macs_and_parameters_the_better_one_is_compared_with() -> None:
    params = Estimate(0.4, 0.1, 0.6, 30)
    found = verdict(figures(params=params, over_params=Estimate(0.2, -0.1, 0.5, 30)))
    assert found.against_cost == "cannot tell"
    assert "cannot tell whether it ranks better than parameters alone (τ 0.40)" in found.sentence


def test_the_sentence_says_it_all() -> None:
    found = verdict(
        figures(between_seeds=Estimate(0.71, 0.4, 0.9, 8), seed_deviation=0.005),
    )
    assert found.sentence == (
        "The search ranks better than chance (τ 0.60, 95 % interval 0.35 to 0.75, 30 nets; another seed of "
        "the same nets agrees at τ 0.71); it ranks better than MACs alone (τ 0.10); its first choice is "
        "0.0080 AP below the best net that was trained (a random one 0.0460 on average), no more than what "
        "another seed can make of two equal nets (0.0139)."
    )


def test_a_loss_that_seeds_do_not_explain_is_called_so() -> None:
    found = verdict(figures(seed_deviation=0.001), "VOC mAP")
    assert "0.0080 VOC mAP below" in found.sentence
    assert "more than what another seed can make of two equal nets (0.0028)" in found.sentence
    assert "no more" not in found.sentence


@pytest.mark.parametrize(
    ("regret", "clause"),
    [
        ((Regret(1, 0.0, 0.046),), "no net that was trained is better than its first choice (a random one"),
        ((Regret(1, None, 0.046),), "what its first choice loses is unknown, since its training failed."),
        ((Regret(1, 0.0, 0.0),), "better than MACs alone (τ 0.10)."),
        ((), "better than MACs alone (τ 0.10)."),
    ],
)
def test_what_the_first_choice_loses_is_told_where_it_is_known(regret, clause: str) -> None:
    assert clause in verdict(figures(regret=regret)).sentence


def test_without_an_order_it_says_why() -> None:
    few = verdict(figures(None, n=2, regret=()))
    assert few.sentence == (
        "Cannot tell how well the search ranks: 2 nets with a result, and at least 3 are needed."
    )
    same = verdict(figures(None, regret=(Regret(1, 0.0, 0.0),)))
    assert same.sentence == "Cannot tell how well the search ranks: all 30 nets have the same AP or fitness."


def test_what_cannot_be_told_comes_with_what_chance_gives() -> None:
    assert "without any relation τ is within ±0.25" in verdict(figures((0.2, -0.1, 0.5), p=0.1)).sentence
    few = verdict(figures((0.33, -1.0, 1.0), p=1.0, n=3)).sentence
    assert "without any relation τ may be anything" in few
