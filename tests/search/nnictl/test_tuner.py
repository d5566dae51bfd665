"""The tuner behind NNI's own dispatcher, in the orders of messages that occur."""

import json
import subprocess
import sys
import time

import pytest

from detnas_nni.config.reading import load_config
from detnas_nni.search.lock import read_owner
from detnas_nni.search.nnictl import engine as trials_module
from detnas_nni.search.nnictl import watch as watch_module
from detnas_nni.search.nnictl.files import TrialFiles
from detnas_nni.search.nnictl.tuner import DetNASTuner
from detnas_nni.search.outcomes import NO_RESULT, Failure, Outcome
from detnas_nni.search.session import SearchSession
from detnas_nni.search.strategies import build_strategy
from search_spaces import search_space_json
from tests.search.nnictl.manager import Manager
from tests.search.nnictl.tuning import (
    Trials,
    best_of,
    evaluated_as_proposed,
    journal_of,
    metrics_of,
    ops_of,
    wait_for,
)
from tests.search.searching import BLOCKS, STRATEGIES, likeness, proposals, search

# The small experiment searches four candidates in each of two generations.
BUDGET = 8

ALL = pytest.mark.parametrize("strategy", STRATEGIES)


@pytest.fixture
def config_file(trained_run, write_config):
    return write_config(trained_run.parent / "detnas.yaml", run_dir=str(trained_run), search={"retries": 0})


@pytest.fixture
def config(config_file):
    return load_config(config_file)


@pytest.fixture
def tuner(config_file):
    return DetNASTuner(str(config_file))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nobody waits long for what does not come in these tests."""
    monkeypatch.setattr(trials_module, "_PATIENCE", 0.05)
    monkeypatch.setattr(watch_module, "_BETWEEN", 0.02)
    monkeypatch.setattr(watch_module, "_EVERY", 0.3)
    monkeypatch.setattr(watch_module, "_GRACE", 0.2)


@pytest.fixture
def trials(config):
    return Trials(config)


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


def test_a_metric_that_waits_in_nnis_queue_behind_a_request_is_not_missed(tuner, config, monkeypatch):
    monkeypatch.setattr(watch_module, "_GRACE", 3)
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        first, second = manager.proposed(), manager.proposed()
        # NNI's REST API already says of it that it has ended well.
        manager.statuses[first.job] = "SUCCEEDED"
        manager.request(1)
        for trial in (first, second):
            manager.report(trial, metrics_of(trial))
            manager.end(trial)
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert [e.error for e in journal_of(config).evaluations] == [None, None]


def test_a_search_runs_to_its_end_and_writes_its_result(tuner, config):
    with Manager(tuner) as manager:
        manager.start()
        trials = run_one_by_one(manager)
        manager.request(1)
        assert manager.answer() is None
        assert wait_for(best_of(config).exists)
    journal = journal_of(config)
    assert [e.ops for e in journal.evaluations] == [ops_of(trial) for trial in trials]
    assert evaluated_as_proposed(journal)
    assert json.loads(best_of(config).read_text())["metrics"]["default"] == journal.best()[0].fitness


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
    override = f"search.strategy={strategy}"
    config = load_config(config_file, [override])
    with SearchSession(config, fresh=True) as session:
        expected = proposals(search(build_strategy(config, session.feasible)))
    with Manager(DetNASTuner(str(config_file), overrides=[override])) as manager:
        manager.start()
        assert [ops_of(trial) for trial in run_one_by_one(manager)] == expected


@ALL
@pytest.mark.parametrize("order", ["metric first", "end first", "last trial first"])
def test_every_result_goes_to_its_own_candidate_in_any_order(config_file, config, strategy, order):
    with Manager(DetNASTuner(str(config_file), overrides=[f"search.strategy={strategy}"])) as manager:

        def finish(trial):
            if order == "end first":
                manager.end(trial)
                manager.report(trial, metrics_of(trial))
            else:
                manager.report(trial, metrics_of(trial))
                manager.end(trial)

        manager.start()
        run_two_at_a_time(manager, finish, last_first=order == "last trial first")
        assert wait_for(best_of(config).exists)
    journal = journal_of(config)
    assert len(journal) == len({e.ops for e in journal.evaluations}) == BUDGET
    assert evaluated_as_proposed(journal)
    assert len({e.fitness for e in journal.evaluations}) > 2


def test_more_requests_than_candidates_are_answered_when_the_next_generation_comes(tuner):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(6)
        first = [manager.proposed() for _ in range(4)]
        assert manager.answer() is None
        for trial in first[:3]:
            manager.report(trial, metrics_of(trial))
        assert manager.is_silent(0.6)
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


# The right result for the right architecture.


def test_each_trial_finds_its_proposal_under_its_own_id(tuner, trials):
    """On another machine than the manager's it cannot ask for it."""
    with Manager(tuner) as manager:
        manager.start()
        manager.request(3)
        proposed = [manager.proposed() for _ in range(3)]
        assert wait_for(lambda: all(trials.files.proposal(trial.job) for trial in proposed))
        for trial in proposed:
            record = trials.files.proposal(trial.job)
            assert (record["parameter_id"], record["parameters"]) == (trial.id, trial.choices)


def test_what_a_trial_says_that_it_evaluated_is_credited_and_not_what_nni_believes(tuner, config, trials):
    """NNI 3.0 may hand a trial another one's parameters, and pass its metric on beside its own."""
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        pair = [manager.proposed(), manager.proposed()]
        for trial, other in zip(pair, reversed(pair), strict=True):
            trials.finish(trial, of=other)
            manager.report(trial, {"default": -1.0})
            manager.end(trial)
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert evaluated_as_proposed(journal_of(config))


@pytest.mark.parametrize("shared", [True, False], ids=["a folder in common", "none"])
def test_the_end_of_one_of_a_swapped_pair_does_not_fail_what_the_other_evaluates(
    tuner, config, trials, shared
):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        first, second = manager.proposed(), manager.proposed()
        if shared:
            trials.take(second, of=first)
            trials.finish(first, of=second)
        # The metric carries the id of the parameters that the trial was handed.
        manager.report(second, metrics_of(second), by=first)
        manager.end(first)
        assert wait_for(lambda: len(journal_of(config)) == 1)
        time.sleep(0.6)  # longer than a lost candidate is waited for
        assert [e.ops for e in journal_of(config).evaluations] == [ops_of(second)]
        if shared:
            trials.finish(second, of=first)
        manager.report(first, metrics_of(first), by=second)
        manager.end(second)
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert journal_of(config).find(ops_of(first)).fitness == likeness(ops_of(first))
    assert evaluated_as_proposed(journal_of(config))


def test_a_candidate_that_its_trial_gave_up_is_no_failure_and_is_not_tried_again(config_file, config, trials):
    """The trial ends well and reports no metric; what it found stands in the folder."""
    tuner = DetNASTuner(str(config_file), overrides=["search.retries=3"])
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        first = manager.proposed()
        trials.take(first)
        trials.files.finish(ops_of(first), Outcome(parts=(0.125, 0.25), stopped=True))
        manager.end(first)
        manager.request(1)
        assert ops_of(manager.proposed()) != ops_of(first)
        assert wait_for(lambda: len(journal_of(config)) == 1)
    [given_up] = journal_of(config).evaluations
    assert given_up.ops == ops_of(first) and given_up.stopped and given_up.parts == (0.125, 0.25)
    assert (given_up.metrics, given_up.error, given_up.tries) == (None, None, 1)


@pytest.mark.parametrize("status", ["EARLY_STOPPED", "USER_CANCELED"])
def test_a_candidate_whose_trial_was_told_to_end_is_given_up_too(config_file, config, trials, status):
    """By an assessor of NNI's, or by a user in the web UI: it leaves no outcome."""
    tuner = DetNASTuner(str(config_file), overrides=["search.retries=3"])
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        first = manager.proposed()
        trials.take(first, interrupted=True)
        manager.intermediate[first.job] = [0.0625, 0.125]
        manager.end(first, status)
        manager.request(1)
        assert ops_of(manager.proposed()) != ops_of(first)
        assert wait_for(lambda: len(journal_of(config)) == 1)
    [given_up] = journal_of(config).evaluations
    assert given_up.stopped and given_up.parts == (0.0625, 0.125) and given_up.error is None


def test_a_trial_that_is_killed_is_charged_to_what_it_had_taken(tuner, config, trials):
    """The first had the second's candidate when it was killed; the second's goes on."""
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        first, second = manager.proposed(), manager.proposed()
        trials.take(first, of=second)
        trials.take(second, of=first)
        manager.end(first, "FAILED")
        assert wait_for(lambda: len(journal_of(config)) == 1)
        trials.finish(second, of=first)
        manager.end(second)
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert journal_of(config).find(ops_of(second)).error == NO_RESULT
    assert journal_of(config).find(ops_of(first)).fitness == likeness(ops_of(first))


def test_no_candidate_is_lost_when_a_trial_dies_before_it_asks_for_parameters(config_file, config, trials):
    """All behind it in NNI's queue get their neighbour's, and the trial for its second try the last one's."""
    tuner = DetNASTuner(str(config_file), overrides=["search.retries=3"])
    with Manager(tuner) as manager:
        manager.start()
        manager.request(4)
        first, second, third, fourth = (manager.proposed() for _ in range(4))
        manager.end(first, "FAILED")
        manager.request(1)
        again = manager.proposed()
        assert ops_of(again) == ops_of(first)
        for trial, handed in ((second, first), (third, second), (fourth, third), (again, fourth)):
            trials.finish(trial, of=handed)
            manager.end(trial)
        assert wait_for(lambda: len(journal_of(config)) == 4)
    assert {e.ops for e in journal_of(config).evaluations} == {
        ops_of(trial) for trial in (first, second, third, fourth)
    }
    assert evaluated_as_proposed(journal_of(config))


def test_a_candidate_that_is_left_when_no_trial_runs_any_more_is_proposed_again(config_file, config, trials):
    """As above, but nobody asks for the last one's parameters any more."""
    tuner = DetNASTuner(str(config_file), overrides=["search.retries=1"])
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        first, second = manager.proposed(), manager.proposed()
        trials.finish(first, of=second)
        manager.end(first)
        trials.finish(second, of=second)
        manager.end(second)
        manager.request(1)
        again = manager.proposed()
        assert ops_of(again) == ops_of(first)
        trials.finish(again)
        manager.end(again)
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert evaluated_as_proposed(journal_of(config))


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({"supernet": "0123"}, "computed with another supernet (0123) than this search's"),
        (
            {"config": "abcd"},
            "trialCommand's `-c` and `--set` and the tuner's classArgs have to name the same",
        ),
    ],
)
def test_a_trial_of_another_supernet_or_config_ends_the_experiment(tuner, config, trials, identity, message):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        trial = manager.proposed()
        trials.take(trial, **identity)
        manager.report(trial, metrics_of(trial))
        assert message in manager.error()
    assert len(journal_of(config)) == 0


# Failures.


def test_a_trial_that_ends_without_a_word_is_a_failed_candidate(tuner, config):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        failed, fine = manager.proposed(), manager.proposed()
        manager.report(fine, metrics_of(fine))
        manager.end(fine)
        manager.end(failed, "FAILED")
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert journal_of(config).find(ops_of(failed)).error == NO_RESULT
    assert journal_of(config).find(ops_of(fine)).fitness == likeness(ops_of(fine))


def test_a_failed_trials_own_word_on_the_reason_is_kept(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        failed = manager.proposed()
        trials.take(failed, error=Failure("RuntimeError: CUDA out of memory"))
        manager.end(failed, "FAILED")
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert journal_of(config).evaluations[0].error == "RuntimeError: CUDA out of memory"


@pytest.mark.parametrize("kind", ["failed", "killed"])
def test_a_candidate_is_tried_again_in_another_trial_before_it_has_failed(config_file, config, trials, kind):
    tuner = DetNASTuner(str(config_file), overrides=["search.retries=2"])
    with Manager(tuner) as manager:
        manager.start()
        tries = []
        for _ in range(3):
            manager.request(1)
            tries.append(manager.proposed())
            error = Failure(f"RuntimeError: number {len(tries)}") if kind == "failed" else None
            trials.take(tries[-1], error=error)
            manager.end(tries[-1], "FAILED")
        assert wait_for(lambda: len(journal_of(config)) == 1)
        manager.request(1)
        assert ops_of(manager.proposed()) != ops_of(tries[0])
    assert len({trial.job for trial in tries}) == 3 and len({ops_of(trial) for trial in tries}) == 1
    [failed] = journal_of(config).evaluations
    assert failed.tries == 3
    assert failed.error == ("RuntimeError: number 3" if kind == "failed" else NO_RESULT)


def test_a_second_try_that_succeeds_is_the_candidates_result(config_file, config, trials):
    tuner = DetNASTuner(str(config_file), overrides=["search.retries=1"])
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        first = manager.proposed()
        trials.take(first, error=Failure("RuntimeError: the driver hung"))
        manager.end(first, "FAILED")
        manager.request(1)
        second = manager.proposed()
        trials.finish(second)
        manager.end(second)
        assert wait_for(lambda: len(journal_of(config)) == 1)
    [evaluation] = journal_of(config).evaluations
    assert (evaluation.fitness, evaluation.tries, evaluation.error) == (likeness(ops_of(first)), 2, None)


def test_what_no_candidate_is_to_blame_for_ends_the_experiment_and_is_charged_to_none(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        trial = manager.proposed()
        trials.take(trial, error=Failure("DataError: search.json: cannot be read", fatal=True))
        manager.end(trial, "FAILED")
        error = manager.error()
    assert f"DataError: search.json: cannot be read, in trial {trial.job} (any candidate would" in error
    assert len(journal_of(config)) == 0


def test_a_trial_that_ends_well_and_never_reports_is_not_waited_for_forever(tuner, config):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        manager.end(manager.proposed(), "SUCCEEDED")
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert journal_of(config).evaluations[0].error == NO_RESULT


def test_a_metric_that_is_no_finite_number_is_a_failed_candidate(tuner, config):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        trial = manager.proposed()
        manager.report(trial, {"default": float("nan")})
        manager.end(trial)
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert journal_of(config).evaluations[0].error == "the fitness is nan, not a finite number"


def test_a_second_word_on_a_trial_changes_nothing(tuner, config):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        trial = manager.proposed()
        manager.report(trial, metrics_of(trial))
        assert wait_for(lambda: len(journal_of(config)) == 1)
        manager.report(trial, {"default": 0.99})
        manager.end(trial, "FAILED")
        manager.request(1)
        other = manager.proposed()
        manager.report(other, metrics_of(other))
        assert wait_for(lambda: len(journal_of(config)) == 2)  # all of the above has been dealt with
    assert [e.fitness for e in journal_of(config).evaluations] == [
        likeness(ops_of(trial)),
        likeness(ops_of(other)),
    ]


def test_a_search_in_which_every_trial_fails_ends_the_experiment_with_an_error(tuner):
    with Manager(tuner) as manager:
        manager.start()
        for _ in range(BUDGET):
            manager.request(1)
            manager.end(manager.proposed(), "FAILED")
        error = manager.error()
    assert "8 of 8 candidates have failed, more than search.max_failed_share (0.5) allows" in error
    assert f"8 of them with: {NO_RESULT}" in error


def test_a_tuner_that_cannot_see_its_trials_any_more_says_so(tuner, monkeypatch):
    def broken(*_):
        raise RuntimeError("a mistake in the watch")

    monkeypatch.setattr(TrialFiles, "taken", broken)
    with Manager(tuner) as manager:
        manager.start()
        manager.request(1)
        manager.proposed()
        assert "the trials can no longer be watched: RuntimeError: a mistake in the watch" in manager.error()


# Beginning, going on, ending.


def test_a_search_that_was_stopped_goes_on_with_the_candidates_that_it_lacks(config_file, config):
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        done = run_one_by_one(manager, budget=5)
        assert wait_for(lambda: len(journal_of(config)) == 5)
        manager.request(1)
        interrupted = manager.proposed()
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        rest = run_one_by_one(manager, budget=3)
        assert wait_for(best_of(config).exists)
    assert ops_of(rest[0]) == ops_of(interrupted)
    assert [e.ops for e in journal_of(config).evaluations] == [ops_of(trial) for trial in [*done, *rest]]


def test_a_trial_that_nni_starts_again_after_a_resume_keeps_its_candidate(config_file, config, trials):
    """NNI tells nothing of such a trial's end, and a second trial for its candidate would be one too many."""
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        manager.request(3)
        first, second, third = (manager.proposed() for _ in range(3))
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        manager.recover(first, second)
        manager.request(2)
        fresh = [manager.proposed(), manager.proposed()]
        assert ops_of(fresh[0]) == ops_of(third)
        trials.finish(first)
        manager.statuses[first.job] = "SUCCEEDED"
        assert wait_for(lambda: len(journal_of(config)) == 1)
        manager.statuses[second.job] = "FAILED"
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert journal_of(config).find(ops_of(first)).fitness == likeness(ops_of(first))
    assert journal_of(config).find(ops_of(second)).error == NO_RESULT


def test_what_a_trial_finished_while_no_tuner_lived_is_not_evaluated_again(config_file, config, trials):
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        manager.request(2)
        first, second = manager.proposed(), manager.proposed()
    trials.finish(first)
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        manager.request(1)
        assert ops_of(manager.proposed()) == ops_of(second)
    assert [e.ops for e in journal_of(config).evaluations] == [ops_of(first)]
    assert evaluated_as_proposed(journal_of(config))


def test_what_ended_in_an_earlier_life_of_the_experiment_is_not_taken_for_a_trial_of_this_one(
    config_file, config
):
    """After a resume NNI gives parameter ids again."""
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        manager.request(1)
        before = manager.proposed()
    again = Manager(DetNASTuner(str(config_file)))
    again.records, again.statuses = dict(manager.records), {before.job: "FAILED"}
    with again as manager:
        manager.start()
        manager.request(1)
        trial = manager.proposed()
        # Another trial, which happens to have the old one's parameter id.
        packed = json.loads(trial.packed) | {"parameter_id": trial.id}
        manager.records[before.job] = json.dumps(packed)
        time.sleep(0.6)
        assert len(journal_of(config)) == 0
        manager.report(trial, metrics_of(trial))
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert evaluated_as_proposed(journal_of(config))


def test_a_stop_ends_the_strategys_thread_and_writes_nothing_of_running_trials(tuner, config):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        manager.proposed(), manager.proposed()
    tuner._thread.join(5)
    assert not tuner._thread.is_alive()
    assert len(journal_of(config)) == 0
    assert not best_of(config).exists() and not read_owner(config.search_dir).ended


def test_trials_that_end_because_the_experiment_is_stopped_have_not_failed(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        pair = [manager.proposed(), manager.proposed()]
        manager.status = "STOPPING"
        for trial in pair:
            trials.take(trial)
            manager.end(trial, "USER_CANCELED")
        time.sleep(0.6)
    assert len(journal_of(config)) == 0


def test_a_finished_search_leaves_its_folder_to_others_while_the_web_ui_is_still_open(tuner, config_file):
    with Manager(tuner) as manager:
        manager.start()
        run_one_by_one(manager)
        tuner._thread.join(20)
        longer = load_config(config_file, ["search.generations=3"])
        with SearchSession(longer):
            assert read_owner(longer.search_dir).door == "detnas search"


def test_a_second_search_in_the_folder_ends_its_experiment_with_an_error(tuner, config):
    with SearchSession(config), Manager(tuner) as manager:
        manager.start()
        manager.request(2)
        assert "run/search: process" in (error := manager.error()) and "searches here already" in error
        assert manager.answer() is None


def test_a_search_space_file_of_another_space_ends_the_experiment_with_an_error(tuner):
    with Manager(tuner) as manager:
        manager.start(space="small")
        manager.request(2)
        assert "searchSpaceFile does not hold the config's space 'tiny'" in manager.error()
        assert manager.answer() is None
    assert not tuner._thread.is_alive()


def test_a_search_that_failed_for_good_says_so_again_when_it_is_resumed(config_file, config):
    """The journal answers for every candidate before NNI has asked for the first."""
    for _ in range(2):
        tuner = DetNASTuner(str(config_file), overrides=["search.generations=1"])
        with Manager(tuner) as manager:
            manager.start()
            if len(journal_of(config)) == 0:
                for _ in range(4):
                    manager.request(1)
                    manager.end(manager.proposed(), "FAILED")
            else:
                tuner._thread.join(10)
                manager.request(1)
            assert "4 of 4 candidates have failed" in manager.error()


def test_a_config_is_found_in_the_code_directory(config_file, monkeypatch, tmp_path):
    """NNI starts a tuner in its log folder, and appends codeDirectory to sys.path."""
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr(sys, "path", [*sys.path, str(config_file.parent)])
    with Manager(DetNASTuner("detnas.yaml")) as manager:
        manager.start()
        manager.request(1)
        manager.proposed()
    with Manager(DetNASTuner("other.yaml")) as manager:
        manager.start()
        manager.request(1)
        assert "other.yaml: not found in codeDirectory" in manager.error()


def test_overrides_are_those_of_the_command_line(config_file, config):
    tuner = DetNASTuner(str(config_file), overrides=["search.population=6", "search.name=six"])
    with Manager(tuner) as manager:
        manager.start()
        manager.request(6)
        assert len({ops_of(manager.proposed()) for _ in range(6)}) == 6
    assert (config.run_dir / "six" / "search.json").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("detector.name=retinanet", "kind is 'faster_rcnn'"),
        ("search.population=none", "search.population"),
        ("search.constraint.max_params=1", "meets parameters <= 1"),
    ],
)
def test_what_is_wrong_with_the_start_is_an_error_of_the_experiment_before_any_trial(
    config_file, override, message
):
    with Manager(DetNASTuner(str(config_file), overrides=[override])) as manager:
        manager.start()
        manager.request(2)
        assert message in manager.error()
        assert manager.answer() is None


def test_trials_that_nobody_proposed_are_ignored(tuner, config):
    """Such as those that a user adds in the web UI."""
    with Manager(tuner) as manager:
        manager.start()
        manager.records["mine"] = json.dumps({"parameter_id": None, "parameters": {"layer_00": "x"}})
        manager.statuses["mine"] = "SUCCEEDED"
        manager.request(1)
        trial = manager.proposed()
        manager.report(trial, metrics_of(trial))
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert journal_of(config).evaluations[0].ops == ops_of(trial)


def test_nni_hears_from_it_before_anything_heavy_is_loaded():
    """It gives a tuner ten seconds: on a busy machine torch and the supernet alone may take longer."""
    loaded = (
        "import nni.runtime.msg_dispatcher, sys; before = set(sys.modules);"
        "from detnas_nni.search.tuner import DetNASTuner; DetNASTuner('detnas.yaml');"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    found = subprocess.check_output([sys.executable, "-W", "ignore", "-c", loaded], text=True).split()
    assert not {"torch", "torchvision", "pytorch_lightning"} & set(found)
