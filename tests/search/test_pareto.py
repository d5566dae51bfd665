"""The evolution of a front: on a small space, whose front is known, and against what it stands beside."""

from itertools import product

import numpy as np
import pytest

from detnas_nni.cli import main
from detnas_nni.config.reading import load_config
from detnas_nni.cost.table import cost_table
from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.search.journal import search_identity
from detnas_nni.search.nondominated import dominates, front_of, hypervolume
from detnas_nni.search.session import search_in_process
from tests.search.searching import (
    BLOCKS,
    TARGET,
    likeness,
    limit_for,
    macs_of_all,
    pareto,
    proposals,
    search,
    strategy,
    tiny,
)

TABLE = cost_table("tiny")


def point(ops, fitness=likeness, objectives=("macs",)):
    cost = TABLE.cost(ops).to_dict()
    return (-fitness(ops), *(cost[name] for name in objectives))


def whole_space(limit):
    every = np.array(list(product(range(4), repeat=BLOCKS)))
    return [tuple(ops) for ops in every[TABLE.costs(every)[:, 0] <= limit].tolist()]


@pytest.mark.parametrize("objectives", [("macs",), ("macs", "params")])
def test_the_front_of_a_space_that_is_enumerated_is_found_exactly(objectives):
    limit = limit_for(1500)
    every = [point(ops, objectives=objectives) for ops in whole_space(limit)]
    front = {every[i] for i in front_of(every)}
    assert 4 < len(front) < 20
    for seed in range(3):
        own = pareto(seed, limits={"max_macs": limit}, objectives=objectives, generations=20)
        found = [point(ops, objectives=objectives) for ops in proposals(search(own))]
        assert len(found) == 400 < len(every) / 3
        assert {found[i] for i in front_of(found)} == front
    by_chance = proposals(search(strategy("random", evaluations=400, max_macs=limit)))
    assert len(front & {point(ops, objectives=objectives) for ops in by_chance}) < len(front) / 2


def test_it_commands_more_than_the_papers_evolution_and_random_search_at_the_same_budget():
    reference = (0.0, float(macs_of_all()[-1]))

    def volume(name, seed):
        return hypervolume(
            [point(ops) for ops in proposals(search(strategy(name, seed, evaluations=400)))], reference
        )

    for seed in range(5):
        assert volume("pareto", seed) > max(volume(name, seed) for name in ("detnas", "random"))


def test_survivors_are_a_front_and_what_is_next_behind_it_and_never_more_than_a_generation():
    own = pareto()
    own.remember([(likeness(ops), ops) for ops in whole_space(limit_for(200))])
    survivors = [point(ops) for _, ops in own._survivors]
    assert len(survivors) == 20
    others = [point(ops) for ops in whole_space(limit_for(200))]
    front = {others[i] for i in front_of(others)}
    assert front <= set(survivors)
    rest = set(others) - set(survivors)
    assert not any(dominates(left_out, kept) for left_out in rest for kept in survivors)


def test_a_parent_is_the_better_of_two_survivors():
    """The n-th of 20 wins 2 (20 - n) + 1 of 400 draws, counted from 0 in the order of the tournament."""
    own = pareto()
    own.remember([(1 - n / 100, tiny(n % 4, n // 4).ops) for n in range(16)])
    drawn = [own.parent() for _ in range(8000)]
    size = len(own._survivors)
    shares = [drawn.count(ops) / 8000 for _, ops in own._survivors]
    expected = [(2 * (size - n) - 1) / size**2 for n in range(size)]
    assert np.allclose(shares, expected, atol=0.015)


def test_children_come_from_the_whole_front_and_not_from_its_best_end_alone():
    """The paper's evolution breeds from the best, which here are dear; the cheapest are parents, too."""
    dear = macs_of_all()[3 * len(macs_of_all()) // 4]
    cheap = {}
    for name in ("pareto", "detnas"):
        models = search(strategy(name), fitness=lambda ops: TABLE.cost(ops).macs / 1e9)
        bred = [model.ops for model in models if model.origin != "random"]
        cheap[name] = np.mean([TABLE.cost(ops).macs < dear for ops in bred])
    assert cheap["pareto"] > 0.4 > cheap["detnas"]


# The config.


def test_an_objective_that_is_unknown_or_named_twice_or_without_its_table_is_one_line(write_config, tmp_path):
    for objectives, word in (
        (["energy"], "'macs', 'params' or 'latency'"),
        (["macs", "macs"], "objectives has macs twice"),
        (["latency"], "`detnas latency`"),
        ([], "objectives is empty"),
    ):
        file = write_config(tmp_path / "detnas.yaml", search={"strategy": "pareto", "objectives": objectives})
        with pytest.raises(ConfigError, match="objectives") as raised:
            load_config(file)
        assert word in str(raised.value) and "\n" not in str(raised.value).strip()


def test_racing_is_refused_since_a_poor_candidate_may_be_a_cheap_one(write_config, tmp_path, capsys):
    file = write_config(tmp_path / "detnas.yaml", search={"strategy": "pareto", "racing": 0.01})
    assert main(["search", "-c", str(file)]) == 2
    assert "racing needs strategy detnas or random" in capsys.readouterr().err


def test_other_objectives_are_another_search_but_not_to_a_strategy_that_does_not_ask_for_them(
    make_config, tmp_path
):
    def identity(**values):
        return search_identity(make_config(tmp_path / "run", search=values), "supernet")

    assert identity(strategy="pareto") != identity(strategy="pareto", objectives=["params"])
    assert identity(strategy="pareto") == identity(strategy="pareto", objectives=["macs"])
    assert identity(strategy="detnas") == identity(strategy="detnas", objectives=["params"])


def test_a_search_with_other_objectives_does_not_go_on_in_the_same_folder(trained_run, make_config):
    search_in_process(make_config(trained_run, search={"strategy": "pareto"}))
    with pytest.raises(CheckpointError, match="another config"):
        search_in_process(
            make_config(trained_run, search={"strategy": "pareto", "objectives": ["macs", "params"]})
        )


def test_the_best_there_is_is_on_the_front():
    assert TARGET in proposals(search(pareto(generations=25)))
