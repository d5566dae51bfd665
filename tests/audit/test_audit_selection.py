"""Which candidates an audit draws from a journal, and which of them it repeats."""

from pathlib import Path

import pytest

from detnas_nni.audit.plan import Candidate, Sample, draw, ranked_candidates
from detnas_nni.errors import AuditError
from detnas_nni.search.journal import Journal, journal_path
from tests.report.journals import write_journal


def candidates(*fitness: float) -> list[Candidate]:
    """In the order of fitness, as a search has them."""
    ordered = sorted(fitness, reverse=True)
    return [Candidate((i,), i + 1, value, 1e6 + i, 1e3 + i) for i, value in enumerate(ordered)]


EVENLY = candidates(*(i / 128 for i in range(129)))  # 0 to 1, without rounding


def fitness_of(sample: Sample) -> list[float]:
    return [net.fitness for net in sample.nets]


def test_candidates_are_those_with_a_result_in_the_searchs_order(tmp_path: Path) -> None:
    fitness = (0.1, 0.3, 0.2, 0.9, 0.3, 0.8)
    evaluations = write_journal(tmp_path, 6, failed={3}, stopped={5}, fitness=fitness.__getitem__)
    found = ranked_candidates(Journal(journal_path(tmp_path)))
    assert [c.ops for c in found] == [evaluations[i].ops for i in (1, 4, 2, 0)]  # of two equal the earlier
    assert [(c.rank, c.fitness) for c in found] == [(1, 0.3), (2, 0.3), (3, 0.2), (4, 0.1)]
    assert found[2].macs == evaluations[2].cost["macs"] and found[2].params == evaluations[2].cost["params"]


def test_an_evaluation_without_a_cost_is_named(tmp_path: Path) -> None:
    write_journal(tmp_path, 3)
    path = journal_path(tmp_path)
    path.write_text(path.read_text().replace('"params"', '"weights"'))
    with pytest.raises(AuditError, match=r"journal\.jsonl: evaluation \d: cost lacks params"):
        ranked_candidates(Journal(path))


@pytest.mark.parametrize("seed", range(5))
def test_spread_takes_the_first_and_one_of_each_stratum(seed: int) -> None:
    sample = draw(EVENLY, 17, "spread", seed)
    first, *others = fitness_of(sample)
    assert first == 1.0
    assert [int(value * 16) for value in others] == list(range(15, -1, -1))
    assert sample.drawn_from == 129 and "spread over the range of fitness" in sample.how()


def test_strata_without_a_candidate_are_made_up_for_by_the_fullest() -> None:
    crowded = candidates(1.0, *(0.9 + i / 1000 for i in range(20)), 0.0)
    found = fitness_of(draw(crowded, 6, "spread", 0))
    assert found[0] == 1.0 and found[-1] == 0.0
    assert len([value for value in found if 0.9 <= value < 1]) == 4


def test_of_equal_fitness_chance_alone_decides() -> None:
    sample = draw(candidates(*[0.5] * 9), 4, "spread", 0)
    assert len(set(sample.nets)) == 4 and sample.nets[0].rank == 1


@pytest.mark.parametrize("pick", ["spread", "uniform"])
def test_all_candidates_can_be_drawn(pick: str) -> None:
    found = candidates(0.1, 0.2, 0.21, 0.5, 0.5)
    assert list(draw(found, 5, pick, 3).nets) == found


@pytest.mark.parametrize("pick", ["spread", "uniform"])
def test_the_seed_decides(pick: str) -> None:
    assert draw(EVENLY, 10, pick, 1) == draw(EVENLY, 10, pick, 1)
    assert draw(EVENLY, 10, pick, 1) != draw(EVENLY, 10, pick, 2)


def test_a_greater_uniform_sample_holds_the_smaller_one() -> None:
    assert set(draw(EVENLY, 5, "uniform", 0).nets) < set(draw(EVENLY, 20, "uniform", 0).nets)


def test_a_greater_spread_of_whole_strata_holds_the_smaller_one() -> None:
    assert set(draw(EVENLY, 9, "spread", 0).nets) < set(draw(EVENLY, 17, "spread", 0).nets)


def test_uniform_gives_each_the_same_chance_and_trains_the_first_all_the_same() -> None:
    samples = [draw(EVENLY, 10, "uniform", seed) for seed in range(400)]
    drawn = [sum(EVENLY[i] in sample.nets for sample in samples) for i in (0, 64, 128)]
    assert all(12 <= times <= 50 for times in drawn)  # 31 expected, with a deviation of 5
    assert all(sample.trained[0] == EVENLY[0] for sample in samples)
    assert {len(sample.trained) for sample in samples} == {10, 11}


@pytest.mark.parametrize(("nets", "repeated"), [(3, 3), (4, 4), (5, 4), (16, 4), (17, 5), (30, 8)])
def test_a_quarter_of_the_nets_four_at_least_is_repeated_from_first_to_last(nets: int, repeated: int) -> None:
    sample = draw(EVENLY, nets, "spread", 0)
    found = sample.repeated()
    assert len(set(found)) == repeated
    assert (found[0], found[-1]) == (sample.nets[0], sample.nets[-1])
    assert list(found) == sorted(found, key=lambda net: net.rank)
