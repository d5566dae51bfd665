"""Several searches at one budget: cut to the shortest, seeds as mean and range, measures kept apart."""

import json
from dataclasses import replace

import numpy as np
import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.report.comparison import budget, compared, panels
from detnas_nni.report.exhibits import exhibits
from detnas_nni.report.searches import of_folder
from detnas_nni.report.style import look
from tests.report.journals import write_journal


@pytest.fixture
def arm(tmp_path):
    """arm(fitness of each evaluation, strategy=…, seed=…): a search in a folder, as an export leaves it."""

    def make(fitness, *, strategy="detnas", seed=0, task="detection", supernet="a" * 64, **journal):
        folder = tmp_path / f"{strategy}-{seed}-{task}-{len(fitness)}"
        if task == "classification":
            journal["metrics"] = {"seconds": 1.0}
        evaluations = write_journal(folder, len(fitness), fitness=fitness.__getitem__, seed=seed, **journal)
        (folder / "search.json").write_text(json.dumps({"config": "0", "supernet": supernet}))
        Architecture("tiny", evaluations[0].ops).save(
            folder / "best_architecture.json",
            provenance={"strategy": strategy, "seed": seed, "task": task},
        )
        return of_folder(folder)

    return make


def test_the_budget_is_the_shortest_searchs_and_later_results_do_not_count(arm):
    long, short = arm([0.1, 0.2, 0.3, 0.9]), arm([0.3, 0.1], strategy="random")
    assert budget([long, short]) == 2
    (panel,) = panels([long, short])
    assert [(a.label, a.mean.tolist()) for a in panel.arms] == [
        ("DetNAS evolution", [0.1, 0.2]),
        ("random search", [0.3, 0.3]),
    ]


def test_failed_and_stopped_candidates_count_in_the_budget(arm):
    first = arm([0.1, 0.9, 0.5], failed={1})
    second = arm([0.2, 0.3, 0.8, 0.9], strategy="regularized_evolution", stopped={2})
    (panel,) = panels([first, second])
    assert [a.mean.tolist() for a in panel.arms] == [[0.1, 0.1, 0.5], [0.2, 0.3, 0.3]]


def test_seeds_of_one_strategy_are_a_mean_and_a_range(arm):
    seeds = [arm([0.1, 0.4], seed=0), arm([0.3, 0.2], seed=1), arm([0.2, 0.2], seed=2)]
    (panel,) = panels([*seeds, arm([0.1, 0.1], strategy="random")])
    evolution, random = panel.arms
    assert np.allclose(
        [evolution.mean, evolution.low, evolution.high], [[0.2, 0.9 / 3], [0.1, 0.2], [0.3, 0.4]]
    )
    assert len(random.searches) == 1
    with look():
        axes = compared([panel]).axes[0]
    assert np.allclose(axes.lines[0].get_ydata(), [0.2, 0.3])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["DetNAS evolution, mean and range of 3 seeds", "random search"]
    assert len(axes.collections) == 1  # the band of the seeds


def test_a_mean_begins_where_every_seed_has_a_result(arm):
    seeds = [arm([0.5, 0.1, 0.1], seed=0, failed={0}), arm([0.3, 0.4, 0.4], seed=1)]
    (panel,) = panels(seeds)
    assert np.allclose(panel.arms[0].mean, [np.nan, 0.25, 0.25], equal_nan=True)


def test_searches_of_one_seed_differ_in_something_else_and_stand_alone(arm, tmp_path):
    first, second = arm([0.1, 0.2]), arm([0.2, 0.3, 0.3])
    (panel,) = panels([first, second])
    assert [a.label for a in panel.arms] == [f"DetNAS evolution, {s.name}" for s in (first, second)]
    unknown = [replace(first, strategy=None, seed=1), replace(second, strategy=None, seed=2)]
    assert len(panels(unknown)[0].arms) == 2


def test_searches_that_other_tasks_guide_get_an_axis_of_their_own_and_it_is_said(arm, searched):
    config, search = searched(3)
    other = arm([0.7, 0.8, 0.9], task="classification")
    exhibit = exhibits(config, search, [other])[-1]
    assert [axes.get_ylabel() for axes in exhibit.figure.axes] == ["best AP so far", "best top-1 so far"]
    assert "guided by different measures (AP and top-1), which do not share a scale" in exhibit.caption


def test_different_supernets_on_one_axis_are_told(arm, searched):
    config, search = searched(3)
    search = replace(search, supernet="a" * 64)
    same = arm([0.1, 0.2, 0.3], strategy="random")
    assert "supernets" not in exhibits(config, search, [same])[-1].caption
    other = arm([0.1, 0.2, 0.3], strategy="regularized_evolution", supernet="b" * 64)
    assert "with 2 different supernets" in exhibits(config, search, [other])[-1].caption


def test_the_table_has_the_best_at_the_budget_and_of_all(arm, searched):
    config, search = searched(2, fitness=(0.1, 0.2).__getitem__)
    exhibit = exhibits(config, search, [arm([0.2, 0.3, 0.9], strategy="random")])[-1]
    assert exhibit.table.head[4:6] == ("best of 2", "best of all")
    assert [row[3:6] for row in exhibit.table.rows] == [("2", "0.2000", "0.2000"), ("3", "0.3000", "0.9000")]
    assert "2 searches cut to the shortest: 2 evaluations each" in exhibit.caption
