"""What the tuner and its trials tell each other through the search's folder."""

import pytest

from detnas_nni.search.nnictl.files import Taken, TrialFiles
from detnas_nni.search.outcomes import Failure, Outcome
from detnas_nni.util.processes import Process
from tests.search.searching import tiny

OPS, OTHER = tiny(0, 1, 2, 3).ops, tiny(1).ops
IDENTITY = {"config": "c0ffee", "supernet": "5eed"}
FINISHED = Outcome({"default": 1 / 3, "APl": -1.0}, parts=(0.25, 1 / 3))
STOPPED = Outcome(parts=(0.1,), stopped=True)


@pytest.fixture
def files(tmp_path):
    return TrialFiles(tmp_path / "search", IDENTITY)


@pytest.mark.parametrize("outcome", [FINISHED, STOPPED], ids=["finished", "stopped"])
def test_an_outcome_is_read_as_it_was_written_and_belongs_to_its_architecture_alone(files, outcome):
    files.finish(OPS, outcome)
    assert files.outcome(OPS) == outcome
    assert files.outcome(OTHER) is None


@pytest.mark.parametrize("key", IDENTITY)
def test_an_outcome_of_another_config_or_supernet_does_not_count(files, tmp_path, key):
    TrialFiles(tmp_path / "search", IDENTITY | {key: "another"}).finish(OPS, FINISHED)
    assert files.outcome(OPS) is None


@pytest.mark.parametrize(
    "taken",
    [
        Taken("a1B2c", OPS, IDENTITY, Process.current()),
        Taken("a1B2c", OPS, IDENTITY, Process.current(), Failure("RuntimeError: no memory")),
        Taken("a1B2c", OPS, IDENTITY, Process.current(), interrupted=True),
        Taken("a1B2c", None, {}, Process.current(), Failure("DataError: no images", fatal=True)),
    ],
    ids=["runs", "failed", "told to end", "failed before it knew"],
)
def test_what_a_trial_says_of_itself_is_read_as_it_was_written(files, taken):
    files.take(taken)
    found = files.taken("a1B2c")
    assert found == taken
    assert found.error is None or found.error.fatal == taken.error.fatal
    assert files.taken("other") is None
    assert files.all_taken() == [taken]


def test_a_trial_has_the_last_word_on_itself(files):
    files.take(Taken("t", OPS, IDENTITY, Process.current(), Failure("killed")))
    files.take(Taken("t", OTHER, IDENTITY, Process.current()))
    assert files.taken("t") == Taken("t", OTHER, IDENTITY, Process.current())


def test_a_trial_finds_what_was_proposed_for_it(files):
    files.propose("t", {"parameter_id": 7, "parameters": {"layer_00": "xception_3x3"}})
    assert files.proposal("t") == {"parameter_id": 7, "parameters": {"layer_00": "xception_3x3"}}
    assert files.proposal("other") is None


def test_an_architecture_of_the_largest_space_has_a_file_name_that_fits(files):
    files.finish((3,) * 40, FINISHED)
    assert files.outcome((3,) * 40) == FINISHED


def test_a_damaged_file_counts_as_none(files, tmp_path, caplog):
    files.finish(OPS, FINISHED)
    [path] = (tmp_path / "search/outcomes").iterdir()
    path.write_bytes(path.read_bytes()[:20])
    assert files.outcome(OPS) is None
    assert str(path) in caplog.text
