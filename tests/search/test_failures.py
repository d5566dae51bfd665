"""Failures: what is kept of an error, whom it is charged to, and when there are too many."""

import errno
from dataclasses import replace

import pytest

from detnas_nni.errors import CheckpointError, ConfigError, DataError, EvaluationError
from detnas_nni.search.journal import JournalError
from detnas_nni.search.outcomes import FailurePolicy, describe, most_common

POLICY = FailurePolicy(retries=1, max_failed_share=0.5, evaluations=1000)


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (RuntimeError("CUDA out of memory.\nTried to allocate"), "RuntimeError: CUDA out of memory."),
        (KeyError("image_id"), "KeyError: 'image_id'"),
        (ValueError(), "ValueError: "),
    ],
)
def test_an_error_is_described_by_its_kind_and_first_line(error, described):
    assert describe(error) == described


def test_an_error_that_was_raised_is_described_with_the_place():
    try:
        [][0]
    except IndexError as error:
        described = describe(error)
    name = "test_an_error_that_was_raised_is_described_with_the_place"
    assert described.startswith("IndexError: list index out of range (test_failures.py, line ")
    assert described.endswith(f", in {name})")


def test_a_message_for_the_user_says_by_itself_what_it_is_about():
    with pytest.raises(EvaluationError) as caught:
        raise EvaluationError("the fitness is nan")
    assert describe(caught.value) == "EvaluationError: the fitness is nan"


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (DataError("train.json: cannot be read"), True),
        (CheckpointError("supernet.pt: there are no weights"), True),
        (ConfigError("no `data.detection`"), True),
        (JournalError("journal.jsonl: cannot be written"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ENOENT, "No such file"), False),
        (EvaluationError("the fitness is nan"), False),
        (RuntimeError("CUDA out of memory"), False),
        (MemoryError(), False),
    ],
    ids=repr,
)
def test_some_errors_any_candidate_would_meet(error, fatal):
    assert describe(error).fatal is fatal


A = "RuntimeError: a"


def test_half_of_them_may_fail_and_one_more_may_not():
    assert POLICY.objection([A] * 10, 20) is None
    objection = POLICY.objection([A] * 11, 21)
    assert objection.startswith("11 of 21 candidates have failed, more than search.max_failed_share (0.5)")


def test_fewer_than_ten_say_nothing_unless_there_are_no_more():
    assert POLICY.objection([A] * 9, 9) is None
    assert POLICY.objection([A] * 9, 9, ended=True) is not None
    assert replace(POLICY, evaluations=8).objection([A] * 9, 9) is not None
    assert POLICY.objection([A] * 10, 10) is not None


def test_a_share_of_one_never_objects_and_one_of_none_at_the_first():
    assert replace(POLICY, max_failed_share=1.0).objection([A] * 20, 20) is None
    strict = replace(POLICY, max_failed_share=0.0)
    assert strict.objection([], 20) is None
    assert "1 of 20 candidates" in strict.objection([A], 20)


def test_errors_that_differ_in_their_numbers_alone_are_one():
    memory = [f"RuntimeError: tried to allocate {size} MiB at 0x7f{size:x}" for size in (20, 512, 7)]
    assert most_common(["KeyError: 'x'", *memory, "KeyError: 'x'"]) == (memory[0], 3)


def test_nothing_has_failed_in_an_empty_search():
    assert POLICY.objection([], 0) is None
    assert POLICY.objection([], 0, ended=True) is None
