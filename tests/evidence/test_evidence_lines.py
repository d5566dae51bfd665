"""Raw lines: whole ones are kept for ever, a torn one was never there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.evidence.lines import Lines
from detnas_nni.errors import DataError


def test_a_line_is_found_by_its_key_and_knows_where_it_stands(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "evidence")
    lines.append("nets", "a", {"ap": 0.25})
    lines.append("nets", "b", {"ap": 0.5})
    found = lines.read("nets")["b"]
    assert (found.file, found.number, found["ap"]) == ("nets.jsonl", 2, 0.5)
    assert lines.read("noise") == {}


def test_a_key_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    lines.append("nets", "a", {"ap": 0.25})
    lines.append("nets", "a", {"ap": 0.75})
    assert lines.path("nets").read_text().count("\n") == 1
    assert lines.read("nets")["a"]["ap"] == 0.25


def test_a_line_that_a_kill_tore_is_dropped_and_gives_way_to_the_next(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    lines.append("nets", "a", {"ap": 0.25})
    with lines.path("nets").open("a") as file:
        file.write('{"key": "b", "ap": 0.')
    assert list(lines.read("nets")) == ["a"]
    lines.append("nets", "b", {"ap": 0.5})
    assert [json.loads(line)["key"] for line in lines.path("nets").read_text().splitlines()] == ["a", "b"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"ap": 0.5}'])
def test_damage_in_the_middle_is_named_with_its_line(tmp_path: Path, damage: str) -> None:
    lines = Lines(tmp_path)
    lines.append("nets", "a", {})
    with lines.path("nets").open("a") as file:
        file.write(f"{damage}\n")
    with pytest.raises(DataError, match=r"nets\.jsonl: line 2 is damaged"):
        lines.read("nets")
