"""The strategies on a formula in place of AP, run by NNI's own sequential engine."""

import gc
import hashlib
import json
import logging
import weakref
from collections import Counter

import numpy as np
import pytest
from nni.nas.execution import (
    ExecutionEngine,
    FinalMetricEvent,
    SequentialExecutionEngine,
    TrainingEndEvent,
)
from nni.nas.space import ModelStatus

from detnas_nni.errors import ConfigError
from detnas_nni.search.evolution import ParetoEvolution
from detnas_nni.search.journal import search_identity
from detnas_nni.search.space import CandidateModel, candidate_space
from detnas_nni.search.strategies import ConstrainedRegularizedEvolution, DetNASEvolution, build_strategy
from tests.search.searching import (
    BLOCKS,
    STRATEGIES,
    TARGET,
    FormulaEvaluator,
    detnas,
    feasible_set,
    likeness,
    limit_for,
    macs_of_all,
    proposals,
    proposer,
    search,
    strategy,
    tiny,
)

ALL = pytest.mark.parametrize("name", STRATEGIES)


def every_architecture(space: str = "tiny", **limits: int) -> set[tuple[int, ...]]:
    found, rng, seen = feasible_set(space, **limits), np.random.default_rng(0), set()
    while (ops := found.random_unseen(rng, seen)) is not None:
        seen.add(ops)
    return seen


def distance(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    return int(np.not_equal(first, second).sum())


def is_crossover(child: tuple[int, ...], parents: list[tuple[int, ...]]) -> bool:
    """Whether each block comes from the one or the other of some two parents."""
    return any(
        all(op in pair for op, pair in zip(child, zip(first, second, strict=True), strict=True))
        for first in parents
        for second in parents
    )


# What holds for each of them.


@ALL
def test_a_search_spends_its_whole_budget_and_proposes_nothing_twice(name):
    proposed = proposals(search(strategy(name, evaluations=200)))
    assert len(proposed) == 200
    assert len(set(proposed)) == 200


@ALL
def test_no_proposal_ever_breaks_the_constraint(name):
    middle = feasible_set().table.cost(tiny(0, 3))
    limits = {"max_macs": middle.macs, "max_params": middle.params}
    # A formula that draws the search towards what is forbidden.
    models = search(strategy(name, **limits), fitness=lambda ops: ops.count(3) / BLOCKS)
    assert len(models) == 200
    assert all(feasible_set(**limits).contains(model.ops) for model in models)
    free = search(strategy(name), fitness=lambda ops: ops.count(3) / BLOCKS)
    assert not all(feasible_set(**limits).contains(model.ops) for model in free)


@ALL
def test_a_constraint_that_few_architectures_meet_is_searched_through_and_ends(name):
    limit = limit_for(20)
    feasible = every_architecture(max_macs=limit)
    assert len(feasible) == (macs_of_all() <= limit).sum() < 100
    proposed = proposals(search(strategy(name, max_macs=limit)))
    assert len(proposed) == len(feasible)
    assert set(proposed) == feasible


@ALL
def test_a_small_space_is_exhausted_and_the_search_ends(name, foreign_trunks):
    proposed = proposals(search(strategy(name, space="foreign:mobile"), fitness=sum))
    assert sorted(proposed) == [(low, high) for low in range(2) for high in range(3)]


@ALL
def test_the_same_seed_proposes_the_same_and_another_seed_does_not(name):
    first, again, other = (proposals(search(strategy(name, seed, evaluations=60))) for seed in (3, 3, 4))
    assert first == again
    assert len(set(first) & set(other)) < 20


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("detnas", "80727e74122dc570"),
        ("pareto", "00160cbdf3dd6b3d"),
        ("regularized_evolution", "1ca9949f36b6a1e1"),
        ("random", "4cb378dd6f8e52c6"),
    ],
)
def test_a_seed_proposes_on_every_machine_what_it_always_has(name, digest):
    """Journals and published searches rest on it: whoever changes what is drawn has to say so."""
    own = strategy(name, seed=7, space="small", evaluations=300, max_macs=300_000_000)
    models = search(own, fitness=lambda ops: sum(ops) / 60)
    proposed = json.dumps([[model.ops, model.generation, model.origin] for model in models])
    assert hashlib.sha256(proposed.encode()).hexdigest().startswith(digest)


class ForgettingEngine(ExecutionEngine):
    """Evaluates at once and keeps nothing but whether its candidates are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[weakref.ref[CandidateModel]] = []

    def submit_models(self, *models: CandidateModel) -> None:
        for model in models:
            self.submitted.append(weakref.ref(model))
            self.dispatch_model_event(FinalMetricEvent(model, likeness(model.ops)))
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))

    def list_models(self, status: ModelStatus | None = None) -> list[CandidateModel]:
        return []

    def idle_worker_available(self) -> bool:
        return True

    def budget_available(self) -> bool:
        return True


@ALL
def test_a_strategy_keeps_no_candidate_that_has_ended(name):
    engine, own = ForgettingEngine(), strategy(name)
    own(candidate_space("tiny", None), engine)
    gc.collect()
    assert len(engine.submitted) == len(own.proposer.seen) == 200
    assert not any(model() for model in engine.submitted)


@ALL
def test_a_candidate_that_fails_is_passed_over_and_the_search_goes_on(name):
    def fails_with_a_7x7_first(ops):
        if ops[0] == 2:
            raise RuntimeError("out of memory")
        return likeness(ops)

    models = search(strategy(name), fitness=fails_with_a_7x7_first)
    assert len(models) == 200
    failed = [model for model in models if model.metric is None]
    assert failed and all(model.ops[0] == 2 for model in failed)
    if name == "random":
        return
    # A failed candidate is no parent: such children die out, whereas a random draw has a quarter of them.
    children = [model for model in models[100:] if model.origin != "random"]
    assert len(children) > 40
    assert sum(model in failed for model in children) / len(children) < 0.15


@ALL
def test_a_search_ends_when_its_engine_has_no_budget_left(name):
    engine, own = SequentialExecutionEngine(max_model_count=40), strategy(name)
    own(candidate_space("tiny", FormulaEvaluator(likeness)), engine)
    assert len(list(engine.list_models())) == 40


@ALL
def test_a_search_in_which_everything_fails_still_ends(name):
    def fails(ops):
        raise RuntimeError("no data")

    models = search(strategy(name, evaluations=60), fitness=fails)
    assert len(models) == 60
    assert {model.origin for model in models} == {"random"}


@ALL
def test_generations_are_numbered_by_twenties(name):
    generations = Counter(model.generation for model in search(strategy(name, evaluations=60)))
    assert generations == {0: 20, 1: 20, 2: 20}


@pytest.mark.parametrize("name", ["detnas", "pareto", "regularized_evolution"])
def test_evolution_beats_random_at_the_same_budget(name):
    def mean_of_the_best_ten(strategy_name, seed):
        models = search(strategy(strategy_name, seed))
        return np.mean(sorted(model.metric for model in models)[-10:])

    gains = [mean_of_the_best_ten(name, seed) - mean_of_the_best_ten("random", seed) for seed in range(5)]
    assert all(gain > 0.1 for gain in gains), gains


def test_the_papers_evolution_finds_the_one_best_of_the_whole_space():
    assert likeness(TARGET) == 1
    found = [TARGET in proposals(search(detnas(seed, generations=20))) for seed in range(5)]
    assert sum(found) >= 4


@ALL
def test_the_config_names_the_strategy_its_numbers_and_its_seed(name, make_config, tmp_path):
    config = make_config(tmp_path / "run", search={"strategy": name, "population": 6, "generations": 3})
    first, again = (search(build_strategy(config, feasible_set())) for _ in range(2))
    assert len(first) == config.search.evaluations == 18
    assert proposals(first) == proposals(again)
    reseeded = make_config(tmp_path / "run", search={**config.search.model_dump(mode="json"), "seed": 9})
    assert proposals(search(build_strategy(reseeded, feasible_set()))) != proposals(first)
    kinds = {"detnas": DetNASEvolution, "regularized_evolution": ConstrainedRegularizedEvolution}
    kinds |= {"pareto": ParetoEvolution}
    assert isinstance(build_strategy(config, feasible_set()), kinds.get(name, object))


# Around a known net.


EVOLUTIONS = pytest.mark.parametrize("name", ["detnas", "pareto", "regularized_evolution"])
KNOWN = tiny(2, 1, 3).ops


def around(name, make_config, folder, population=20, net=KNOWN, fitness=likeness, **limits):
    """What the strategy that a config names proposes in three generations."""
    settings = {"strategy": name, "population": population, "generations": 3, "around": net, "tournament": 2}
    children = {"mutations": 2 * population // 5, "crossovers": 2 * population // 5}
    config = make_config(folder, search=settings | children)
    return search(build_strategy(config, feasible_set(**limits)), fitness)


@EVOLUTIONS
def test_a_search_around_a_net_begins_with_it_and_its_mutations(name, make_config, tmp_path):
    models = around(name, make_config, tmp_path)
    first = [model for model in models if model.generation == 0]
    assert (first[0].ops, first[0].origin) == (KNOWN, "given")
    assert {model.origin for model in first[1:]} == {"mutation"}
    # Of nine blocks 0.7 change on average, and one at least; in random nets three of four do.
    assert 1 <= np.mean([distance(model.ops, KNOWN) for model in first[1:]]) < 2.5
    assert max(distance(model.ops, KNOWN) for model in first) > 1
    assert len(set(proposals(models))) == 60
    assert "given" not in {model.origin for model in models[1:]}


@EVOLUTIONS
def test_a_search_around_a_net_stays_near_it_where_parents_are_too_alike_to_cross(
    name, make_config, tmp_path
):
    """The plan of `detnas init`: generations of eight, so that two parents hardly differ."""
    models = around(name, make_config, tmp_path, population=8, fitness=lambda ops: -distance(ops, KNOWN))
    assert len(models) == 24
    assert {model.origin for model in models} <= {"given", "mutation", "crossover"}
    assert np.mean([distance(model.ops, KNOWN) for model in models]) < 3


def lowered(name, make_config, folder, net, **limits):
    """The first generation of a search around a net that exceeds the limits."""
    assert not feasible_set(**limits).contains(net)
    models = around(name, make_config, folder, net=net, **limits)
    return [model for model in models if model.generation == 0]


@EVOLUTIONS
def test_a_net_above_the_limits_begins_with_nets_near_it_that_keep_them(name, make_config, tmp_path, caplog):
    feasible = feasible_set()
    table, least = feasible.table, feasible.least()
    cost = table.cost(KNOWN)
    for limits, most in (
        ({"max_macs": (least.macs + 3 * cost.macs) // 4}, 5),
        ({"max_macs": cost.macs - 1}, 3),
        # Another limit is kept, but what is within it may cost more of it.
        ({"max_macs": (least.macs + 3 * cost.macs) // 4, "max_params": cost.params * 2}, 5),
        ({"max_macs": least.macs + (cost.macs - least.macs) // 8}, BLOCKS),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            first = lowered(name, make_config, tmp_path, KNOWN, **limits)
        assert f"search.around exceeds MACs <= {limits['max_macs']:,}" in caplog.text
        assert len(first) == 20 and {model.origin for model in first} == {"mutation"}
        assert all(feasible_set(**limits).contains(model.ops) for model in first)
        assert np.mean([distance(model.ops, KNOWN) for model in first]) < most


@EVOLUTIONS
def test_where_nothing_near_is_left_a_search_around_a_net_goes_on_at_random(name, make_config, tmp_path):
    limit = limit_for(40)
    feasible = every_architecture(max_macs=limit)
    models = around(name, make_config, tmp_path, max_macs=limit)
    assert set(proposals(models)) <= feasible
    assert len(models) == min(60, len(feasible))


def test_a_net_to_begin_with_has_to_be_of_the_space_and_a_random_search_needs_none(
    make_config, tmp_path, caplog
):
    for ops, problem in ((KNOWN[1:], f"has {BLOCKS - 1} values"), ((*KNOWN[1:], 4), "expected 0 to 3")):
        config = make_config(tmp_path, search={"around": ops})
        with pytest.raises(ConfigError, match=f"^search.around: .*{problem}"):
            build_strategy(config, feasible_set())
    text = ",".join(map(str, KNOWN))
    assert make_config(tmp_path, search={"around": text}).search.around == KNOWN
    with_it, without = (
        make_config(tmp_path, search={"around": net, "strategy": "random", "population": 9, "generations": 1})
        for net in (KNOWN, None)
    )
    assert proposals(search(build_strategy(with_it, feasible_set()))) == proposals(
        search(build_strategy(without, feasible_set()))
    )
    assert search_identity(with_it, "s") == search_identity(without, "s")
    caplog.set_level("INFO")
    build_strategy(with_it, feasible_set(max_macs=limit_for(40)))
    assert "search.around" not in caplog.text  # it does not begin near it


# The paper's evolution.


def test_a_generation_is_the_papers_mixture():
    paper = DetNASEvolution(proposer(space="small", max_macs=300_000_000))
    assert (paper.evaluations, paper.parents, paper.mutation_probability) == (1000, 10, 0.1)
    paper.generations = 4
    models = search(paper, fitness=lambda ops: sum(ops) / 60)
    origins = {g: Counter(m.origin for m in models if m.generation == g) for g in range(4)}
    assert origins.pop(0) == {"random": 50}
    assert all(of == {"mutation": 20, "crossover": 20, "random": 10} for of in origins.values())
    assert len(set(proposals(models))) == 200


@pytest.mark.parametrize("best_come", ["early", "late"])
def test_parents_are_the_best_of_all_generations_so_far(best_come):
    """Early: no later generation beats the first one. Late: each beats all those before it."""
    evaluated = iter(range(10_000))
    sign = -1 if best_come == "early" else 1
    own = detnas(space="small", generations=5, mutation_probability=0.05)
    models = search(own, fitness=lambda ops: sign * next(evaluated))
    for generation in range(1, 5):
        before = [model for model in models if model.generation < generation]
        parents = proposals(sorted(before, key=lambda model: -model.metric)[:5])
        if best_come == "early":
            assert parents == proposals(models[:5])
        else:
            assert {model.generation for model in models if model.ops in parents} == {generation - 1}
        children = [model for model in models if model.generation == generation]
        crossed = [model.ops for model in children if model.origin == "crossover"]
        mutated = [model.ops for model in children if model.origin == "mutation"]
        assert len(crossed) == len(mutated) == 8
        assert all(is_crossover(child, parents) for child in crossed)
        # At 0.05 for each of 20 blocks, five changes are very rare; two random ones differ in fifteen.
        assert all(min(distance(child, parent) for parent in parents) <= 5 for child in mutated)
        # Random ones are none of this: they show that the two checks above say something.
        fresh = [model.ops for model in children if model.origin == "random"]
        assert not any(is_crossover(child, parents) for child in fresh)


def test_where_no_new_child_can_be_had_random_ones_fill_the_generation():
    models = search(detnas(generations=4, mutation_probability=0))
    assert Counter(model.generation for model in models) == {g: 20 for g in range(4)}
    later = Counter(model.origin for model in models if model.generation > 0)
    assert later == {"crossover": 3 * 8, "random": 3 * 12}


def test_a_mutation_redraws_each_block_with_the_given_probability():
    parent, changed = (0,) * 20, []
    own = proposer(space="small")
    for _ in range(2000):
        own.seen.clear()
        child = own.mutation(lambda: parent, 0.1)
        changed.append(sum(op != 0 for op in child))
    # In one of four draws a redrawn block is what it was.
    assert np.mean(changed) == pytest.approx(20 * 0.1 * 3 / 4, rel=0.05)


def test_a_crossover_takes_half_of_the_blocks_from_either_parent():
    own, blocks = proposer(space="small"), []
    for _ in range(500):
        blocks += own.crossover(lambda: ((1,) * 20, (2,) * 20))
    assert set(blocks) == {1, 2}
    assert np.mean(blocks) == pytest.approx(1.5, abs=0.02)


def test_fewer_finished_candidates_than_parents_are_parents_enough():
    evaluated = iter(range(10_000))

    def only_the_first_works(ops):
        if next(evaluated) > 0:
            raise RuntimeError("fails")
        return 0.5

    models = search(detnas(generations=3), fitness=only_the_first_works)
    mutated = [model.ops for model in models if model.origin == "mutation"]
    assert len(models) == 60 and len(mutated) == 16
    assert all(distance(child, models[0].ops) <= 4 for child in mutated)


# NNI's regularized evolution.


def test_regularized_evolution_fills_its_population_at_random_and_then_mutates():
    models = search(strategy("regularized_evolution", evaluations=60))
    assert {model.origin for model in models[:20]} == {"random"}
    assert Counter(model.origin for model in models[20:])["mutation"] >= 38


def test_regularized_evolution_forgets_what_has_aged_out_of_its_population():
    """The first candidate is the best there is; with a tournament of all, it is the parent while it lives."""
    evaluated = iter(range(10_000))
    own = ConstrainedRegularizedEvolution(
        proposer(space="small"), 60, seed=0, population_size=20, sample_size=20, mutation_prob=0.1
    )
    models = search(own, fitness=lambda ops: 1.0 if next(evaluated) == 0 else 0.5)
    from_the_first = [distance(model.ops, models[0].ops) <= 5 for model in models]
    assert not any(from_the_first[1:20])
    assert from_the_first[20]  # its only child: it is the oldest, and dies as this one comes
    assert sum(from_the_first[21:]) < 10  # descendants of that child, perhaps
