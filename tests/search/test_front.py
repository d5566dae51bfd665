"""front.json, its members as files, and the best within a budget, of journals with known numbers."""

import json
import logging
from dataclasses import replace

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cli import main
from detnas_nni.cost.table import cost_table
from detnas_nni.errors import EvaluationError, UsageError
from detnas_nni.search.best import export_best
from detnas_nni.search.budget import export_within
from detnas_nni.search.front import export_front, front, spread, write_members
from detnas_nni.search.journal import Evaluation, Journal, journal_path
from detnas_nni.search.session import SearchSession, search_in_process
from tests.cost.latencies import by_hand
from tests.search.searching import likeness, proposals, search, strategy

TABLE = cost_table("tiny")


def evaluation(number, ops, fitness, **cost):
    return Evaluation(
        id=number,
        ops=tuple(ops),
        choices=Architecture("tiny", ops).choices,
        cost=cost or TABLE.cost(ops).to_dict(),
        metrics=None if fitness is None else {"default": fitness, "AP50": 2 * fitness},
        error="RuntimeError: killed" if fitness is None else None,
        generation=number // 20,
        origin="random",
        seconds=1.0,
        finished_at="2030-01-01T00:00:00+00:00",
    )


@pytest.fixture
def run(trained_run, make_config):
    """A search of 60 random candidates with a formula's fitness, the seventh failed: config and journal."""
    config = make_config(trained_run, search={"objectives": ["macs", "params"]})
    with SearchSession(config) as session:
        for number, ops in enumerate(proposals(search(strategy("random", evaluations=60)))):
            session.journal.append(evaluation(number, ops, None if number == 6 else likeness(ops)))
    return config, Journal(journal_path(config.search_dir))


# The front.


def test_a_search_leaves_its_front_beside_its_best(trained_run, make_config):
    config = make_config(trained_run, search={"strategy": "pareto"})
    best = json.loads(search_in_process(config).read_text())
    document = json.loads((config.search_dir / "front.json").read_text())
    assert set(document) == {"format", "space", "objectives", "members", "provenance"}
    assert (document["format"], document["space"]) == (1, "tiny")
    assert document["objectives"] == ["fitness", "macs"]
    assert document["provenance"]["strategy"] == "pareto"
    first = document["members"][0]
    assert set(first) == {
        *("rank", "ops", "choices", "cost", "metrics", "evaluation", "generation", "origin"),
    }
    assert {key: first[key] for key in ("ops", "choices", "cost", "metrics")} == {
        key: best[key] for key in ("ops", "choices", "cost", "metrics")
    }


def test_members_are_those_that_nothing_beats_ranked_by_fitness(run):
    config, journal = run
    members = json.loads(export_front(config, journal).read_text())["members"]
    finished = [e for e in journal.evaluations if e.fitness is not None]

    def beats(a, b):
        first, second = ((-e.fitness, e.cost["macs"], e.cost["params"]) for e in (a, b))
        return first != second and all(x <= y for x, y in zip(first, second, strict=True))

    expected = {e.ops for e in finished if not any(beats(other, e) for other in finished)}
    assert {tuple(member["ops"]) for member in members} == expected
    assert 3 < len(expected) < len(finished)
    fitness = [member["metrics"]["default"] for member in members]
    assert fitness == sorted(fitness, reverse=True)
    assert [member["rank"] for member in members] == list(range(1, len(members) + 1))
    for member in members:
        assert Architecture("tiny", tuple(member["ops"])).choices == member["choices"]


def test_the_front_of_a_search_that_has_evaluated_nothing_says_so(trained_run, make_config):
    config = make_config(trained_run)
    with pytest.raises(EvaluationError, match=r"journal\.jsonl: no evaluation has finished"):
        export_front(config, Journal(journal_path(config.search_dir)))


def test_an_objective_that_a_search_did_not_measure_is_named(run):
    with pytest.raises(EvaluationError, match="no latency_ms in its cost"):
        front(run[1].evaluations, ["latency"])


def line(*points):
    """Evaluations with these MACs and fitnesses."""
    return [
        evaluation(i, [i % 4] * 9, fitness, macs=macs, params=1) for i, (macs, fitness) in enumerate(points)
    ]


def test_members_that_are_spread_begin_with_the_best_and_end_far_from_each_other():
    members = front(line((0, 0.0), (10, 0.1), (50, 0.5), (90, 0.9), (100, 1.0)), ["macs"])
    chosen = [[e.fitness for e in spread(members, ["macs"], count)] for count in range(1, 6)]
    assert chosen == [[1.0], [1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.5, 0.1, 0.0], [1.0, 0.9, 0.5, 0.1, 0.0]]


def test_members_are_written_each_into_a_file_that_is_an_architecture(run):
    config, journal = run
    paths = write_members(config, journal, 3)
    assert paths[0].parent == config.search_dir / "front"
    assert Architecture.from_json(paths[0]) == Architecture.from_json(export_best(config, journal))
    assert len({Architecture.from_json(path) for path in paths}) == 3
    assert set(paths) < set(write_members(config, journal, 4))


def test_more_members_than_the_front_has_are_refused(run):
    with pytest.raises(UsageError, match=r"--front 59: .* has \d+ of 60 evaluations; ask for at most \d+"):
        write_members(*run, 59)


# A budget.


def within(run, **options):
    config, journal = run
    return json.loads(export_within(config, journal, **options).read_text())


@pytest.mark.parametrize("rank", [1, 3])
def test_the_best_within_a_budget_is_the_best_of_a_filter_of_the_journal(run, rank):
    macs = sorted(e.cost["macs"] for e in run[1].evaluations)
    params = sorted(e.cost["params"] for e in run[1].evaluations)
    for limits in ({"macs": macs[30]}, {"params": params[20]}, {"macs": macs[40], "params": params[40]}):
        kept = [
            e
            for e in run[1].evaluations
            if e.fitness is not None and all(e.cost[key] <= limit for key, limit in limits.items())
        ]
        expected = sorted(kept, key=lambda e: (-e.fitness, e.id))[rank - 1]
        found = within(run, limits=limits, rank=rank)
        assert (tuple(found["ops"]), found["metrics"]) == (expected.ops, expected.metrics)
        assert found["provenance"]["within"] == limits
        assert len(kept) < 59


def test_a_limit_is_itself_within(run):
    best = run[1].best()[0]
    assert within(run, limits={"macs": best.cost["macs"]})["ops"] == list(best.ops)
    assert within(run, limits={"macs": best.cost["macs"] - 1})["ops"] != list(best.ops)


def test_milliseconds_may_be_asked_of_a_search_that_knew_none(run, tmp_path):
    by_hand().save(tmp_path / "latency.json")
    limit = (by_hand().predict(run[1].best()[0].ops) - 1) / 1000
    found = within(run, limits={"latency_ms": limit}, latency_table=tmp_path / "latency.json")
    fast = [e for e in run[1].best(60) if by_hand().predict(e.ops) <= limit * 1000]
    assert found["ops"] == list(fast[0].ops) != list(run[1].best()[0].ops)
    assert found["cost"]["latency_ms"] == by_hand().predict(found["ops"]) / 1000


def test_every_rank_and_every_table_has_a_file_of_its_own(run, tmp_path):
    config, journal = run
    tables = {"a": by_hand(), "b": replace(by_hand(), rest_us=by_hand().rest_us + 1)}
    files = [export_within(config, journal, {"macs": 1e9}, rank=rank) for rank in (1, 2)]
    for name, table in tables.items():
        file = tmp_path / f"{name}.json"
        table.save(file)
        for rank in (1, 2):
            files.append(export_within(config, journal, {"latency_ms": 1e3}, rank=rank, latency_table=file))
            provenance = json.loads(files[-1].read_text())["provenance"]
            assert provenance["latency_table"] == {"file": str(file), "fingerprint": table.fingerprint}
    short = {name: table.fingerprint[:8] for name, table in tables.items()}
    assert [path.name for path in files] == [
        "best_within_macs_1000000000.json",
        "best_within_macs_1000000000_rank_2.json",
        *(
            f"best_within_latency_ms_1000_table_{short[name]}{rank}.json"
            for name in tables
            for rank in ("", "_rank_2")
        ),
    ]


def test_without_any_table_milliseconds_are_refused_with_the_way_to_one(run):
    with pytest.raises(UsageError, match=r"`detnas latency`.*--latency-table"):
        within(run, limits={"latency_ms": 5})


def test_a_budget_that_nothing_meets_names_the_nearest(run):
    least = min(e.cost["macs"] for e in run[1].evaluations if e.fitness is not None)
    with pytest.raises(EvaluationError, match=f"none of 59 .* the nearest has macs {least:,}"):
        within(run, limits={"macs": 1e6})


def test_few_candidates_near_the_budget_are_said_and_many_are_not(run, caplog):
    with caplog.at_level(logging.WARNING):
        within(run, limits={"macs": sorted(e.cost["macs"] for e in run[1].evaluations)[45]})
        assert not caplog.text
        within(run, limits={"macs": 1e9})
    assert "only 0 of 59 evaluations come within 10 % of macs <= 1,000,000,000" in caplog.text


def test_on_the_command_line(run, write_config, tmp_path, capsys):
    config, _ = run
    file = write_config(tmp_path / "detnas.yaml", run_dir=str(config.run_dir))
    assert main(["export", "-c", str(file), "--within", "macs=21e6", "--within", "params=9e4"]) == 0
    assert (config.search_dir / "best_within_macs_21000000_params_90000.json").exists()
    assert "on the search split" in capsys.readouterr().out
    assert main(["export", "-c", str(file)]) == 0
    assert (config.search_dir / "front.json").exists() and "front.json" in capsys.readouterr().out
    for wrong in ("joules=3", "macs=", "macs=-1", "40e6"):
        with pytest.raises(SystemExit):
            main(["export", "-c", str(file), "--within", wrong])
        assert "macs=N, params=N or latency_ms=MS" in capsys.readouterr().err
    assert main(["export", "-c", str(file), "--latency-table", "x.json"]) == 2
    assert main(["export", "-c", str(file), "--within", "macs=4e7", "--weights", "net.pt"]) == 2
