"""The plan: what is run first, what joins when a search has ended, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence.plan import Choice, drawn, plain_and_largest, planned, table
from benchmarks.evidence.settings import read_study
from detnas_nni.config.reading import load_config
from detnas_nni.errors import ConfigError
from detnas_nni.search.best import sample

SEARCHES = {"searches": {"strategies": ["detnas", "random"], "seeds": [0]}}
REPEATS = {"repeats": {"nets": 2, "seeds": [1, 2]}}


def keys(file: Path, **choice: Any) -> list[str]:
    study = read_study(file)
    from benchmarks.evidence.lines import Lines

    return [run.key for run in Choice(**choice).of(study, Lines(study.lines).read_all())]


def test_the_nets_are_those_that_detnas_sample_draws(
    tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    part = read_study(write_study(tmp_path, ["ranking"], nets=5)).parts["small"]
    files = sample(load_config(part.config), 5)
    assert [list(ops) for ops in drawn(part)] == [json.loads(file.read_text())["ops"] for file in files]


def test_a_larger_sample_begins_with_the_smaller(tmp_path: Path, write_study: Callable[..., Path]) -> None:
    few = read_study(write_study(tmp_path / "few", ["ranking"], nets=2)).parts["small"]
    many = read_study(write_study(tmp_path / "many", ["ranking"], nets=6)).parts["small"]
    assert drawn(many)[:2] == drawn(few)


def test_the_largest_net_is_the_one_of_the_most_macs(
    tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    part = read_study(write_study(tmp_path, ["baselines"])).parts["small"]
    plain, largest = plain_and_largest(part.config)
    cost = table(part)
    assert set(plain) == {0}
    assert cost.cost(largest).macs == cost.base.macs + sum(max(op.macs for op in row) for row in cost.blocks)


def test_steps_come_in_the_order_of_the_file_and_no_run_twice(
    tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    found = keys(write_study(tmp_path, ["supernet", "ranking", "repeats", "ranking"], **REPEATS))
    assert found[:3] == ["small/pretrain/s0", "small/finetune/s0", "small/fitness/s0/search"]
    assert [key.split("/")[-1] for key in found[3:]] == ["0", "0", "0", "1", "2", "1", "2"]
    assert len(set(found)) == len(found)


def test_the_winner_of_a_search_joins_when_the_search_has_ended(
    tmp_path: Path, write_study: Callable[..., Path], pen: Callable[[Path], Any]
) -> None:
    file = write_study(tmp_path, ["first_search"], **SEARCHES)
    assert keys(file) == ["small/search/s0/ap/detnas/0"]
    # Of two that are equally fit the earlier one has won.
    found = {(0,) * 9: 0.1, (1,) * 9: 0.3, (2,) * 9: 0.3}
    pen(file).search("detnas", 0, found)
    assert keys(file) == ["small/search/s0/ap/detnas/0", "small/net/111111111/pretrained/0"]


def test_the_runs_of_one_question_can_be_chosen(tmp_path: Path, write_study: Callable[..., Path]) -> None:
    file = write_study(tmp_path, ["supernet", "repeats", "searches"], **SEARCHES, **REPEATS)
    found = keys(file, question="b")
    assert "small/search/s0/ap/random/0" in found and "small/pretrain/s0" in found
    assert not any("/net/" in key for key in found)


def test_a_step_that_is_none_is_named_with_those_that_are(
    tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    study = read_study(write_study(tmp_path, ["rnaking"]))
    with pytest.raises(ConfigError, match=r"'small\.rnaking' is no step; .* ranking"):
        planned(study, {})
    with pytest.raises(ConfigError, match="--part big: the study has small"):
        Choice(parts=("big",)).of(study, {})


@pytest.mark.parametrize(
    "part",
    [
        {"supernets": []},
        {"repeats": {"nets": 1, "seeds": []}},
        {"searches": {"strategies": [], "seeds": [0]}},
        {"searches": {"strategies": ["random"], "seeds": []}},
    ],
)
def test_a_list_without_which_nothing_can_be_run_is_refused(
    part: dict[str, Any], tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match=r"parts\.small\..*at least 1"):
        read_study(write_study(tmp_path, ["supernet"], **part))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"repeats": {"nets": 1, "seeds": [1, 0]}},
            r"parts\.small\.repeats\.seeds\.1.*greater than or equal to 1",
        ),
        (
            {"protocols": {"search": {"statistics": "reset"}}},
            r"parts\.small\.protocols.*the search's own protocol",
        ),
    ],
)
def test_what_would_be_compared_with_itself_is_refused(
    part: dict[str, Any], message: str, tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_study(write_study(tmp_path, ["supernet"], **part))
