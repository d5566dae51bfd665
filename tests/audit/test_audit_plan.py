"""How many nets an audit trains, what fits the time, and what it says before it begins."""

from pathlib import Path

import pytest

from detnas_nni.audit.journal import NetJournal, NetTraining, Trained
from detnas_nni.audit.plan import AuditPlan, fit, make_plan, seconds, what_it_can_show
from detnas_nni.audit.running import places
from detnas_nni.config import Hardware
from detnas_nni.errors import AuditError, UsageError
from tests.audit.test_audit_selection import EVENLY


@pytest.fixture
def journal(tmp_path: Path) -> NetJournal:
    return NetJournal(tmp_path / "nets.jsonl")


def plan(nets: int, seeds: int = 1, pick: str = "spread", seed: int = 0) -> AuditPlan:
    return make_plan(EVENLY, nets, seeds, pick, seed)


def trained(training: NetTraining, error: str | None = None) -> Trained:
    metrics = None if error else {"default": 0.5}
    return Trained(training.ops, training.seed, 1.0, "2030-01-01T00:00:00+00:00", metrics, error=error)


def fitted(wanted: AuditPlan, journal: NetJournal, hours: float, side_by_side: int = 1) -> tuple[int, int]:
    """Nets and seeds that are left of a plan of trainings that take an hour each."""
    found = fit(EVENLY, wanted, journal, each=3600, side_by_side=side_by_side, limit=hours * 3600)
    return len(found.sample.nets), found.seeds


def test_every_net_is_trained_once_the_first_choice_first_then_other_seeds() -> None:
    found = plan(12, seeds=3, seed=7)
    trainings = found.trainings
    assert len(trainings) == len(set(trainings)) == 12 + 2 * 4
    assert trainings[0] == NetTraining(EVENLY[0].ops, 7)
    assert {training.seed for training in trainings[:12]} == {7}
    assert [training.seed for training in trainings[12:]] == [8] * 4 + [9] * 4
    assert {training.ops for training in trainings[12:]} == {net.ops for net in found.sample.repeated()}
    assert found.what().endswith("4 of them with 3 seeds: 20 trainings")


def test_an_audit_that_is_cut_short_has_a_random_part_of_the_nets() -> None:
    ranks = [training.ops[0] for training in plan(30).trainings]
    assert ranks != sorted(ranks)


def test_one_seed_repeats_none() -> None:
    assert [training.seed for training in plan(12).trainings] == [0] * 12


def test_of_a_uniform_draw_the_searchs_first_choice_is_trained_too() -> None:
    found = plan(5, pick="uniform")
    assert EVENLY[0] not in found.sample.nets
    assert [training.ops for training in found.trainings[:1]] == [EVENLY[0].ops]
    assert found.what().endswith("and the search's first choice: 6 trainings")


@pytest.mark.parametrize("nets", [1, 2])
def test_fewer_than_three_nets_are_refused(nets: int) -> None:
    with pytest.raises(UsageError, match=f"--nets {nets}: a rank correlation needs at least 3 nets"):
        plan(nets)


@pytest.mark.parametrize(("there", "advice"), [(40, "; pass --nets 40, or let"), (2, "; let the search")])
def test_more_nets_than_there_are_candidates_are_refused(there: int, advice: str) -> None:
    with pytest.raises(
        AuditError, match=f"--nets 50: the search has {there} candidates with a result{advice}"
    ):
        make_plan(EVENLY[:there], 50, 1, "spread", 0)


def test_what_fits_is_left_as_it_is(journal: NetJournal) -> None:
    assert fitted(plan(12, seeds=3), journal, 20) == (12, 3)


@pytest.mark.parametrize(
    ("hours", "left"),
    [
        (19.9, (11, 3)),  # 11 + 2 x 4
        (18, (10, 3)),
        (17, (12, 2)),  # 9 x 3 would be fewer than ten nets; 12 + 4
        (14, (10, 2)),
        (13.9, (12, 1)),
        (9, (9, 1)),
        (3, (3, 1)),
    ],
)
def test_ten_nets_come_before_seeds(hours: float, left: tuple[int, int], journal: NetJournal) -> None:
    assert fitted(plan(12, seeds=3), journal, hours) == left


def test_side_by_side_more_fits(journal: NetJournal) -> None:
    assert fitted(plan(12), journal, 3, side_by_side=4) == (12, 1)
    assert fitted(plan(12), journal, 2.9, side_by_side=4) == (8, 1)


def test_what_is_trained_already_takes_no_time_and_what_failed_does(journal: NetJournal) -> None:
    wanted = plan(6)
    for training in wanted.trainings[:4]:
        journal.append(trained(training))
    journal.append(trained(wanted.trainings[4], error="no memory"))
    assert wanted.missing(journal) == wanted.trainings[4:]
    assert seconds(wanted, journal, 10, 1) == 20
    assert fitted(wanted, journal, 2) == (6, 1)


def test_too_little_time_says_how_much_it_takes(journal: NetJournal) -> None:
    with pytest.raises(UsageError, match=r"--hours 2: 3 nets, the minimum, take about 3\.00 hours here"):
        fitted(plan(12, seeds=3), journal, 2)


def test_it_says_before_what_so_many_nets_can_show() -> None:
    assert "within ±0.25 in 95 of 100" in what_it_can_show(30)
    assert "within ±0.49 in 95 of 100" in what_it_can_show(10)
    assert "what 4 nets can show: nothing about the ranking" in what_it_can_show(4)


# Where they run.


def test_cores_are_divided_among_trainings_unless_the_config_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    cpu = Hardware(device="cpu")
    assert [(p.threads, p.at_a_time, len(p.all)) for jobs in (1, 2, 16) if (p := places(cpu, jobs))] == [
        (None, 1, 1),
        (4, 2, 2),
        (1, 8, 16),
    ]
    two_threads = Hardware(device="cpu", threads=2)
    assert (places(two_threads, 3).threads, places(two_threads, 3).at_a_time) == (2, 3)
    assert places(two_threads, 5).at_a_time == 4


def test_each_training_has_gpus_of_its_own_as_far_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detnas_nni.audit.running.uses_gpu", lambda _: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")

    def gpus(jobs: int, devices: int = 1) -> list[str | None]:
        found = places(Hardware(devices=devices), jobs)
        return [place.environment.get("CUDA_VISIBLE_DEVICES") for place in found.all]

    assert gpus(1) == [None]  # as it is without an audit
    assert gpus(2) == ["4", "5"]
    assert gpus(4) == ["4", "5", "6", "4"]
    assert places(Hardware(), 4).at_a_time == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert gpus(2, devices=2) == ["0,1", "2,3"]
    with pytest.raises(UsageError, match=r"--jobs 3: .* there are 4; give --jobs 2"):
        gpus(3, devices=2)
