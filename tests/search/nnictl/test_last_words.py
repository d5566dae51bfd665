"""Why a trial failed, read from what it printed."""

from detnas_nni.search.nnictl import last_words
from detnas_nni.search.outcome import NO_RESULT
from detnas_nni.search.outcomes import Failure


def test_a_trials_word_is_found_in_what_it_and_others_print(capfd):
    failure = Failure("CheckpointError: «finetune/supernet.pt»: there is no supernet", fatal=True)
    print("UserWarning: something else")
    last_words.say(failure)
    said = last_words.read("a line before\n" + capfd.readouterr().err + "Traceback (most recent call last)\n")
    assert said == failure and said.fatal


def test_a_trial_that_never_came_to_a_word_is_quoted():
    said = last_words.read("/bin/bash: line 1: detnas: command not found\n\n")
    assert said == f"{NO_RESULT}; it printed last: /bin/bash: line 1: detnas: command not found"
    assert not said.fatal


def test_one_that_printed_nothing_has_just_ended():
    assert last_words.read(" \n") == NO_RESULT
