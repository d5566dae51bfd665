"""The journal: what was written is read again, a torn end is dropped, other damage is named."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from detnas_nni.search.journal import Evaluation, Journal, JournalError, journal_path, search_identity
from tests.search.searching import BLOCKS, tiny


def evaluation(number: int, fitness: float | None = 0.25) -> Evaluation:
    architecture = tiny(number % 4)
    return Evaluation(
        id=number,
        ops=architecture.ops,
        choices=architecture.choices,
        cost={"macs": 17_000_000 + number, "params": 80_000},
        generation=number // 2,
        origin="random",
        seconds=1.5,
        finished_at="2030-01-01T00:00:00+00:00",
        metrics=None if fitness is None else {"default": fitness, "AP50": 0.5},
        error="EvaluationError: out of memory" if fitness is None else None,
    )


@pytest.fixture
def path(tmp_path):
    return journal_path(tmp_path / "search")


def written(path, *fitnesses):
    journal = Journal(path)
    for number, fitness in enumerate(fitnesses):
        journal.append(evaluation(number, fitness))
    return journal


def test_a_search_that_has_not_begun_has_an_empty_journal_and_no_file(path):
    journal = Journal(path)
    assert len(journal) == 0 and journal.best() == [] and not path.exists()


def test_what_was_appended_is_read_again_to_the_last_digit(path):
    journal = written(path, 0.1, 1 / 3, None)
    assert Journal(path).evaluations == journal.evaluations
    assert Journal(path).evaluations[1].fitness == 1 / 3


def test_an_evaluation_is_one_line_of_json_with_the_keys_of_the_contract(path):
    written(path, 0.5, None)
    finished, failed = map(json.loads, path.read_text().splitlines())
    common = {"id", "ops", "choices", "cost", "generation", "origin", "seconds", "finished_at", "tries"}
    assert set(finished) == common | {"metrics"}
    assert set(failed) == common | {"error"}
    assert finished["ops"] == [0] * BLOCKS
    assert finished["choices"] == {f"layer_{block:02}": "shufflenet_3x3" for block in range(BLOCKS)}


def test_one_that_was_given_up_has_its_parts_and_no_fitness(path):
    journal = Journal(path)
    journal.append(replace(evaluation(0, 0.5), parts=(0.25, 0.5)))
    journal.append(replace(evaluation(1), metrics=None, parts=(0.125,), stopped=True))
    finished, stopped = map(json.loads, path.read_text().splitlines())
    assert finished["parts"] == [0.25, 0.5] and "stopped" not in finished
    assert stopped["parts"] == [0.125] and stopped["stopped"] is True
    assert not {"metrics", "error"} & set(stopped)
    found = Journal(path)
    assert found.evaluations == journal.evaluations
    assert found.evaluations[1].fitness is None and found.errors == []
    assert [e.id for e in found.best(10)] == [0]


def test_an_architecture_is_found_by_its_ops(path):
    written(path, 0.5, None)
    journal = Journal(path)
    assert journal.find(tiny(0).ops).fitness == 0.5
    assert journal.find(tiny(1).ops).error == "EvaluationError: out of memory"
    assert journal.find(tiny(2).ops) is None


def test_the_best_come_first_the_earlier_of_two_equals_and_failures_never(path):
    journal = written(path, 0.2, None, 0.7, 0.7)
    assert [found.id for found in journal.best(10)] == [2, 3, 0]
    assert [found.id for found in journal.best()] == [2]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_last_line_that_a_crash_tore_is_dropped_and_written_anew(path, left):
    """Also one that lacks nothing but its end of line: the write was not over."""
    journal = written(path, 0.1, 0.2, 0.3)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:left])
    found = Journal(path)
    assert found.evaluations == journal.evaluations[:2]
    found.append(journal.evaluations[2])
    assert path.read_bytes() == whole


def test_a_journal_of_a_torn_line_alone_is_empty(path):
    path.parent.mkdir()
    path.write_bytes(b'{"id": 0, "op')
    assert len(Journal(path)) == 0
    written(path, 0.25)
    assert Journal(path).evaluations == [evaluation(0)]


def test_reading_leaves_a_line_alone_that_a_search_is_writing(path):
    written(path, 0.1, 0.2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert len(Journal(path)) == 1
    assert path.read_bytes() == whole[:-30]


def test_a_line_from_before_tries_were_counted_is_one_try(path):
    written(path, 0.1)
    line = json.loads(path.read_text())
    del line["tries"]
    path.write_text(json.dumps(line) + "\n")
    assert Journal(path).evaluations[0].tries == 1


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"[1, 2]", b"7", b"null", b'{"id": 1}', b'{"id": 1, "ops": 3}'],
    ids=["empty", "cut", "no UTF-8", "list", "number", "null", "keys missing", "ops no list"],
)
def test_damage_in_the_middle_is_an_error_that_names_file_and_line(path, damage):
    written(path, 0.1, 0.2, 0.3)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damage, lines[2]]) + b"\n")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.jsonl: line 2 is damaged"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_key_that_no_evaluation_has_is_damage(path):
    written(path, 0.1)
    line = json.loads(path.read_text())
    path.write_text(json.dumps({**line, "AP": 0.3}) + "\n")
    with pytest.raises(JournalError, match=r"line 1 is damaged: .*AP"):
        Journal(path)


def test_nothing_in_a_journal_is_rounded(path):
    fitness = math.nextafter(0.3, 1)
    written(path, fitness)
    assert Journal(path).best()[0].fitness == fitness


@pytest.mark.parametrize("changed", [b"", b"{}\n" * 200], ids=["emptied", "appended to"])
def test_a_journal_that_another_process_changes_is_not_written_over(path, changed):
    journal = written(path, 0.1, 0.2)
    path.write_bytes(changed)
    with pytest.raises(JournalError, match="was changed by another process while this one searched"):
        journal.append(evaluation(2))
    assert path.read_bytes() == changed


# A disk that is full.

_UNTIL_FULL = """
import sys
from dataclasses import replace
from pathlib import Path
from detnas_nni.search.journal import Evaluation, Journal, JournalError
if sys.argv[2] != "tmpfs":
    import resource
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
journal = Journal(Path(sys.argv[1]))
try:
    for line in sys.stdin:
        journal.append(Evaluation.from_json(line))
except JournalError as error:
    print(len(journal), error)
"""


def write_until_full(path, limit) -> tuple[int, str]:
    """Append until the disk takes no more; gives how many the writer counts as written, and its error."""
    call = [sys.executable, "-c", _UNTIL_FULL, str(path), limit]
    lines = "\n".join(evaluation(number).to_json() for number in range(200))
    said = subprocess.run(call, input=lines, capture_output=True, text=True, timeout=300, check=True).stdout
    count, error = said.split(" ", 1)
    return int(count), error.strip()


@pytest.mark.parametrize("room", [1, 1500, 2000, 2100])
def test_a_full_disk_leaves_whole_lines_alone(path, room):
    """The kernel takes a part of the last line, up to the limit."""
    count, error = write_until_full(path, str(room))
    assert re.search(r"journal\.jsonl: cannot be written \(File too large\); the \d+ evaluations", error)
    assert path.stat().st_size <= room
    assert Journal(path).evaluations == [evaluation(number) for number in range(count)]
    assert path.read_bytes() == b"" or path.read_bytes().endswith(b"}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which takes root")
def test_a_file_system_without_room_leaves_whole_lines_alone(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    try:
        path = journal_path(disk / "search")
        count, error = write_until_full(path, "tmpfs")
        assert "cannot be written (No space left on device)" in error and count > 50
        assert Journal(path).evaluations == [evaluation(number) for number in range(count)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Which searches are the same.


def test_candidates_that_are_fine_tuned_otherwise_are_another_search(make_config, tmp_path):
    def identity(task, iterations, **sections):
        evaluation = {"task": task, "finetune_iterations": iterations}
        return search_identity(make_config(tmp_path / "run", evaluation=evaluation, **sections), "hash")

    changes = [{"finetune": {"batch_size": 5}}, {"finetune": {"momentum": 0.5}}]
    of_a_classifier = [{"pretrain": {"label_smoothing": 0.3}}, {"pretrain": {"dropout": 0.3}}]
    for task, matters in (("detection", changes), ("classification", changes + of_a_classifier)):
        for change in changes + of_a_classifier:
            assert identity(task, 0) == identity(task, 0, **change)
            assert (identity(task, 2) != identity(task, 2, **change)) == (change in matters)
