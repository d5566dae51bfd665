"""The fuzz test's own guards: what they are to catch, they catch, and say how to see it again."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from detnas_nni.errors import DataError
from tests.fuzz import fuzzing
from tests.fuzz.fuzzing import Target, fuzz
from tests.fuzz.mutation import mutate_bytes


def target(parse: Callable[[bytes], None]) -> Target:
    return Target("a parser", (b"a seed", b"another"), mutate_bytes, parse)


def test_outcomes_are_counted(tmp_path: Path) -> None:
    def parse(data: bytes) -> None:
        if len(data) % 2:
            raise DataError("odd")

    outcomes = fuzz(target(parse), 200, 0, tmp_path).outcomes
    assert outcomes.keys() == {"accepted", "DataError"} and outcomes.total() == 200


def test_another_exception_is_told_with_its_input(tmp_path: Path) -> None:
    def parse(data: bytes) -> None:
        if b"\0" in data:
            raise KeyError("x")

    with pytest.raises(
        AssertionError, match=r"(?s)KeyError.*again: python -m tests\.fuzz 'a parser'"
    ) as raised:
        fuzz(target(parse), 2000, 7, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert b"\0" in kept.read_bytes() and str(kept) in str(raised.value)
    number = int(kept.name.rpartition("-")[2])
    assert target(parse).input(7, number) == kept.read_bytes()


@pytest.mark.parametrize("limit", ["SECONDS", "MINUTE"])
def test_a_hang_is_ended_though_the_parser_catches_everything(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing, limit, 0.2)

    def parse(data: bytes) -> None:
        while True:
            try:
                limit == "SECONDS" or time.sleep(1)
            except Exception:
                continue

    with pytest.raises(AssertionError, match=r"HangError: not done after 0\.2 seconds at input 0"):
        fuzz(target(parse), 1, 0, tmp_path)


def test_memory_that_grows_is_noticed_though_it_is_given_back(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the peak of memory grew by"):
        fuzz(target(lambda data: bytearray(600_000_000) and None), 1, 0, tmp_path)


def test_an_error_without_a_message_is_none_for_a_user(tmp_path: Path) -> None:
    def parse(data: bytes) -> None:
        raise DataError

    with pytest.raises(AssertionError, match="a message of 0 characters"):
        fuzz(target(parse), 1, 0, tmp_path)
