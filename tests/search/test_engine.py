"""The journal between strategy and engine: a search that is started again stands where it stood."""

import errno
import json
import math
import time
from collections import Counter
from dataclasses import replace

import pytest
from nni.nas.execution import SequentialExecutionEngine

from detnas_nni.errors import DataError
from detnas_nni.search.engine import JournaledEngine
from detnas_nni.search.journal import Journal
from detnas_nni.search.outcomes import FailurePolicy, Outcome
from detnas_nni.search.space import candidate_space
from tests.search.searching import STRATEGIES, FormulaEvaluator, feasible_set, likeness, strategy

ALL = pytest.mark.parametrize("name", STRATEGIES)
BUDGET = 40
ONCE = FailurePolicy(retries=0, max_failed_share=1.0, evaluations=BUDGET)


def sometimes_fails(ops):
    if ops[0] == 2:
        raise MemoryError("out of memory\nsecond line")
    return likeness(ops)


def engine_over(path, **options):
    inner = SequentialExecutionEngine(continue_on_failure=True)
    return JournaledEngine(inner, Journal(path), feasible_set().table, "tiny", **({"policy": ONCE} | options))


def run(path, name, fitness=likeness, **options):
    """Search over the journal at `path`; gives the evaluator and the strategy's models."""
    evaluator, engine = FormulaEvaluator(fitness), engine_over(path, **options)
    strategy(name, evaluations=BUDGET)(candidate_space("tiny", evaluator), engine)
    engine.wait_models()
    return evaluator, list(engine.list_models())


def stopped(path, name, fitness, **options):
    """A search that does not come to its end; gives the evaluator and the reason."""
    evaluator, engine = FormulaEvaluator(fitness), engine_over(path, **options)
    strategy(name, evaluations=BUDGET)(candidate_space("tiny", evaluator), engine)
    engine.wait_models()  # it does not wait for what will never be evaluated
    assert not engine.budget_available()
    return evaluator, str(engine.error)


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
    def slow(ops):
        time.sleep(0.01)
        return likeness(ops)

    began = time.monotonic()
    run(path, "random", slow)
    took = time.monotonic() - began
    seconds = [evaluation.seconds for evaluation in Journal(path).evaluations]
    assert len(seconds) == BUDGET and min(seconds) >= 0.01 and sum(seconds) <= took


def test_the_inner_engine_hears_no_more_of_a_journal_that_was_shut_down(path):
    engine = engine_over(path)
    engine.shutdown()
    strategy("random", evaluations=20)(candidate_space("tiny", FormulaEvaluator(likeness)), engine.engine)
    assert not path.exists()


# What was evaluated and did not come into the journal.


@ALL
def test_a_result_that_the_killed_search_did_not_write_down_is_taken_up_in_its_place(name, path, tmp_path):
    whole, models = run(tmp_path / "whole.jsonl", name)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9]))
    left = {
        ops: Outcome({"default": likeness(ops), "double": 2 * likeness(ops)}) for ops in whole.evaluated[9:12]
    }
    again, replayed = run(path, name, outcome=left.get)
    assert again.evaluated == whole.evaluated[12:]
    assert content(path) == content(tmp_path / "whole.jsonl")
    assert [(m.ops, m.metric) for m in replayed] == [(m.ops, m.metric) for m in models]


# Failures.


class Flaky:
    """Fails so many times for each candidate with op 2 in front, then evaluates it."""

    def __init__(self, times, error=None):
        self.calls = Counter()
        self._times, self._error = times, error or RuntimeError("CUDA out of memory")

    def __call__(self, ops):
        self.calls[ops] += 1
        if ops[0] == 2 and self.calls[ops] <= self._times:
            raise self._error
        return likeness(ops)


@ALL
@pytest.mark.parametrize("retries", [1, 3])
def test_a_candidate_that_fails_and_then_does_not_leaves_the_search_as_it_would_have_been(
    name, path, tmp_path, retries
):
    undisturbed, _ = run(tmp_path / "undisturbed.jsonl", name)
    flaky = Flaky(times=retries)
    evaluator, models = run(path, name, flaky, policy=replace(ONCE, retries=retries))
    assert list(dict.fromkeys(evaluator.evaluated)) == undisturbed.evaluated
    tries = [line.pop("tries") for line in content(path)]
    assert tries == [1 + retries if model.ops[0] == 2 else 1 for model in models]
    assert 1 + retries in tries

    def without_tries(path):
        return [{**line, "tries": None} for line in content(path)]

    assert without_tries(path) == without_tries(tmp_path / "undisturbed.jsonl")


@ALL
def test_a_candidate_that_keeps_failing_is_skipped_after_its_last_try(name, path):
    flaky = Flaky(times=99)
    _, models = run(path, name, flaky, policy=replace(ONCE, retries=2))
    failed = [line for line in content(path) if "error" in line]
    assert failed and len(content(path)) == BUDGET
    for line in failed:
        assert line["tries"] == flaky.calls[tuple(line["ops"])] == 3
        assert line["error"].startswith("RuntimeError: CUDA out of memory (test_engine.py, line ")
    assert [m.ops for m in models if m.metric is None] == [tuple(line["ops"]) for line in failed]


@ALL
@pytest.mark.parametrize(
    "error",
    [DataError("train.json: cannot be read"), OSError(errno.ENOSPC, "No space left on device")],
    ids=["data", "disk"],
)
def test_what_no_candidate_is_to_blame_for_stops_the_search_and_is_charged_to_none(name, path, error):
    flaky = Flaky(times=99, error=error)
    evaluator, reason = stopped(path, name, flaky, policy=replace(ONCE, retries=1))
    lines = content(path)
    assert all("metrics" in line for line in lines)
    assert str(error) in reason and "any candidate would meet it" in reason
    assert f"resumes after the {len(lines)} evaluations" in reason
    assert flaky.calls[evaluator.evaluated[-1]] == 2
    # Mended, it goes on to the same end.
    whole, _ = run(path.with_name("whole.jsonl"), name)
    again, _ = run(path, name)
    assert again.evaluated == whole.evaluated[len(lines) :]
    assert content(path) == content(path.with_name("whole.jsonl"))


@ALL
def test_a_search_ends_when_too_many_have_failed_and_says_what_they_have_in_common(name, path):
    calls = Counter()

    def fails_mostly(ops):
        calls["all"] += 1
        if calls["all"] % 4 == 0:
            return likeness(ops)
        raise RuntimeError(f"CUDA out of memory: tried to allocate {calls['all']} MiB")

    _, reason = stopped(path, name, fails_mostly, policy=replace(ONCE, max_failed_share=0.5))
    # Fewer than ten say nothing.
    assert len(content(path)) == 10
    assert "8 of 10 candidates have failed, more than search.max_failed_share (0.5) allows" in reason
    assert "8 of them with: RuntimeError: CUDA out of memory: tried to allocate 1 MiB" in reason


def test_a_journal_that_cannot_be_written_stops_the_search(path):
    def disk_is_gone(ops):
        if len(Journal(path)) == 5:
            path.chmod(0o400)
            path.unlink()
            path.mkdir()
        return likeness(ops)

    evaluator, reason = stopped(path, "detnas", disk_is_gone)
    assert "journal.jsonl: cannot be written (Is a directory); the 5 evaluations in it are intact" in reason
    assert len(evaluator.evaluated) == 6
