"""Racing: who is given up, that it is for good reason, and that it changes no fitness."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from nni.nas.execution import SequentialExecutionEngine
from scipy.stats import t as student
from torch import nn

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config, Search
from detnas_nni.errors import ConfigError
from detnas_nni.evaluation.candidate import Bar, CandidateEvaluation
from detnas_nni.evaluation.tasks import Metrics, Report
from detnas_nni.search.evaluator import DetNASEvaluator, Race
from detnas_nni.search.journal import Evaluation, Journal, journal_path
from detnas_nni.search.outcomes import Outcome
from detnas_nni.search.session import SearchSession
from detnas_nni.search.space import CandidateModel, candidate_space
from detnas_nni.search.strategies import build_strategy
from tests.search.searching import STRATEGIES, FormulaEvaluator, Ops, feasible_set, likeness, tiny

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


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_in_which_any_candidate_may_breed_does_not_race(tmp_path, make_config, strategy):
    search = {"racing": 0.01, "tournament": 2, "strategy": strategy}
    if strategy in ("detnas", "random"):
        assert make_config(tmp_path, search=search).search.racing == 0.01
        return
    name = strategy.replace("_", " ")
    with pytest.raises(ConfigError, match=f"racing needs strategy detnas or random: in {name} any candidate"):
        make_config(tmp_path, search=search)


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


class TabledEvaluation(CandidateEvaluation):
    """The real evaluation of real nets, but for what is measured: fitness on three parts, from a table."""

    def __init__(self, config: Config, table: Callable[[Ops], Sequence[float]]) -> None:
        super().__init__(config)
        self._parts_of = table
        self.task.measure = self._measure

    def calibrated_net(self, architecture: Architecture, *, seed: int | None = None) -> nn.Module:
        self._ops = architecture.ops
        return self.net(architecture)

    def _measure(self, net: nn.Module, report: Report) -> Metrics:
        for fitness in self._parts_of(self._ops):
            report({"default": fitness})
        return {"default": fitness}


def steady(ops: Ops) -> tuple[float, float, float]:
    """Every candidate gains about as much from part to whole: 0.02, give or take 0.001."""
    whole = likeness(ops)
    return whole - 0.02 - 0.001 * math.sin(sum(ops)), whole - 0.01, whole


@pytest.fixture
def searched(trained_run, make_config):
    """searched(name, racing, table): the evaluations of a search with the real rule, engine and strategy."""

    def run(name: str, racing: float | None, table: Callable[[Ops], Sequence[float]]) -> list[Evaluation]:
        numbers = {"population": 8, "generations": 4, "parents": 2, "mutations": 3, "crossovers": 2}
        config = make_config(trained_run, search={"name": name, "racing": racing, **numbers})
        with SearchSession(config) as session:
            race = Race(config.search, session.journal.evaluations)
            evaluator = DetNASEvaluator(TabledEvaluation(config, table), race)
            session.run(SequentialExecutionEngine(continue_on_failure=True), evaluator)
        return list(Journal(journal_path(config.search_dir)).evaluations)

    return run


def test_where_no_parent_is_given_up_a_search_that_races_finds_what_one_without_finds(searched):
    alone, raced = searched("alone", None, steady), searched("raced", 0.01, steady)
    assert [e.ops for e in raced] == [e.ops for e in alone]
    given_up = [e for e in raced if e.stopped]
    assert given_up and all(e.generation > 0 for e in given_up)
    assert all(e.fitness is None and len(e.parts) < 3 for e in given_up)
    for one, other in zip(raced, alone, strict=True):
        assert one.parts == other.parts[: len(one.parts)]
        if not one.stopped:
            assert {**one.metrics, "seconds": 0} == {**other.metrics, "seconds": 0}


def test_a_parent_that_shows_itself_on_the_last_part_alone_is_lost_and_the_search_goes_another_way(searched):
    """The chance that `search.racing` sets: what is given up breeds no more, whatever it was worth."""
    alone = searched("alone", None, steady)
    second = [e for e in alone if e.generation == 1]
    late = max(second, key=lambda e: e.fitness).ops
    assert late in {e.ops for e in sorted(alone[:16], key=lambda e: -e.fitness)[:2]}  # a parent of the third

    def shows_itself_late(ops: Ops) -> tuple[float, float, float]:
        return (0.0, 0.0, steady(ops)[-1]) if ops == late else steady(ops)

    raced = searched("raced", 0.01, shows_itself_late)
    assert [e.ops for e in raced[:16]] == [e.ops for e in alone[:16]]
    (lost,) = (e for e in raced if e.ops == late)
    assert lost.stopped and lost.fitness is None and lost.parts == (0.0,)
    assert [e.ops for e in raced[16:24]] != [e.ops for e in alone[16:24]]
    assert len(raced) == len(alone) == 32


class Parallel(SequentialExecutionEngine):
    """NNI's engine with endless idle workers, on which a candidate ends no sooner than it is waited for."""

    def __init__(self) -> None:
        super().__init__(continue_on_failure=True)
        self.running: list[CandidateModel] = []
        self.ended_before: list[int] = []  # at each submission
        self._ended = 0

    def submit_models(self, *models: CandidateModel) -> None:
        self.ended_before.append(self._ended)
        self.running += models

    def wait_models(self, *models: CandidateModel) -> None:
        super().submit_models(*models)
        self._ended += len(models)


@pytest.mark.parametrize(("racing", "expected"), [(0.01, [0] * 4 + [4] * 4 + [8] * 4), (None, [0] * 12)])
def test_a_random_search_that_races_begins_a_generation_when_the_one_before_it_has_ended(
    racing, expected, tmp_path, make_config
):
    """Its bar would otherwise depend on how fast parallel trials are."""
    search = {"strategy": "random", "population": 4, "generations": 3, "parents": 2, "racing": racing}
    search |= {"mutations": 1, "crossovers": 1}
    engine = Parallel()
    strategy = build_strategy(make_config(tmp_path, search=search), feasible_set())
    strategy(candidate_space("tiny", FormulaEvaluator(likeness)), engine)
    assert engine.ended_before == expected
