"""A thousand mutated inputs at every parser of files that strangers send, ten thousand in the slow tests.

Each is accepted or refused with the package's own error, within seconds, and memory stays where it was. The
table: `pytest tests/fuzz -m "slow or not slow" -rP`, or `python -m tests.fuzz`.
"""

from pathlib import Path

import pytest

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import NAMES, build

# So many in each run of the tests; a whole supernet of the authors' takes long to read.
QUICK = 1_000
FEWER = {"reference": 50}
THOROUGH = 10_000


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_accepted_or_refused(name: str, tmp_path: Path) -> None:
    print(fuzz(build(name, tmp_path), FEWER.get(name, QUICK), seed=0, folder=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_inputs_are_accepted_or_refused(name: str, tmp_path: Path) -> None:
    print(fuzz(build(name, tmp_path), THOROUGH, seed=1, folder=tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_the_inputs_that_mutation_starts_from_are_good_ones(name: str, tmp_path: Path) -> None:
    """A parser that refuses whatever it gets would pass the tests above."""
    target = build(name, tmp_path)
    refused = 0
    for seed in target.seeds:
        try:
            target.parse(seed)
        except Exception:
            refused += 1
    assert refused <= REFUSED_SEEDS.get(name, 0)


# Of a space of one's own; with names that leave the folder; of another format, which is read and refused.
REFUSED_SEEDS = {"architecture": 1, "VOC image set": 2, "weights": 2}


@pytest.mark.parametrize("name", NAMES)
def test_an_input_can_be_made_again(name: str, tmp_path: Path) -> None:
    first, second = build(name, tmp_path / "a"), build(name, tmp_path / "b")
    assert [first.input(3, number) for number in range(20)] == [
        second.input(3, number) for number in range(20)
    ]
    assert len({first.input(3, number) for number in range(20)}) > 15
