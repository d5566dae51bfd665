"""What a trial leaves behind under its architecture's name."""

import json

import pytest
from searching import tiny

from detnas_nni.architecture import Architecture
from detnas_nni.search.outcome import Outcome, load_outcome, save_outcome

ARCHITECTURE = tiny(0, 1, 2, 3)
OTHER = tiny(1)


@pytest.mark.parametrize(
    "outcome", [Outcome(metrics={"default": 1 / 3, "APl": -1.0}), Outcome(error="RuntimeError: no memory")]
)
def test_an_outcome_is_read_as_it_was_written(tmp_path, outcome):
    save_outcome(tmp_path, ARCHITECTURE, outcome)
    assert load_outcome(tmp_path, ARCHITECTURE) == outcome


def test_an_outcome_belongs_to_its_architecture_alone(tmp_path):
    save_outcome(tmp_path, ARCHITECTURE, Outcome(metrics={"default": 0.5}))
    assert load_outcome(tmp_path, OTHER) is None
    [file] = (tmp_path / "outcomes").iterdir()
    assert json.loads(file.read_text())["ops"] == list(ARCHITECTURE.ops)


def test_a_second_trial_of_an_architecture_has_the_last_word(tmp_path):
    save_outcome(tmp_path, ARCHITECTURE, Outcome(error="killed"))
    save_outcome(tmp_path, ARCHITECTURE, Outcome(metrics={"default": 0.5}))
    assert load_outcome(tmp_path, ARCHITECTURE) == Outcome(metrics={"default": 0.5})


def test_an_outcome_of_the_largest_space_has_a_file_name_that_fits(tmp_path):
    architecture = Architecture("large", (3,) * 40)
    save_outcome(tmp_path, architecture, Outcome(error="x"))
    assert load_outcome(tmp_path, architecture) == Outcome(error="x")
