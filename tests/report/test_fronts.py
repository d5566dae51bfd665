"""The report's front: how it grows, the volume that it commands, and its members on their own."""

import json
from dataclasses import replace

import numpy as np
import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cost.limits import candidate_costs
from detnas_nni.errors import EvaluationError
from detnas_nni.report.exhibits import exhibits
from detnas_nni.report.fronts import fronts, volume_so_far
from detnas_nni.report.searches import of_config, of_folder
from detnas_nni.report.style import look, to_svg
from tests.report.journals import write_journal, write_result


@pytest.fixture
def config(make_config, tmp_path):
    return make_config(tmp_path / "run", search={"strategy": "pareto", "objectives": ["macs", "params"]})


@pytest.fixture
def search(config):
    write_journal(config.search_dir, 40, failed={3}, stopped={5})
    return of_config(config, "detnas.yaml")


def costing(evaluations, *points):
    """The first evaluations with these costs and fitnesses; None has failed."""
    return [
        replace(
            evaluation,
            cost={"macs": macs, "params": 1},
            metrics=None if fitness is None else {"default": fitness},
            error="RuntimeError: killed" if fitness is None else None,
        )
        for evaluation, (macs, fitness) in zip(evaluations, points, strict=False)
    ]


def test_the_volume_is_the_mean_over_budgets_of_the_best_within_each(tmp_path):
    """Budgets from 0 to 10. 0.5 from 4 on; then 0.2 from 2 on as well; then 1.0 from 8 on."""
    points = ((4, 0.5), (4, None), (2, 0.2), (9, 0.4), (8, 1.0))
    evaluations = costing(write_journal(tmp_path, 5), *points)
    found = volume_so_far(evaluations, "macs", least=0, greatest=10)
    assert np.allclose(found, [0.3, 0.3, 0.34, 0.34, 0.34 + 0.1])


def test_before_anything_has_finished_the_volume_is_nothing(tmp_path):
    evaluations = costing(write_journal(tmp_path, 2), (4, None), (4, 0.5))
    assert volume_so_far(evaluations, "macs", least=0, greatest=10).tolist() == [0.0, pytest.approx(0.3)]


def test_the_budgets_are_those_of_the_whole_space(config, search):
    shown = fronts(search, [], config)
    table = candidate_costs(config)
    every_op = [table.cost((op,) * 9).macs for op in range(4)]
    assert shown.least <= min(every_op) and shown.greatest >= max(every_op)
    assert min(e.cost["macs"] for e in search.evaluations) >= shown.least


def test_the_front_after_each_generation_never_loses_what_nothing_has_beaten(config, search):
    growth = fronts(search, [], config).growth
    finished = search.finished
    assert list(growth) == sorted({e.generation for e in finished})
    for positions in growth.values():
        ordered = sorted(positions, key=lambda i: finished[i].cost["macs"])
        fitness = [finished[i].fitness for i in ordered]
        assert fitness == sorted(fitness)
    before, after = list(growth.values())[-2:]
    macs, values = ([e.cost["macs"] for e in finished], [e.fitness for e in finished])
    for i in set(before) - set(after):
        assert any(values[j] >= values[i] and macs[j] <= macs[i] for j in after)


def test_members_show_what_they_came_to_on_their_own(config, search):
    member, other = fronts(search, [], config).members[:2]
    write_result(config.run_dir, member.ops, 0.31, init="supernet")
    write_result(config.run_dir, member.ops, 0.33)
    shown = fronts(search, [], config)
    assert shown.retrained == {member.ops: {"supernet": 0.31, "classification": 0.33}}
    place = shown.head.index("AP on its own, test split")
    rows = {row[-1]: row[place] for row in shown.rows()}
    assert rows[str(Architecture("tiny", member.ops))] == "0.3300 (classification), 0.3100 (supernet)"
    assert rows[str(Architecture("tiny", other.ops))] == "–"
    (exhibit,) = [e for e in exhibits(config, search, []) if e.name == "front"]
    assert "trained on their own (1)" in exhibit.caption


def beside(config, folder, seed, strategy="random", space="tiny", fitness=None):
    evaluations = write_journal(folder, 40, seed=seed, fitness=fitness)
    (folder / "search.json").write_text(json.dumps({"config": "0", "supernet": "a" * 64}))
    Architecture("tiny", evaluations[0].ops).save(
        folder / "best_architecture.json", provenance={"strategy": strategy, "seed": seed}
    )
    return replace(of_folder(folder), space=space)


def test_other_searches_stand_beside_it_at_an_equal_budget_and_those_of_another_space_do_not(
    config, search, tmp_path
):
    same = [beside(config, tmp_path / f"random{seed}", seed) for seed in (1, 2)]
    foreign = beside(config, tmp_path / "foreign", 3, space="small")
    shown = fronts(search, [*same, foreign], config)
    assert [(arm.label, len(arm.searches)) for arm in shown.arms] == [
        ("evolution of the front (NSGA-II)", 1),
        ("random search", 2),
    ]
    assert all(len(arm.mean) == 40 for arm in shown.arms)
    assert shown.left_out == (str(tmp_path / "foreign"),)
    (exhibit,) = [e for e in exhibits(config, search, [*same, foreign]) if e.name == "front"]
    assert "For 1 other search no volume is shown" in exhibit.caption


def test_the_figure_has_both_panels_and_says_the_budgets(config, search):
    with look():
        (exhibit,) = [e for e in exhibits(config, search, []) if e.name == "front"]
        svg = to_svg(exhibit.figure, "front")
    assert "MACs, millions" in svg and "mean over budgets" in svg
    assert "reference point of AP 0 and MACs" in exhibit.caption
    assert exhibit.table.head[0] == "rank" and len(exhibit.table.rows) > 1


def test_an_objective_that_the_journal_lacks_is_an_error_that_names_it(config, search):
    changed = config.model_copy(
        update={"search": config.search.model_copy(update={"objectives": ("latency",)})}
    )
    with pytest.raises(EvaluationError, match="latency_ms"):
        fronts(search, [], changed)
