"""The tuner behind NNI's own dispatcher, in the orders of messages that occur."""

import json
import sys
import time

import pytest
from manager import Manager
from searching import BLOCKS, STRATEGIES, likeness, proposals, search

from detnas_nni.architecture import Architecture
from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.search import tuner as tuner_module
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.outcome import Outcome, save_outcome
from detnas_nni.search.session import SearchSession
from detnas_nni.search.strategies import build_strategy
from detnas_nni.search.tuner import DetNASTuner
from search_spaces import search_space_json

# The small experiment searches four candidates in each of two generations.
BUDGET = 8

ALL = pytest.mark.parametrize("strategy", STRATEGIES)


@pytest.fixture
def config_file(trained_run, write_config):
    return write_config(trained_run.parent / "detnas.yaml", run_dir=str(trained_run))


@pytest.fixture
def tuner(config_file):
    return DetNASTuner(str(config_file))


@pytest.fixture
def impatient(monkeypatch):
    """Unanswered requests do not wait a second for the strategy."""
    monkeypatch.setattr(tuner_module, "_PATIENCE", 0.05)


def ops_of(trial) -> tuple[int, ...]:
    return Architecture.from_choices("tiny", trial.choices).ops


def metrics_of(trial) -> dict[str, float]:
    return {"default": likeness(ops_of(trial)), "AP50": 0.5}


def journal_of(tuner) -> Journal:
    return Journal(journal_path(tuner.config.search_dir))


def evaluated_as_proposed(journal) -> bool:
    return all(e.fitness == likeness(e.ops) for e in journal.evaluations if e.metrics is not None)


def wait_for(condition) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def run_one_by_one(manager, budget=BUDGET):
    """As with trialConcurrency 1; gives the trials in their order."""
    trials = []
    for _ in range(budget):
        manager.request(1)
        trials.append(manager.proposed())
        manager.report(trials[-1], metrics_of(trials[-1]))
        manager.end(trials[-1])
    return trials


def run_two_at_a_time(manager, finish, last_first=False):
    """As with trialConcurrency 2: a trial that ends makes room for another. `finish` ends one trial."""
    manager.request(2)
    running = [manager.proposed(), manager.proposed()]
    for _ in range(BUDGET):
        # Between two generations the tuner has said "no more" and proposes when the last trial has ended.
        running = running or [manager.proposed()]
        finish(running.pop(-1 if last_first else 0))
        manager.request(1)
        running += [trial for trial in [manager.answer()] if trial is not None]


# A search through the dispatcher.


def test_a_search_runs_to_its_end_and_writes_its_result(tuner):
    best = tuner.config.search_dir / "best_architecture.json"
    with Manager(tuner) as manager:
        manager.start()
        trials = run_one_by_one(manager)
        manager.request(1)
        assert manager.answer() is None
        assert wait_for(best.exists)
    journal = journal_of(tuner)
    assert [e.ops for e in journal.evaluations] == [ops_of(trial) for trial in trials]
    assert evaluated_as_proposed(journal)
    assert json.loads(best.read_text())["metrics"]["default"] == journal.best()[0].fitness


def test_a_trial_gets_one_flat_parameter_a_block(tuner):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        choices = manager.proposed().choices
    assert list(choices) == [f"layer_{block:02}" for block in range(BLOCKS)]
    space = search_space_json("tiny")
    assert all(choice in space[label]["_value"] for label, choice in choices.items())


@ALL
def test_at_concurrency_1_it_proposes_what_a_search_in_process_proposes(config_file, strategy):
    tuner = DetNASTuner(str(config_file), overrides=[f"search.strategy={strategy}"])
    session = SearchSession(tuner.config)
    expected = proposals(search(build_strategy(tuner.config, session.feasible)))
    with Manager(tuner) as manager:
        manager.start()
        assert [ops_of(trial) for trial in run_one_by_one(manager)] == expected


@ALL
@pytest.mark.parametrize("order", ["metric first", "end first", "last trial first"])
def test_every_result_goes_to_its_own_candidate_in_any_order(config_file, impatient, strategy, order):
    tuner = DetNASTuner(str(config_file), overrides=[f"search.strategy={strategy}"])
    with Manager(tuner) as manager:

        def finish(trial):
            if order == "end first":
                manager.end(trial)
                manager.report(trial, metrics_of(trial))
            else:
                manager.report(trial, metrics_of(trial))
                manager.end(trial)

        manager.start()
        run_two_at_a_time(manager, finish, last_first=order == "last trial first")
        assert wait_for((tuner.config.search_dir / "best_architecture.json").exists)
    journal = journal_of(tuner)
    assert len(journal) == len({e.ops for e in journal.evaluations}) == BUDGET
    assert evaluated_as_proposed(journal)
    assert len({e.fitness for e in journal.evaluations}) > 2


def test_more_requests_than_candidates_are_answered_when_the_next_generation_comes(tuner, impatient):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(6)
        first = [manager.proposed() for _ in range(4)]
        assert manager.answer() is None
        for trial in first[:3]:
            manager.report(trial, metrics_of(trial))
        assert manager.is_silent()
        manager.report(first[3], metrics_of(first[3]))
        second = [manager.proposed() for _ in range(2)]
        assert manager.is_silent()
    assert not {ops_of(trial) for trial in first} & {ops_of(trial) for trial in second}


def test_a_request_while_trials_run_does_not_hold_up_their_results(tuner):
    """NNI brings requests and results through one queue: an endless wait would be a deadlock."""
    with Manager(tuner) as manager:
        manager.start()
        manager.request(4)
        trials = [manager.proposed() for _ in range(4)]
        manager.request(1)
        for trial in trials:
            manager.report(trial, metrics_of(trial))
        assert manager.proposed().id > trials[-1].id


# Failures.


def test_a_trial_that_fails_without_a_metric_is_a_failed_candidate(tuner):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        failed, fine = manager.proposed(), manager.proposed()
        manager.end(failed, "FAILED")
        manager.report(fine, metrics_of(fine))
        assert wait_for(lambda: len(journal_of(tuner)) == 2)
    assert journal_of(tuner).find(ops_of(failed)).error == "the trial ended without a result"
    assert journal_of(tuner).find(ops_of(fine)).fitness == likeness(ops_of(fine))


def test_a_failed_trials_own_word_on_the_reason_is_kept(tuner):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        failed = manager.proposed()
        outcome = Outcome(error="RuntimeError: CUDA out of memory")
        save_outcome(tuner.config.search_dir, Architecture("tiny", ops_of(failed)), outcome)
        manager.end(failed, "FAILED")
        assert wait_for(lambda: len(journal_of(tuner)) == 1)
    assert journal_of(tuner).evaluations[0].error == "RuntimeError: CUDA out of memory"


def test_what_a_trial_says_that_it_evaluated_is_credited_and_not_what_nni_believes(tuner):
    """NNI 3.0 may hand a trial another one's parameters: the metric that it passes on is then another's."""
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        trials = [manager.proposed(), manager.proposed()]
        for trial in trials:
            outcome = Outcome(metrics=metrics_of(trial))
            save_outcome(tuner.config.search_dir, Architecture("tiny", ops_of(trial)), outcome)
        for trial, other in zip(trials, reversed(trials), strict=True):
            manager.report(trial, metrics_of(other))
            manager.end(trial)
        assert wait_for(lambda: len(journal_of(tuner)) == 2)
    assert evaluated_as_proposed(journal_of(tuner))


def test_a_trial_that_ends_well_and_never_reports_is_not_waited_for_forever(tuner, monkeypatch):
    monkeypatch.setattr(tuner_module, "_GRACE", 0.1)
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        manager.end(manager.proposed(), "SUCCEEDED")
        assert wait_for(lambda: len(journal_of(tuner)) == 1)
    assert journal_of(tuner).evaluations[0].error == "the trial ended without a result"


def test_a_metric_that_is_no_finite_number_is_a_failed_candidate(tuner):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        trial = manager.proposed()
        manager.report(trial, {"default": float("nan")})
        manager.end(trial)
        assert wait_for(lambda: len(journal_of(tuner)) == 1)
    assert journal_of(tuner).evaluations[0].error == "the fitness is nan, not a finite number"


def test_a_second_word_on_a_trial_changes_nothing(tuner):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        trial = manager.proposed()
        manager.report(trial, metrics_of(trial))
        manager.report(trial, {"default": 0.99})
        manager.end(trial, "FAILED")
        manager.request(1)
        manager.proposed()  # all of the above has been dealt with
    assert [e.fitness for e in journal_of(tuner).evaluations] == [likeness(ops_of(trial))]


def test_a_search_in_which_every_trial_fails_ends_the_experiment_with_an_error(tuner):
    with Manager(tuner) as manager:
        manager.start()
        for _ in range(BUDGET):
            manager.request(1)
            manager.end(manager.proposed(), "FAILED")
        assert "no candidate could be evaluated; the first: the trial ended without" in manager.error()


# Beginning, going on, ending.


def test_a_search_that_was_stopped_goes_on_with_the_candidates_that_it_lacks(config_file):
    first = DetNASTuner(str(config_file))
    with Manager(first) as manager:
        manager.start()
        done = run_one_by_one(manager, budget=5)
        assert wait_for(lambda: len(journal_of(first)) == 5)
        manager.request(1)
        interrupted = manager.proposed()
    again = DetNASTuner(str(config_file))
    with Manager(again) as manager:
        manager.start()
        rest = run_one_by_one(manager, budget=3)
        assert wait_for((again.config.search_dir / "best_architecture.json").exists)
    assert ops_of(rest[0]) == ops_of(interrupted)
    assert [e.ops for e in journal_of(again).evaluations] == [ops_of(trial) for trial in [*done, *rest]]


def test_a_stop_ends_the_strategys_thread_and_writes_nothing_of_running_trials(tuner):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        manager.proposed(), manager.proposed()
    tuner._thread.join(5)
    assert not tuner._thread.is_alive()
    assert len(journal_of(tuner)) == 0


def test_a_search_space_file_of_another_space_ends_the_experiment_with_an_error(tuner):
    with Manager(tuner) as manager:
        manager.start(space="small")
        manager.request(2)
        assert "searchSpaceFile does not hold the space 'tiny'" in manager.error()
        assert manager.answer() is None
    assert not tuner._thread.is_alive()


def test_a_search_that_failed_for_good_says_so_again_when_it_is_resumed(config_file, impatient):
    """The journal answers for every candidate before NNI has asked for the first."""
    for _ in range(2):
        tuner = DetNASTuner(str(config_file), overrides=["search.generations=1"])
        with Manager(tuner) as manager:
            manager.start()
            if len(journal_of(tuner)) == 0:
                for _ in range(4):
                    manager.request(1)
                    manager.end(manager.proposed(), "FAILED")
            else:
                tuner._thread.join(10)
                manager.request(1)
            assert "no candidate could be evaluated" in manager.error()


def test_a_config_is_found_in_the_code_directory(config_file, monkeypatch, tmp_path):
    """NNI starts a tuner in its log folder, and appends codeDirectory to sys.path."""
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr(sys, "path", [*sys.path, str(config_file.parent)])
    assert DetNASTuner("detnas.yaml").config.space.name == "tiny"
    with pytest.raises(ConfigError, match=r"other\.yaml: not found in codeDirectory"):
        DetNASTuner("other.yaml")


def test_overrides_are_those_of_the_command_line(config_file):
    tuner = DetNASTuner(str(config_file), overrides=["search.population=6", "search.name=six"])
    assert (tuner.config.search.population, tuner.config.search_dir.name) == (6, "six")


def test_a_supernet_of_another_detector_is_found_before_any_trial(config_file):
    with pytest.raises(CheckpointError, match="kind is 'faster_rcnn'"):
        DetNASTuner(str(config_file), overrides=["detector.name=retinanet"])


def test_a_hand_full_of_trials_that_nobody_proposed_is_ignored(tuner):
    """Such as those that a user adds in the web UI."""
    tuner.receive_trial_result(12345, {}, {"default": 0.9})
    tuner.trial_end(12345, success=False)
    assert len(journal_of(tuner)) == 0
