"""Why a trial failed, read from what it printed."""

from detnas_nni.search.nnictl.files import read_why, say_why
from detnas_nni.search.outcomes import NO_RESULT, Failure


def test_a_trials_word_is_found_in_what_it_and_others_print(capfd):
    failure = Failure("CheckpointError: «finetune/supernet.pt»: there is no supernet", fatal=True)
    print("UserWarning: something else")
    say_why(failure)
    said = read_why("a line before\n" + capfd.readouterr().err + "Traceback (most recent call last)\n")
    assert said == failure and said.fatal


def test_a_trial_that_never_came_to_a_word_is_quoted():
    said = read_why("/bin/bash: line 1: detnas: command not found\n\n")
    assert said == f"{NO_RESULT}; it printed last: /bin/bash: line 1: detnas: command not found"
    assert not said.fatal


def test_one_that_printed_nothing_has_just_ended():
    assert read_why(" \n") == NO_RESULT
