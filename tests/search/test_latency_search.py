"""A search within milliseconds, from the config to the journal; without, it is what it always was."""

import json
from pathlib import Path

import pytest
from nni.nas.execution import SequentialExecutionEngine

from detnas_nni.architecture import read_document
from detnas_nni.cli import main
from detnas_nni.config.reading import parse_config
from detnas_nni.cost.latency_table import read_latency_table
from detnas_nni.cost.table import cost_table
from detnas_nni.doctor.steps import examine_run
from detnas_nni.errors import CheckpointError, ConfigError, ConstraintError, LatencyError
from detnas_nni.search.best import sample
from detnas_nni.search.journal import Journal, journal_path, search_identity
from detnas_nni.search.session import SearchSession, search_in_process
from tests.cost.latencies import by_hand, changed_file
from tests.search.searching import STRATEGIES, FormulaEvaluator
from tests.varied import THREADS

LIMIT = 2.35  # ms; by_hand() has 2.16 to 2.8
FREE = {"population": 12, "generations": 3, "tournament": 4, "parents": 4, "mutations": 4, "crossovers": 4}


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "latency.json"
    by_hand().save(path)
    return path


@pytest.fixture
def config(trained_run, make_config, table):
    """config(…): of a search with that table and the limit; the arguments are more of its keys."""

    def make(limit: float | None = LIMIT, limits: dict | None = None, **search):
        constraint = {"latency_table": str(table), "max_latency_ms": limit, **(limits or {})}
        return make_config(trained_run, search={**search, "constraint": constraint})

    return make


def run(config, fitness) -> list[tuple[int, ...]]:
    evaluator = FormulaEvaluator(fitness)
    with SearchSession(config) as session:
        session.run(SequentialExecutionEngine(continue_on_failure=True), evaluator)
    return evaluator.evaluated


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_to_the_milliseconds(config, strategy):
    """On a fitness that draws it to what is slow."""
    limited = config(strategy=strategy, **FREE)
    evaluated = run(limited, lambda ops: sum(op == 3 for op in ops) / len(ops))
    assert len(evaluated) == 36
    assert all(by_hand().predict(ops) <= LIMIT * 1000 for ops in evaluated)
    assert max(map(by_hand().predict, evaluated)) > 0.95 * LIMIT * 1000
    free = config(limit=None, strategy=strategy, name="free", **FREE)
    assert any(by_hand().predict(ops) > LIMIT * 1000 for ops in run(free, lambda ops: sum(ops) / 30))


def test_macs_and_milliseconds_are_kept_together(config):
    costs = cost_table("tiny")
    limit = costs.cost((0, 0, 3, 0, 0, 0, 0, 0, 0)).macs
    evaluated = run(config(limits={"max_macs": limit}, **FREE), lambda ops: sum(ops) / 30)
    assert evaluated and all(costs.cost(ops).macs <= limit for ops in evaluated)
    assert all(by_hand().predict(ops) <= LIMIT * 1000 for ops in evaluated)


def test_journal_nni_and_the_best_architecture_have_the_milliseconds(config):
    limited = config()
    best = read_document(search_in_process(limited))
    assert (
        best["cost"]["latency_ms"] == by_hand().predict(best["ops"]) / 1000 == best["metrics"]["latency_ms"]
    )
    evaluations = Journal(journal_path(limited.search_dir)).evaluations
    for evaluation in evaluations:
        assert evaluation.cost.keys() == {"macs", "params", "latency_ms"}
        assert type(evaluation.cost["macs"]) is int
        assert evaluation.metrics["latency_ms"] == by_hand().predict(evaluation.ops) / 1000


def test_without_a_table_the_journal_has_what_it_always_had(trained_run, make_config):
    free = make_config(trained_run)
    run(free, lambda ops: sum(ops) / 30)
    line = json.loads(journal_path(free.search_dir).read_text().splitlines()[0])
    assert line["cost"].keys() == {"macs", "params"}


def test_random_samples_keep_to_it_and_say_it(config):
    for path in sample(config(), 20):
        cost = read_document(path)["cost"]
        assert cost["latency_ms"] <= LIMIT
        assert cost["resolution"] == 224


def test_export_prints_it(config, tmp_path, capsys, write_config, table):
    limited = config()
    run(limited, lambda ops: sum(ops) / 30)
    constraint = {"latency_table": str(table), "max_latency_ms": LIMIT}
    path = write_config(
        tmp_path / "same.yaml", run_dir=str(limited.run_dir), search={"constraint": constraint}
    )
    assert main(["export", "-c", str(path)]) == 0
    assert " parameters, 2." in capsys.readouterr().out


# What makes a search the same one.


def identity(search: dict) -> str:
    detection = {"train": {"images": "/d", "annotations": "/a.json"}}
    values = {"run_dir": "/runs/x", "space": {"name": "tiny"}, "data": {"detection": detection}}
    return search_identity(parse_config({**values, "search": search}, folder=Path("/")), "s")["config"]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({}, "6362145fe3a87177"),
        ({"population": 60}, "44874a16835538d7"),
        ({"constraint": {"max_macs": 5, "resolution": 96}}, "549339274e011e9b"),
    ],
)
def test_a_search_without_latency_is_the_one_that_it_was_before_there_were_tables(search, expected):
    """Journals of that time are gone on with."""
    assert identity(search) == expected


def test_a_search_with_latency_is_another_one_and_depends_on_limit_and_content(tmp_path, table):
    def of(path: Path, limit: float | None = LIMIT) -> str:
        return identity({"constraint": {"latency_table": str(path), "max_latency_ms": limit}})

    other = changed_file(
        tmp_path / "other.json", lambda d: d["blocks_us"]["layer_00"].update(xception_3x3=500)
    )
    moved = changed_file(tmp_path / "below" / "moved.json", lambda d: d.pop("check"))
    different = {identity({}), of(table), of(table, 3.0), of(table, None), of(other)}
    assert len(different) == 5
    assert of(moved) == of(table)


def test_a_folder_with_a_search_by_another_table_is_not_gone_on_with(config, table):
    limited = config()
    run(limited, lambda ops: sum(ops) / 30)
    assert run(limited, lambda ops: sum(ops) / 30) == []
    changed_file(table, lambda d: d.update(rest_us=901))
    with pytest.raises(CheckpointError, match="holds a search with another config"):
        SearchSession(limited)


# What it refuses.


def test_a_limit_needs_a_table(trained_run, make_config):
    with pytest.raises(ConfigError, match=r"search\.constraint: .*max_latency_ms needs latency_table"):
        make_config(trained_run, search={"constraint": {"max_latency_ms": 5}})


def test_a_limit_below_the_least_names_the_least(config):
    with pytest.raises(ConstraintError, match=r"meets latency <= 2 ms: .*the lowest latency 2\.16 ms"):
        SearchSession(config(limit=2))


def test_a_table_that_is_missing_is_named_before_anything_is_evaluated(config, table):
    limited = config()
    table.unlink()
    with pytest.raises(LatencyError, match=r"latency\.json: cannot be read .*detnas latency"):
        SearchSession(limited)
    assert not limited.search_dir.exists()


def test_a_table_of_other_options_of_the_trunk_is_refused(trained_run, make_config, table):
    space = {"options": {"shuffle": "even_odd"}}
    other = make_config(trained_run, space=space, search={"constraint": {"latency_table": str(table)}})
    with pytest.raises(
        LatencyError, match=r"latency\.json: for a trunk with the options \{\}, but \{'shuffle'"
    ):
        SearchSession(other)


def test_the_doctor_tells_a_table_of_another_device_from_a_missing_one(config, table):
    name = "search.constraint.latency_table"

    def found():
        [finding] = [finding for finding in examine_run(config(), "my.yaml") if finding.name == name]
        return finding

    assert found().status == "warning"
    assert "measured elsewhere (device a board, here " in found().text
    assert found().remedy.startswith("detnas latency -c my.yaml")
    assert main(["latency", "--space", "tiny", "--resolution", "32", "--rounds", "4",
                 "--threads", str(THREADS), "--out", str(table)]) == 0  # fmt: skip
    assert read_latency_table(table, space="tiny").conditions.device != "a board"
    assert found().status == "ok"
    table.unlink()
    assert found().status == "problem"
