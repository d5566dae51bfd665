"""Schedules cut to a time, and what a plan says of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from detnas_nni.init.derived import Derived, Machine, Schedule
from detnas_nni.init.plan import TooShortError, estimate, fit, hours, make_plan
from detnas_nni.init.pretraining import IMAGENET_SPACE, Pretraining, choose
from detnas_nni.init.timing import Speeds
from tests.init.own_data import SPEEDS, look_at


@pytest.fixture(scope="module")
def derived(shapes: Path) -> Derived:
    found = look_at(shapes)
    return Derived(found, Machine(cores=2), choose(found, kind="crops"))


def test_an_estimate_is_the_sum_of_its_parts(derived: Derived) -> None:
    schedule = Schedule(pretrain=100, finetune=200, retrain=300, evaluations=32, calibration=24)
    assert (schedule.population, schedule.generations) == (8, 4)
    assert estimate(derived, schedule, SPEEDS) == pytest.approx(
        {
            "crops": 4 + 24 * 0.1,
            "pretrain": 4 + 1 + 100 * 0.1,
            "finetune": 4 + 2 + 200 * 0.5,
            "search": 4 + (24 + 12) * 0.01 + 32 * (0.1 + 24 * 0.02 + 12 * 0.03),
            "retrain": 4 + 2 + 300 * 0.5 + 12 * (0.03 + 0.01),
        }
    )


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_schedules_are_cut_to_the_time_and_not_by_more(share: float, derived: Derived) -> None:
    wanted = derived.schedule()
    whole = sum(estimate(derived, wanted, SPEEDS).values())
    cut, remark = fit(derived, wanted, SPEEDS, share * whole)
    assert 0.9 * share * whole < sum(estimate(derived, cut, SPEEDS).values()) <= share * whole
    assert cut.finetune / wanted.finetune > cut.pretrain / wanted.pretrain
    assert f"pretrain steps from {wanted.pretrain} to {cut.pretrain}" in remark
    assert f"finetune steps from {wanted.finetune} to {cut.finetune}" in remark
    assert f"retrain steps from {wanted.retrain} to {cut.retrain}" in remark
    assert f"to {cut.population * cut.generations}" in remark


def test_what_was_cut_is_named_of_the_planned_steps_alone(derived: Derived) -> None:
    trained = Pretraining("imagenet", "asked for", space=IMAGENET_SPACE)
    alone = replace(derived, pretraining=trained, search=False)
    speeds = replace(SPEEDS, pretrain=None)
    wanted = alone.schedule()
    cut, remark = fit(alone, wanted, speeds, 0.5 * sum(estimate(alone, wanted, speeds).values()))
    assert remark.endswith(f"): retrain steps from {wanted.retrain} to {cut.retrain}")
    with pytest.raises(TooShortError, match=r"shortest schedules \(retrain steps 100\) it takes"):
        fit(alone, wanted, speeds, 1.0)


def test_enough_time_cuts_nothing(derived: Derived) -> None:
    wanted = derived.schedule()
    cut, remark = fit(derived, wanted, SPEEDS, 1e6)
    assert cut == wanted
    assert remark.startswith("nothing was cut")


def test_too_little_time_names_what_is_the_least_and_that_is_enough(derived: Derived) -> None:
    wanted = derived.schedule()
    with pytest.raises(TooShortError, match=r"--hours 0.01: not possible in that time") as caught:
        fit(derived, wanted, SPEEDS, 36.0)
    least = float(str(caught.value).partition("it takes about ")[2].split()[0])
    cut, _ = fit(derived, wanted, SPEEDS, 3600 * least)
    assert cut.finetune >= wanted.least.finetune == 100
    assert cut.population * cut.generations >= 8


def test_the_budgets_shape_is_the_papers_and_the_quickstarts() -> None:
    def shape(evaluations: int) -> tuple[int, int]:
        schedule = Schedule(0, 1, 1, evaluations, 1)
        return schedule.population, schedule.generations

    assert [shape(count) for count in (1000, 32, 8, 1)] == [(50, 20), (8, 4), (4, 2), (4, 2)]


def test_a_plan_has_the_commands_in_order_and_their_times(derived: Derived) -> None:
    plan = make_plan(derived, derived.schedule(), "e/detnas.yaml", "r", SPEEDS, ["cut"])
    words = [step.command.split()[1:3] for step in plan.steps]
    assert [first for first, _ in words] == ["data", "pretrain", "finetune", "search", "retrain"]
    *_, total, how, cut = plan.lines()
    assert total.split()[0] == "together" and hours(plan.seconds) in total
    assert "an estimate, from 30 s of measurement on 2 CPU cores, no GPU" in how
    assert cut == "- cut"


def test_a_plan_without_a_measurement_has_no_times(derived: Derived) -> None:
    plan = make_plan(derived, derived.schedule(), "e/detnas.yaml", "r", None, [])
    assert plan.seconds is None
    assert not any(" h " in line or "together" in line for line in plan.lines())


@pytest.mark.parametrize("speeds", [SPEEDS, None])
def test_without_a_test_split_a_plan_from_imagenet_compares_with_no_net_alone(
    speeds: Speeds | None, derived: Derived
) -> None:
    def remarks(derived: Derived) -> str:
        return "\n".join(make_plan(derived, derived.schedule(), "e/detnas.yaml", "r", speeds, []).remarks)

    tested = replace(derived, pretraining=Pretraining("imagenet", "asked for", space=IMAGENET_SPACE))
    assert "--no-search" in remarks(tested)
    splits = {name: split for name, split in derived.found.splits.items() if name != "test"}
    untested = replace(tested, found=replace(derived.found, splits=splits))
    assert "--no-search" not in remarks(untested)
    assert "no `retrain`: there is no test split" in remarks(untested)


@pytest.mark.parametrize(("seconds", "text"), [(36, "0.01 h"), (5400, "1.5 h"), (180_000, "50 h")])
def test_hours_are_told_in_two_digits(seconds: float, text: str) -> None:
    assert hours(seconds) == text
