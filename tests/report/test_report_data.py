"""The numbers of a report: each one follows from the journal by hand."""

import json

import numpy as np
import pytest

from detnas_nni.errors import ArchitectureError, EvaluationError, UsageError
from detnas_nni.report.data import (
    Band,
    best_so_far,
    candidate_names,
    choice_shares,
    generation_bands,
    pareto_front,
    times,
)
from detnas_nni.report.searches import of_config, of_folder, published_nets, to_compare
from detnas_nni.search.journal import JournalError, journal_path
from detnas_nni.util.text import duration, listed, millions, number
from search_spaces import Choice, layout
from tests.report.journals import write_journal
from tests.varied import SEED

FITNESS = (0.2, 0.5, 0.3, 0.4, 0.6, 0.1)


def test_the_best_so_far_passes_over_what_has_no_fitness(tmp_path):
    evaluations = write_journal(tmp_path, 6, fitness=FITNESS.__getitem__, failed={0, 1}, stopped={4})
    assert np.array_equal(best_so_far(evaluations), [np.nan, np.nan, 0.3, 0.4, 0.4, 0.4], equal_nan=True)


def test_generations_are_bands_without_gaps_also_when_they_end_interleaved(tmp_path):
    evaluations = write_journal(tmp_path, 7, population=3)
    assert generation_bands(evaluations) == [Band(0, 0, 2), Band(1, 3, 5), Band(2, 6, 6)]
    interleaved = [evaluations[i] for i in (0, 1, 3, 2, 4, 5, 6)]
    assert generation_bands(interleaved) == [Band(0, 0, 1), Band(1, 2, 5), Band(2, 6, 6)]


def test_the_pareto_front_has_what_nothing_beats_in_both():
    costs, fitness = [3, 1, 2, 2, 5, 4], [0.5, 0.1, 0.3, 0.4, 0.5, 0.7]
    assert pareto_front(costs, fitness) == [1, 3, 0, 5]
    assert pareto_front([1, 1, 1], [0.2, 0.2, 0.1]) == [0]
    assert pareto_front([], []) == []


def test_the_pareto_front_of_many_is_that_of_comparing_each_with_each():
    rng = np.random.default_rng(0)
    costs, fitness = rng.integers(50, size=300).tolist(), rng.integers(50, size=300).tolist()
    beaten = {
        i
        for i in range(300)
        for j in range(300)
        if costs[j] <= costs[i]
        and fitness[j] >= fitness[i]
        and (costs[j], fitness[j]) != (costs[i], fitness[i])
    }
    front = pareto_front(costs, fitness)
    expected = {(costs[i], fitness[i]) for i in range(300)} - {(costs[i], fitness[i]) for i in beaten}
    assert {(costs[i], fitness[i]) for i in front} == expected


def test_shares_count_each_candidate_in_each_block():
    blocks = (Choice("a", ("x", "y")), Choice("b", ("y", "z", 3)))
    assert candidate_names(blocks) == ["x", "y", "z", "3"]
    shares = choice_shares(blocks, [(0, 0), (1, 2), (1, 2), (1, 1)])
    expected = [[0.25, np.nan], [0.75, 0.25], [np.nan, 0.25], [np.nan, 0.5]]
    assert np.array_equal(shares, expected, equal_nan=True)


def test_shares_of_a_search_sum_to_one_in_every_block(tmp_path):
    shares = choice_shares(layout("tiny"), [e.ops for e in write_journal(tmp_path, 24)])
    assert shares.shape == (4, len(layout("tiny")))
    assert np.allclose(shares.sum(0), 1)


def test_times_are_the_journals_by_how_an_evaluation_ended(tmp_path):
    spent = times(write_journal(tmp_path, 5, failed={1}, stopped={3}))
    assert spent.total == pytest.approx(2.0 + 2.1 + 2.2 + 2.3 + 2.4)
    assert spent.wall == pytest.approx(4 + 2)  # ends a second apart, the first began 2 s before its end
    assert spent.median == pytest.approx({"finished": 2.2, "failed": 2.1, "stopped": 2.3})


def test_published_nets_of_a_space_have_the_cost_that_the_authors_count():
    nets = {net.name: net.cost.macs for net in published_nets("small", 224)}
    assert nets["DetNAS COCO FPN 300M"] == 288_082_368
    assert nets["ShuffleNetV2 20"] == 262_705_856
    assert len(nets) == 5
    assert list(nets.values()) == sorted(nets.values())
    assert published_nets("tiny", 224) == []


def test_a_search_knows_what_it_was(searched):
    config, search = searched(5, failed={1}, stopped={3})
    assert (search.fitness, search.space, search.strategy, search.seed) == ("AP", "tiny", "detnas", SEED)
    assert [len(part) for part in (search.finished, search.failed, search.stopped)] == [3, 1, 1]
    assert of_config(config, "x").best(1) == [max(search.finished, key=lambda e: e.fitness)]


@pytest.mark.parametrize(
    ("metrics", "fitness"),
    [
        ({"AP50": 0.5, "AP75": 0.2}, "AP"),
        ({"mAP07": 0.5, "AP50": 0.1}, "VOC mAP"),
        ({"seconds": 1.0}, "top-1"),
    ],
)
def test_a_folder_alone_tells_by_its_metrics_what_guided_the_search(tmp_path, metrics, fitness):
    write_journal(tmp_path, 2, metrics=metrics)
    search = of_folder(tmp_path)
    assert (search.fitness, search.strategy, search.seed) == (fitness, None, None)


def test_without_evaluations_the_command_that_makes_them_is_named(make_config, tmp_path):
    config = make_config(tmp_path / "run")
    with pytest.raises(EvaluationError, match=r"journal\.jsonl: is not there, .*`detnas search -c a\.yaml`"):
        of_config(config, "a.yaml")
    journal_path(config.search_dir).parent.mkdir(parents=True)
    journal_path(config.search_dir).touch()
    with pytest.raises(EvaluationError, match="has no evaluation yet"):
        of_config(config, "a.yaml")


def test_candidates_of_another_space_are_refused(make_config, tmp_path):
    config = make_config(tmp_path / "run", space={"name": "small"})
    write_journal(config.search_dir, 2)
    with pytest.raises(ArchitectureError, match=r"journal\.jsonl: evaluation 0 is not of the config's space"):
        of_config(config, "a.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": {"macs": 1}}, "evaluation 1: cost lacks params"),
        ({"seconds": float("nan")}, "evaluation 1: seconds is nan, expected a finite number"),
        ({"seconds": -1.0}, "evaluation 1: seconds is -1.0, expected a finite number"),
    ],
)
def test_numbers_that_cannot_be_are_named(make_config, tmp_path, change, message):
    config = make_config(tmp_path / "run")
    write_journal(config.search_dir, 3)
    path = journal_path(config.search_dir)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1].update(change)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(JournalError, match=message):
        of_config(config, "a.yaml")


def test_what_is_no_search_cannot_be_compared(tmp_path):
    with pytest.raises(UsageError, match=r"--compare .*gone: does not exist"):
        to_compare(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"not a search's folder, which has a journal\.jsonl"):
        to_compare(tmp_path)


def test_words_of_numbers():
    assert [number(1, "search"), number(2, "search"), number(0, "net")] == [
        "1 search",
        "2 searches",
        "0 nets",
    ]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert [millions(288_082_368), millions(20_400_000), millions(84_112)] == ["288M", "20.4M", "0.084M"]
    assert [duration(s) for s in (0.4, 61, 3600, 8040)] == ["0 s", "1 min 1 s", "1 h", "2 h 14 min"]
