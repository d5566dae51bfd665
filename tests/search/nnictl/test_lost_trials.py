"""Trials whose machine dies: their candidates go to others, and are not to blame."""

import json
import time

import pytest

from detnas_nni.config.reading import load_config
from detnas_nni.search.nnictl import engine as trials_module
from detnas_nni.search.nnictl import watch as watch_module
from detnas_nni.search.nnictl.files import say_why
from detnas_nni.search.nnictl.tuner import DetNASTuner
from detnas_nni.search.outcomes import NO_RESULT, Failure
from tests.search.nnictl.manager import Manager
from tests.search.nnictl.tuning import Trials, evaluated_as_proposed, journal_of, metrics_of, ops_of, wait_for
from tests.search.searching import likeness

# The small experiment searches four candidates in each of two generations.
GENERATION = 4


@pytest.fixture
def config_file(trained_run, write_config):
    return write_config(trained_run.parent / "detnas.yaml", run_dir=str(trained_run), search={"retries": 0})


@pytest.fixture
def config(config_file):
    return load_config(config_file)


@pytest.fixture
def tuner(config_file):
    return DetNASTuner(str(config_file))


@pytest.fixture
def trials(config):
    return Trials(config)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(trials_module, "_PATIENCE", 0.05)
    for name, seconds in {
        "_BETWEEN": 0.02,
        "_EVERY": 0.3,
        "_GRACE": 0.5,
        "_SILENT": 2.0,
        "_STUCK": 2.0,
    }.items():
        monkeypatch.setattr(watch_module, name, seconds)


class Heart:
    """A trial's heartbeat, by hand."""

    def __init__(self, trials, trial):
        self._path = trials.files.heartbeat_path(trial.job)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.beat()

    def beat(self):
        self._path.touch()

    def end(self):
        self._path.write_bytes(b"ended\n")


def requested(manager, number):
    manager.request(number)
    return [manager.proposed() for _ in range(number)]


@pytest.mark.parametrize("beats", [True, False], ids=["in its evaluation", "in its start"])
def test_a_trial_that_died_with_its_machine_is_tried_elsewhere_and_has_not_failed(
    tuner, config, trials, beats
):
    """NNI says that a user has canceled it. Without retries one failure would be the candidate's end."""
    with Manager(tuner) as manager:
        manager.start()
        lost, *others = requested(manager, GENERATION)
        if beats:
            trials.take(lost)
            Heart(trials, lost)
        manager.end(lost, "USER_CANCELED")
        manager.request(1)
        again = manager.proposed()
        assert ops_of(again) == ops_of(lost)
        for trial in (*others, again):
            trials.finish(trial)
            manager.end(trial)
        assert wait_for(lambda: len(journal_of(config)) == GENERATION)
    assert {e.tries for e in journal_of(config).evaluations} == {1}
    assert evaluated_as_proposed(journal_of(config))


def test_a_trial_that_a_user_cancels_or_the_kernel_kills_is_seen_to_end_and_has_failed(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        [trial] = requested(manager, 1)
        trials.take(trial)
        Heart(trials, trial).end()
        manager.end(trial, "USER_CANCELED")
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert journal_of(config).evaluations[0].error == NO_RESULT


def test_a_last_word_may_come_after_nnis_word(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        [trial] = requested(manager, 1)
        trials.take(trial)
        heart = Heart(trials, trial)
        manager.end(trial, "USER_CANCELED")
        time.sleep(0.2)
        heart.end()
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert journal_of(config).evaluations[0].error == NO_RESULT


@pytest.mark.parametrize("ends", ["its last word comes late", "it never comes"])
def test_one_at_a_time_a_killed_trials_candidate_comes_before_the_next_however_late_that_is_known(
    ends, config_file, config, trials
):
    """Or the journal's order, and with it the search, would depend on when a trial was killed."""
    tuner = DetNASTuner(str(config_file), ["search.retries=1"])
    with Manager(tuner) as manager:
        manager.start()
        [trial] = requested(manager, 1)
        trials.take(trial)
        heart = Heart(trials, trial)
        manager.end(trial, "USER_CANCELED")
        manager.request(1)
        time.sleep(0.25)
        if ends == "its last word comes late":
            heart.end()
        assert ops_of(manager.proposed()) == ops_of(trial)


def test_a_candidate_that_takes_machine_after_machine_with_it_fails_in_the_end(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        poison, *others = requested(manager, GENERATION)
        for trial in others:
            trials.take(trial)
        for further in (1, 1, 1, 0):
            trials.take(poison)
            Heart(trials, poison)
            manager.end(poison, "USER_CANCELED")
            for again in requested(manager, further):
                assert ops_of(again) == ops_of(poison)
                poison = again
        assert wait_for(lambda: len(journal_of(config)) == 1)
    [failed] = journal_of(config).evaluations
    assert (failed.ops, failed.error) == (ops_of(poison), NO_RESULT)


def test_a_trial_that_falls_silent_is_canceled_and_its_candidate_goes_to_another(tuner, config, trials):
    """Of a machine that does not answer any more NNI says, for good, that its trials run."""
    with Manager(tuner) as manager:
        manager.start()
        silent, loud = requested(manager, 2)
        hearts = [Heart(trials, trial) for trial in (silent, loud)]
        for trial in (silent, loud):
            trials.take(trial)
        manager.request(1)
        another = manager.proposed()
        assert ops_of(another) not in (ops_of(silent), ops_of(loud))
        manager.request(2)
        ends = time.monotonic() + 120
        while not manager.canceled and time.monotonic() < ends:
            hearts[1].beat()
            time.sleep(0.1)
        assert manager.canceled == [silent.job]
        assert ops_of(silent) in {ops_of(manager.proposed()) for _ in range(2)}
    assert len(journal_of(config)) == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_trial_that_was_taken_for_dead_and_reports_after_all_is_right_and_counts_once(
    tuner, config, trials, when
):
    """Before its candidate is proposed again, and after."""
    with Manager(tuner) as manager:
        manager.start()
        [late] = requested(manager, 1)
        trials.take(late)
        Heart(trials, late)
        assert wait_for(lambda: manager.canceled == [late.job])
        again = requested(manager, 1)[0] if when == "after" else None
        trials.finish(late)
        manager.report(late, metrics_of(late))
        manager.end(late, "USER_CANCELED")
        assert wait_for(lambda: len(journal_of(config)) == 1)
        if again is not None:
            assert ops_of(again) == ops_of(late)
            manager.report(again, metrics_of(again))
            manager.end(again)
        [following] = requested(manager, 1)
        assert ops_of(following) != ops_of(late)
        trials.finish(following)
        manager.end(following)
        assert wait_for(lambda: len(journal_of(config)) == 2)
    assert journal_of(config).find(ops_of(late)).fitness == likeness(ops_of(late))
    assert evaluated_as_proposed(journal_of(config))


def test_beats_of_an_earlier_life_of_the_experiment_are_not_listened_to(config_file, config, trials):
    """After a resume NNI may let a trial wait for long before it starts it again."""
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        [trial] = requested(manager, 1)
        Heart(trials, trial)
    with Manager(DetNASTuner(str(config_file))) as manager:
        manager.start()
        manager.recover(trial)
        manager.request(1)
        manager.proposed()
        time.sleep(3.5)
        assert manager.canceled == []


@pytest.mark.parametrize("how", ["silent", "USER_CANCELED"])
def test_a_search_for_which_nni_starts_no_trials_any_more_says_so(tuner, config, trials, how):
    """It waits for an answer of the dead machine; or there is no other machine."""
    with Manager(tuner) as manager:
        manager.start()
        [lost] = requested(manager, 1)
        trials.take(lost)
        Heart(trials, lost)
        if how == "USER_CANCELED":
            manager.end(lost, how)
        error = manager.error()
    assert f"NNI has started no trials since trial {lost.job} was lost with its machine" in error
    assert "remove it from machineList, then run `nnictl stop` and `nnictl create`" in error
    assert len(journal_of(config)) == 0


def test_trials_that_run_elsewhere_are_waited_for_however_long(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        lost, runs = requested(manager, 2)
        trials.take(lost)
        manager.end(lost, "USER_CANCELED")
        heart = Heart(trials, runs)
        trials.take(runs)
        for _ in range(50):
            heart.beat()
            time.sleep(0.1)
        assert tuner._error is None and manager.canceled == []


# Trials that do not share the folder.


@pytest.mark.parametrize("key", ["supernet", "config"])
def test_without_a_folder_in_common_a_result_of_another_supernet_or_config_ends_the_experiment(
    tuner, config, trials, key
):
    with Manager(tuner) as manager:
        manager.start()
        [trial] = requested(manager, 1)
        metrics = metrics_of(trial) | {"identity": json.dumps(trials.files.identity | {key: "0123"})}
        manager.report(trial, metrics)
        assert f"trial {trial.job} computed with another {key} (0123) than this" in manager.error()
    assert len(journal_of(config)) == 0


def test_without_a_folder_in_common_a_result_of_the_same_supernet_counts(tuner, config, trials):
    with Manager(tuner) as manager:
        manager.start()
        [trial] = requested(manager, 1)
        metrics = metrics_of(trial) | {"identity": json.dumps(trials.files.identity)}
        manager.report(trial, metrics)
        manager.end(trial)
        assert wait_for(lambda: len(journal_of(config)) == 1)
    assert journal_of(config).evaluations[0].metrics == metrics_of(trial)


def test_without_a_folder_in_common_the_reason_of_a_failure_is_read_from_what_the_trial_printed(
    tuner, config, capfd
):
    with Manager(tuner) as manager:
        manager.start()
        trial, fatal = requested(manager, 2)
        manager.stderr[trial.job] = "bash: detnas: command not found\n"
        manager.end(trial, "FAILED")
        assert wait_for(lambda: len(journal_of(config)) == 1)
        capfd.readouterr()
        say_why(Failure("CheckpointError: finetune/supernet.pt: there is no supernet", fatal=True))
        manager.stderr[fatal.job] = capfd.readouterr().err
        manager.end(fatal, "FAILED")
        error = manager.error()
    assert "CheckpointError: finetune/supernet.pt: there is no supernet, in trial " + fatal.job in error
    assert "(any candidate would meet it)" in error
    assert journal_of(config).evaluations[0].error.endswith("printed last: bash: detnas: command not found")


def test_a_trial_that_lacks_the_supernet_in_the_shared_folder_says_that_and_not_that_it_has_another(
    tuner, config, trials
):
    """It fails before it knows what it computes with."""
    with Manager(tuner) as manager:
        manager.start()
        [trial] = requested(manager, 1)
        missing = Failure("CheckpointError: supernet.pt: there is no supernet", fatal=True)
        trials.take(trial, error=missing, supernet="", config="")
        manager.end(trial, "FAILED")
        assert "CheckpointError: supernet.pt: there is no supernet" in manager.error()
    assert len(journal_of(config)) == 0
