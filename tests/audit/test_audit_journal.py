"""The journal of an audit's nets: what is written can be read, torn or damaged lines are met."""

from pathlib import Path

import pytest

from detnas_nni.audit.journal import NetJournal, NetTraining, Trained
from detnas_nni.errors import AuditError

NET = NetTraining((0, 1), 0)
GOOD = Trained((0, 1), 0, 2.5, "2030-01-01T00:00:00+00:00", {"default": 0.25, "AP50": 0.5}, "/a/net.pt")
BAD = Trained((0, 1), 0, 2.5, "2030-01-01T00:00:00+00:00", error="no memory")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit/nets.jsonl"


def test_what_is_written_is_read_again(path: Path) -> None:
    journal = NetJournal(path)
    assert journal.find(NET) is None and not journal.is_finished(NET)
    journal.append(GOOD)
    journal.append(Trained((0, 1), 1, 2.5, "2030-01-01T00:00:00+00:00", error="no memory"))
    for read in (journal, NetJournal(path)):
        assert len(read) == 2
        assert read.find(NET) == GOOD and read.is_finished(NET)
        assert read.find(NetTraining((0, 1), 1)).error == "no memory"
        assert not read.is_finished(NetTraining((0, 1), 1))


def test_the_last_line_of_a_net_counts(path: Path) -> None:
    journal = NetJournal(path)
    journal.append(BAD)
    journal.append(GOOD)
    assert len(path.read_text().splitlines()) == 2
    assert len(NetJournal(path)) == 1 and NetJournal(path).is_finished(NET)


def test_a_torn_last_line_counts_as_not_written_and_is_cut_off(path: Path) -> None:
    NetJournal(path).append(GOOD)
    whole = path.read_text()
    path.write_text(whole + whole[:30])
    journal = NetJournal(path)
    assert len(journal) == 1
    other = Trained((1, 1), 0, 2.5, "2030-01-01T00:00:00+00:00", {"default": 0.5})
    journal.append(other)
    assert path.read_text() == whole + other.to_json() + "\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": "0"', "seed: "),
        ('"seed": 0', '"sed": 0', "seed: Field required|sed: "),
        ('{"default": 0.25', '{"other": 0.25', "metrics.default: a finite number"),
        ('"weights": "/a/net.pt"', '"error": "no memory"', "either metrics or an error"),
        ('"seed"', "seed", "Invalid JSON"),
    ],
)
def test_a_damaged_line_is_named(old: str, new: str, message: str, path: Path) -> None:
    journal = NetJournal(path)
    journal.append(BAD)
    journal.append(GOOD)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second.replace(old, new)}\n")
    with pytest.raises(AuditError, match=rf"nets\.jsonl: line 2 is damaged: .*({message})"):
        NetJournal(path)
