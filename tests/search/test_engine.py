"""The journal between strategy and engine: a search that is started again stands where it stood."""

import json
import math

import pytest
from nni.nas.execution import SequentialExecutionEngine
from searching import STRATEGIES, FormulaEvaluator, feasible_set, likeness, strategy

from detnas_nni.search.engine import JournaledEngine
from detnas_nni.search.journal import Journal
from detnas_nni.search.space import candidate_space

ALL = pytest.mark.parametrize("name", STRATEGIES)
BUDGET = 40


def sometimes_fails(ops):
    if ops[0] == 2:
        raise MemoryError("out of memory\nsecond line")
    return likeness(ops)


def run(path, name, fitness=likeness):
    """Search over the journal at `path`; gives the evaluator and the strategy's models."""
    evaluator, journal = FormulaEvaluator(fitness), Journal(path)
    inner = SequentialExecutionEngine(continue_on_failure=True)
    engine = JournaledEngine(inner, journal, feasible_set().table, "tiny")
    strategy(name, evaluations=BUDGET)(candidate_space("tiny", evaluator), engine)
    engine.wait_models()
    return evaluator, list(engine.list_models())


def content(path):
    """The journal's lines, without what a clock says."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "finished_at")} for line in lines]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


@ALL
def test_every_evaluation_is_written_down_as_it_ends(name, path):
    written = []

    def looks_at_the_journal(ops):
        written.append(len(content(path)) if path.exists() else 0)
        return likeness(ops)

    evaluator, models = run(path, name, looks_at_the_journal)
    assert written == list(range(BUDGET))
    lines = content(path)
    assert [line["id"] for line in lines] == list(range(BUDGET))
    assert [tuple(line["ops"]) for line in lines] == evaluator.evaluated
    for line, model in zip(lines, models, strict=True):
        assert line["metrics"] == {"default": likeness(model.ops), "double": 2 * likeness(model.ops)}
        assert line["choices"] == dict(model.sample)
        cost = feasible_set().table.cost(model.ops)
        assert line["cost"] == {"macs": cost.macs, "params": cost.params}
        assert (line["generation"], line["origin"]) == (model.generation, model.origin)


@ALL
@pytest.mark.parametrize(("kept", "torn"), [(0, True), (1, False), (27, True), (BUDGET, False)])
def test_a_search_cut_anywhere_evaluates_what_is_missing_and_ends_the_same(name, path, kept, torn):
    whole, models = run(path, name, sometimes_fails)
    expected, lines = content(path), path.read_bytes().splitlines(keepends=True)
    end = lines[kept][:50] if torn else b""
    path.write_bytes(b"".join(lines[:kept]) + end)
    again, replayed = run(path, name, sometimes_fails)
    assert again.evaluated == whole.evaluated[kept:]
    assert content(path) == expected
    assert [m.ops for m in replayed] == [m.ops for m in models]
    assert [(m.metric, m.status) for m in replayed] == [(m.metric, m.status) for m in models]


@ALL
def test_an_interrupted_evaluation_is_not_written_and_comes_first_the_next_time(name, tmp_path):
    whole, _ = run(tmp_path / "whole.jsonl", name)
    calls = iter(range(10_000))

    def interrupted_in_the_tenth(ops):
        if next(calls) == 9:
            raise KeyboardInterrupt
        return likeness(ops)

    path = tmp_path / "journal.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(path, name, interrupted_in_the_tenth)
    assert len(content(path)) == 9
    again, _ = run(path, name)
    assert again.evaluated == whole.evaluated[9:]
    assert content(path) == content(tmp_path / "whole.jsonl")


def test_a_failure_is_written_with_its_reason_and_not_tried_again(path):
    run(path, "detnas", sometimes_fails)
    failed = [line for line in content(path) if "error" in line]
    assert failed and all(line["ops"][0] == 2 and "metrics" not in line for line in failed)
    again, _ = run(path, "detnas", sometimes_fails)
    assert again.evaluated == []


@ALL
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_fitness_that_is_no_finite_number_is_a_failure(name, path, value):
    """Infinity would be everybody's parent, and NaN makes every comparison false."""
    _, models = run(path, name, lambda ops: value if ops[0] == 2 else likeness(ops))
    lines = content(path)
    assert len(lines) == BUDGET
    for line, model in zip(lines, models, strict=True):
        if line["ops"][0] == 2:
            assert line["error"] == f"the fitness is {value}, not a finite number"
            assert "metrics" not in line and model.metric is None
        else:
            assert model.metric == line["metrics"]["default"] == likeness(model.ops)
    assert any("error" in line for line in lines)
    assert all(math.isfinite(best.fitness) for best in Journal(path).best(BUDGET))
    assert not {"NaN", "Infinity"} & set(path.read_text().replace(",", " ").replace("}", " ").split())


def test_the_seconds_of_an_evaluation_are_its_wall_time_where_it_does_not_say(path):
    run(path, "random", likeness)
    assert all(0 <= evaluation.seconds < 5 for evaluation in Journal(path).evaluations)


def test_the_inner_engine_hears_no_more_of_a_journal_that_was_shut_down(path):
    inner = SequentialExecutionEngine(continue_on_failure=True)
    JournaledEngine(inner, Journal(path), feasible_set().table, "tiny").shutdown()
    strategy("random", evaluations=20)(candidate_space("tiny", FormulaEvaluator(likeness)), inner)
    assert not path.exists()
