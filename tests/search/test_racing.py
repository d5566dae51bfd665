"""Racing: who is given up, that it is for good reason, and that it changes no fitness."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from detnas_nni.config import Search
from detnas_nni.errors import ConfigError
from detnas_nni.evaluation.candidate import Bar, CandidateEvaluation
from detnas_nni.search.evaluator import Race
from detnas_nni.search.journal import Evaluation, Journal, journal_path
from detnas_nni.search.outcomes import Outcome
from detnas_nni.search.session import search_in_process
from tests.search.searching import STRATEGIES, tiny

SEARCH = Search(population=10, generations=4, parents=3, mutations=3, crossovers=3, racing=0.01)


def evaluation(number: int, *parts: float, stopped: bool = False) -> Evaluation:
    return Evaluation(
        id=number,
        ops=(number,),
        choices={},
        cost={"macs": 1, "params": 1},
        generation=number // SEARCH.population,
        origin="random",
        seconds=1.0,
        finished_at="2030-01-01T00:00:00+00:00",
        metrics=None if stopped else {"default": parts[-1]},
        parts=parts,
        stopped=stopped,
    )


def generation(seed: int = 0, first: int = 0) -> list[Evaluation]:
    """Ten candidates, each worth 0.3 on the whole, and less on parts, by some noise."""
    rng = np.random.default_rng(seed)
    whole = 0.3 + 0.02 * rng.standard_normal(10)
    parts = [whole - 0.02 + 0.01 * rng.standard_normal(10), whole - 0.01 + 0.005 * rng.standard_normal(10)]
    return [
        evaluation(first + number, *values) for number, values in enumerate(zip(*parts, whole, strict=True))
    ]


def test_without_racing_there_is_no_bar():
    assert Race(SEARCH.model_copy(update={"racing": None}), generation()).bar() is None


def test_the_first_generation_is_evaluated_whole():
    assert Race(SEARCH, generation()[:9]).bar() is None
    assert Race(SEARCH, generation()).bar() is not None


def test_the_bar_is_the_last_parents_fitness_less_what_a_candidate_may_still_gain():
    """Against a prediction interval as a textbook has it: mean ± t · s · sqrt(1 + 1/n)."""
    found = generation()
    last_parent = sorted(e.fitness for e in found)[-3]
    for part, height in enumerate(Race(SEARCH, found).bar().heights):
        gained = [e.fitness - e.parts[part] for e in found]
        most = student.ppf(0.99, 9, np.mean(gained), np.std(gained, ddof=1) * np.sqrt(1.1))
        assert height == pytest.approx(last_parent - most)


def test_the_chance_to_give_up_a_parent_is_the_one_that_was_asked_for():
    """Over 4,000 searches: candidates that would have been parents, and missed the bar on the first part."""
    parents = lost = 0
    for seed in range(4000):
        found, later = generation(2 * seed), generation(2 * seed + 1)
        bar, last_parent = Race(SEARCH, found).bar(), sorted(e.fitness for e in found)[-3]
        would_be = [e for e in later if e.fitness >= last_parent]
        parents += len(would_be)
        lost += sum(bar.is_missed(e.parts[:1]) for e in would_be)
    # Conditioned on being as good as a parent it is less than the risk of one who stands right at the bar.
    assert parents > 10_000 and lost / parents < SEARCH.racing


def test_what_is_hopeless_is_given_up_on_the_first_part_and_the_best_is_not():
    bar = Race(SEARCH, generation()).bar()
    assert bar.is_missed([0.1])
    assert not bar.is_missed([0.3])
    assert bar.is_missed([0.3, 0.1])
    assert not bar.is_missed([0.3, 0.3, 0.0])  # the whole is the result, whatever it is


def test_results_of_the_same_generation_do_not_count_in_whatever_order_they_come():
    found = generation()
    race = Race(SEARCH, found)
    bar = race.bar()
    for late in reversed(generation(1, first=10)[1:]):
        found.append(late)
        assert race.bar() == bar
    found.append(evaluation(10, 0.4, 0.4, 0.5))
    assert race.bar() != bar
    assert race.bar() == Race(SEARCH, list(found)).bar()


@pytest.mark.parametrize("left", ["failed", "stopped", "without parts"])
def test_only_candidates_that_were_measured_on_every_part_set_the_bar(left):
    found = generation() + generation(1, first=10)
    bar = Race(SEARCH, found).bar()
    others = {
        "failed": replace(evaluation(0, 0.9), metrics=None, error="out of memory", parts=()),
        "stopped": evaluation(0, 0.9, stopped=True),
        "without parts": replace(evaluation(0, 0.9), parts=()),
    }
    assert Race(SEARCH, found + [others[left]] * 10).bar() == bar


def test_too_few_finished_candidates_set_no_bar():
    found = [evaluation(number, 0.1, stopped=True) for number in range(8)] + generation()[:2]
    assert Race(SEARCH, found).bar() is None


def test_regularized_evolution_does_not_race(tmp_path, make_config):
    search = {"racing": 0.01, "tournament": 2}
    for name in STRATEGIES[:1] + STRATEGIES[2:]:
        assert make_config(tmp_path, search={**search, "strategy": name}).search.racing == 0.01
    with pytest.raises(
        ConfigError, match=r"racing needs strategy detnas or random: in regularized evolution"
    ):
        make_config(tmp_path, search={**search, "strategy": "regularized_evolution"})


# With real parts.

PARTS = {"batch_size": 3, "intermediate_results": 4}


def test_a_candidate_that_reaches_the_bar_has_the_very_metrics_that_it_has_without(supernets, make_config):
    evaluation = CandidateEvaluation(make_config(supernets, evaluation=PARTS))
    alone = evaluation.evaluate(tiny(1, 2))
    raced = evaluation.evaluate(tiny(1, 2), bar=Bar(alone.parts[:-1]))
    assert raced.metrics == alone.metrics and raced.parts == alone.parts and not raced.stopped
    assert Outcome.of(raced).metrics["default"] == alone.metrics["default"]


@pytest.mark.parametrize("missed", [0, 1, 2])
def test_one_that_misses_it_on_a_part_is_not_measured_on_the_rest(supernets, make_config, missed):
    evaluation, reported = CandidateEvaluation(make_config(supernets, evaluation=PARTS)), []
    alone = evaluation.evaluate(tiny(1, 2))
    heights = [*alone.parts[:missed], 1.0, 0.0, 0.0][:3]
    raced = evaluation.evaluate(tiny(1, 2), bar=Bar(tuple(heights)), report=reported.append)
    assert raced.stopped and raced.parts == alone.parts[: missed + 1]
    assert reported[-1] == raced.metrics and len(reported) == missed + 1
    assert Outcome.of(raced).metrics is None and Outcome.of(raced).error is None


def test_a_search_that_races_finds_what_one_without_finds(trained_run, make_config, caplog):
    """Of a candidate that both measured to the end, the metrics are equal; those given up were no parents."""

    def searched(name, racing):
        search = {
            **{"name": name, "racing": racing, "population": 8, "generations": 4, "parents": 2},
            **{"mutations": 3, "crossovers": 2},
        }
        config = make_config(trained_run, search=search, evaluation=PARTS)
        best = json.loads(search_in_process(config).read_text())
        return best, Journal(journal_path(config.search_dir)).evaluations

    (best, alone), (raced_best, raced) = searched("alone", None), searched("raced", 0.2)
    assert [e.ops for e in raced] == [e.ops for e in alone]
    assert raced_best["ops"] == best["ops"]
    given_up = [e for e in raced if e.stopped]
    assert given_up and all(e.generation > 0 for e in given_up)
    for one, other in zip(raced, alone, strict=True):
        assert one.parts == other.parts[: len(one.parts)]
        if not one.stopped:
            assert {**one.metrics, "seconds": 0} == {**other.metrics, "seconds": 0}
    assert len(raced_best["metrics"]) > 5
