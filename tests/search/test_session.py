"""A whole search in this process: its folder, its journal, its result, and what it refuses to mix up."""

import json
import logging
import os
import shutil

import pytest
from nni.nas.execution import SequentialExecutionEngine

from detnas_nni.architecture import Architecture
from detnas_nni.errors import CheckpointError, ConstraintError, EvaluationError, UsageError
from detnas_nni.search.journal import Journal, JournalError, journal_path
from detnas_nni.search.lock import SearchRunsError
from detnas_nni.search.outcomes import Outcome, OutcomeFiles
from detnas_nni.search.session import SearchSession, search_in_process
from detnas_nni.supernet.steps import finetune, pretrain
from tests.search.searching import BLOCKS, FormulaEvaluator, likeness, limit_for


def run(config, fitness=likeness, **options):
    """The session's search on a formula; gives the architectures that were evaluated, in their order."""
    evaluator = FormulaEvaluator(fitness)
    with SearchSession(config, **options) as session:
        session.run(SequentialExecutionEngine(continue_on_failure=True), evaluator)
    return evaluator.evaluated


def journal_of(config) -> Journal:
    return Journal(journal_path(config.search_dir))


@pytest.fixture
def config(trained_run, make_config):
    return make_config(trained_run)


def test_a_search_leaves_its_journal_and_the_best_architecture(config):
    path = search_in_process(config)
    assert path == config.search_dir / "best_architecture.json"
    journal = journal_of(config)
    assert len(journal) == 8
    best = json.loads(path.read_text())
    fitnesses = [evaluation.fitness for evaluation in journal.evaluations]
    assert best["metrics"]["default"] == max(fitnesses)
    assert {"AP50", "APs", "MACs_M", "params_M", "seconds"} <= set(best["metrics"])


def test_the_same_config_and_seed_give_the_same_search_twice(config):
    def without_clocks():
        return [(e.ops, e.origin, {**e.metrics, "seconds": 0}) for e in journal_of(config).evaluations]

    search_in_process(config)
    first = without_clocks()
    search_in_process(config, fresh=True)
    assert without_clocks() == first


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_decoded_images_change_no_result_and_are_gone_when_the_search_has_ended(
    task, trained_run, make_config, caplog
):
    def searched(name, gigabytes):
        sections = {"search": {"name": name}, "hardware": {"keep_decoded_gb": gigabytes}}
        config = make_config(trained_run, evaluation={"task": task}, **sections)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            search_in_process(config)
        assert ("images decoded for all candidates" in caplog.text) == (gigabytes > 0)
        assert not (config.search_dir / "decoded").exists()
        evaluations = Journal(journal_path(config.search_dir)).evaluations
        return [(e.ops, {k: v for k, v in e.metrics.items() if k != "seconds"}) for e in evaluations]

    assert searched("kept", 1) == searched("decoded_each_time", 0)


def test_clsnas_searches_on_top_1_with_the_pretrained_supernet_alone(trained_run, make_config):
    shutil.rmtree(trained_run / "finetune")
    config = make_config(
        trained_run,
        evaluation={"task": "classification"},
        data={"detection": None},
        search={"name": "clsnas"},
    )
    best = json.loads(search_in_process(config).read_text())
    assert best["provenance"]["task"] == "classification"
    assert set(best["metrics"]) == {"default", "MACs_M", "params_M", "seconds"}
    assert config.search_dir.name == "clsnas" and len(journal_of(config)) == 8


def test_a_foreign_trunk_goes_all_the_way(foreign_trunks, make_config, tmp_path):
    """Pre-training, fine-tuning and search of a space that is named as package.module:factory."""
    config = make_config(
        tmp_path / "run",
        space={"name": "foreign:mobile", "options": {"width": 12}},
        pretrain={"steps": 2},
        finetune={"steps": 2, "milestones": [2]},
    )
    pretrain(config)
    finetune(config)
    best = json.loads(search_in_process(config).read_text())
    # It has six architectures, and the budget is eight.
    assert len(journal_of(config)) == 6
    assert best["space"] == "foreign:mobile"
    assert set(best["choices"]) == {"low", "high"}


# Going on.


def test_a_finished_search_evaluates_nothing_again_and_writes_its_result_again(config):
    run(config)
    result = config.search_dir / "best_architecture.json"
    written = result.read_text()
    result.unlink()
    assert run(config) == []
    assert result.read_text() == written


def test_a_killed_search_goes_on_where_it_stood(config, caplog):
    whole = run(config)
    path = journal_path(config.search_dir)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]) + b'{"id": 5')
    with caplog.at_level(logging.INFO):
        assert run(config) == whole[5:]
    assert "resuming after 5 evaluated candidates" in caplog.text
    assert len(journal_of(config)) == 8


def test_fresh_starts_over(config):
    first = run(config)
    (config.search_dir / "outcomes").mkdir(exist_ok=True)
    assert run(config, fresh=True) == first
    assert not (config.search_dir / "outcomes").exists()


def test_a_damaged_journal_is_an_error_before_anything_is_evaluated(config):
    run(config)
    path = journal_path(config.search_dir)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], lines[1][:40], *lines[2:]]) + b"\n")
    with pytest.raises(JournalError, match=r"search/journal\.jsonl: line 2 is damaged"):
        SearchSession(config)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"search": {"mutation_probability": 0.3}},
        {"search": {"around": [0] * BLOCKS}},
        {"search": {"constraint": {"max_macs": limit_for(1000)}}},
        {"evaluation": {"calibration_images": 12}},
    ],
    ids=str,
)
def test_a_folder_with_another_search_is_not_gone_on_with(config, trained_run, make_config, change):
    run(config)
    before = journal_path(config.search_dir).read_bytes()
    with pytest.raises(CheckpointError, match=r"run/search: holds a search with another config .*--fresh"):
        SearchSession(make_config(trained_run, **change))
    assert journal_path(config.search_dir).read_bytes() == before


def test_a_search_under_a_name_of_its_own_stands_beside_it(config, trained_run, make_config):
    run(config)
    named = make_config(trained_run, search={"name": "random", "strategy": "random"})
    assert len(run(named)) == 8
    assert len(journal_of(config)) == len(journal_of(named)) == 8


def test_hardware_may_change_between_two_parts_of_a_search(config, trained_run, make_config):
    run(config)
    assert run(make_config(trained_run, hardware={"threads": 2})) == []


def test_a_folder_with_a_search_of_another_supernet_is_not_gone_on_with(config):
    run(config)
    with (config.run_dir / "finetune" / "supernet.pt").open("ab") as file:
        file.write(b"another")
    with pytest.raises(CheckpointError, match=r"holds a search with another supernet \([0-9a-f]+, now"):
        SearchSession(config)


def test_a_search_may_be_prolonged(config, trained_run, make_config):
    first = run(config)
    longer = make_config(trained_run, search={"generations": 3})
    rest = run(longer)
    assert len(rest) == 4 and [e.ops for e in journal_of(longer).evaluations] == first + rest
    assert first + rest == run(make_config(trained_run, search={"generations": 3}), fresh=True)


@pytest.mark.parametrize(
    "change", [{"retries": 5}, {"max_failed_share": 0.1}, {"max_trial_seconds": 60}], ids=str
)
def test_how_patient_a_search_is_with_failures_may_change(config, trained_run, make_config, change):
    run(config)
    assert run(make_config(trained_run, search=change)) == []


def test_a_result_that_a_trial_of_nnictl_left_is_taken_up_by_the_search_in_process(config):
    """The tuner was killed after the trial had ended, and before it wrote into the journal."""
    whole = run(config)
    path = journal_path(config.search_dir)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    with SearchSession(config) as session:
        session.outcomes.finish(whole[3], Outcome({"default": likeness(whole[3])}))
        OutcomeFiles(session.folder, session.identity | {"supernet": "another"}).finish(
            whole[4], Outcome({"default": 0.99})
        )
    assert run(config) == whole[4:]
    assert [(e.ops, e.fitness) for e in journal_of(config).evaluations] == [
        (ops, likeness(ops)) for ops in whole
    ]


# One search a folder.


def test_a_second_search_in_a_folder_is_refused_and_told_who_has_it(config):
    with SearchSession(config):
        found = (
            rf"run/search: process {os.getpid()} on \S+ \(`detnas search`\) since .* searches here already"
        )
        with pytest.raises(SearchRunsError, match=found + r".*`detnas stop`.*search\.name"):
            SearchSession(config, fresh=True)
        assert (config.search_dir / "search.json").exists()
    assert len(run(config)) == 8


def test_a_search_that_could_not_start_leaves_the_folder_to_others(config, trained_run, make_config):
    run(config)
    with pytest.raises(CheckpointError):
        SearchSession(make_config(trained_run, seed=1))
    assert run(config) == []


# What it refuses.


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", ["finetune", "pretrain"])
def test_a_search_named_like_another_folder_of_the_run_leaves_it_alone(trained_run, make_config, name, fresh):
    before = sorted(trained_run.rglob("*"))
    with pytest.raises(UsageError, match=rf"run/{name}: exists but holds no search; .*search\.name"):
        SearchSession(make_config(trained_run, search={"name": name}), fresh=fresh)
    assert sorted(trained_run.rglob("*")) == before


def test_fresh_clears_nothing_if_the_supernet_does_not_fit(config, trained_run, make_config):
    run(config)
    with pytest.raises(CheckpointError, match="kind is 'faster_rcnn'"):
        SearchSession(make_config(trained_run, detector={"name": "retinanet"}), fresh=True)
    assert len(journal_of(config)) == 8


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"max_macs": limit_for(1) - 1}, rf"meets MACs <= [\d,]+: the lowest MACs are {limit_for(1):,} "),
        ({"max_params": 1000}, r"meets parameters <= 1,000: .* the lowest parameters [\d,]+"),
        ({"max_macs": 5, "max_params": 7}, r"MACs <= 5 and parameters <= 7"),
    ],
)
def test_a_constraint_that_no_architecture_meets_names_the_limit(
    trained_run, make_config, constraint, message
):
    config = make_config(trained_run, search={"constraint": constraint})
    with pytest.raises(ConstraintError, match=message):
        search_in_process(config)
    assert not config.search_dir.exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_in_a_fixed_net_there_is_nothing_to_search(trained_run, make_config, fresh):
    before = sorted(trained_run.rglob("*"))
    with pytest.raises(UsageError, match=r"space\.name is resnet50, .* nothing to search; `detnas retrain"):
        SearchSession(make_config(trained_run, space={"name": "resnet50"}), fresh=fresh)
    assert sorted(trained_run.rglob("*")) == before


@pytest.mark.parametrize(("task", "step"), [("detection", "finetune"), ("classification", "pretrain")])
def test_without_a_supernet_it_says_which_step_comes_first(make_config, tmp_path, task, step):
    config = make_config(tmp_path / "run", evaluation={"task": task})
    with pytest.raises(CheckpointError, match=rf"{step}/supernet\.pt: .*run `detnas {step}` first"):
        SearchSession(config)


def fails(ops):
    raise RuntimeError("CUDA out of memory")


def test_a_search_in_which_every_candidate_fails_tells_what_they_have_in_common(config):
    evaluator = FormulaEvaluator(fails)
    common = (
        r"journal\.jsonl: 8 of 8 candidates have failed, .*; 8 of them with: RuntimeError: CUDA out of mem"
    )
    with SearchSession(config) as session, pytest.raises(EvaluationError, match=common):
        session.run(SequentialExecutionEngine(continue_on_failure=True), evaluator)
    assert [evaluation.tries for evaluation in journal_of(config).evaluations] == [2] * 8
    assert not (config.search_dir / "best_architecture.json").exists()


def test_where_all_may_fail_the_search_still_needs_one_that_did_not(trained_run, make_config):
    config = make_config(trained_run, search={"max_failed_share": 1, "retries": 0})
    with SearchSession(config) as session, pytest.raises(EvaluationError, match="no candidate could be eval"):
        session.run(SequentialExecutionEngine(continue_on_failure=True), FormulaEvaluator(fails))
    assert [evaluation.tries for evaluation in journal_of(config).evaluations] == [1] * 8


def test_the_best_architecture_is_one_that_keeps_the_constraint(trained_run, make_config):
    limit = limit_for(100)
    config = make_config(trained_run, search={"constraint": {"max_macs": limit}})
    run(config, fitness=lambda ops: sum(ops) / 100)
    best = json.loads((config.search_dir / "best_architecture.json").read_text())
    assert best["cost"]["macs"] <= limit
    assert Architecture.from_dict(best).ops == tuple(best["ops"])
