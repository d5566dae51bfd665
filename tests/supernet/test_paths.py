"""The path of a step: a function of seed and step alone, uniform over the space or over a range of MACs."""

import os
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cost.table import cost_table
from detnas_nni.errors import ConstraintError
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.util.seeding import generator
from search_spaces import layout


def macs(path: Architecture) -> int:
    return cost_table("tiny").cost(path).macs


def macs_of_many(ops: np.ndarray) -> np.ndarray:
    return cost_table("tiny").costs(ops)[:, 0]


@pytest.fixture(scope="module")
def quartiles() -> list[int]:
    """MACs that part the paths of tiny into four equal shares, roughly."""
    sampler = PathSampler("tiny", 99)
    return (
        np.percentile([macs(sampler.path(step)) for step in range(2000)], [25, 50, 75]).astype(int).tolist()
    )


def test_a_path_depends_on_seed_and_step_alone() -> None:
    first, second = PathSampler("tiny", 3), PathSampler("tiny", 3)
    forwards = [first.path(step) for step in range(20)]
    backwards = [second.path(step) for step in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 20
    other = PathSampler("tiny", 4)
    assert [other.path(step) for step in range(20)] != forwards


def test_a_path_is_the_same_in_another_process() -> None:
    program = (
        "from detnas_nni.supernet.paths import PathSampler\n"
        "print(*(PathSampler('small', 5).path(step) for step in (0, 1, 10**6)))"
    )
    drawn = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "17"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert drawn.stdout.split() == [str(PathSampler("small", 5).path(step)) for step in (0, 1, 10**6)]


def test_every_candidate_of_every_block_is_drawn_equally_often() -> None:
    sampler, steps = PathSampler("small", 0), 4000
    ops = np.array([sampler.path(step).ops for step in range(steps)])
    assert ops.shape == (steps, len(layout("small")))
    # Four standard deviations of a binomial share.
    slack = 4 * (steps * 0.25 * 0.75) ** 0.5
    for block in ops.T:
        assert np.abs(np.bincount(block, minlength=4) - steps / 4).max() < slack
    # Blocks are drawn apart from each other: so are the pairs of neighbours.
    pairs = np.bincount(ops[:, 0] * 4 + ops[:, 1], minlength=16)
    assert np.abs(pairs - steps / 16).max() < 4 * (steps * (1 / 16) * (15 / 16)) ** 0.5


def test_a_block_of_a_foreign_space_is_drawn_from_its_own_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "search_spaces"))
    sampler = PathSampler("foreign:mobile", 0)
    assert {sampler.path(step).ops for step in range(60)} == {(a, b) for a in range(2) for b in range(3)}


def test_a_step_draws_one_of_the_bins_and_a_path_in_it(quartiles: list[int]) -> None:
    low, middle, high = quartiles
    # One bin of a quarter of all paths, one of a half: each is drawn as often as the other.
    bins = [(0, low), (low, high)]
    sampler = PathSampler("tiny", 0, bins, macs_of_many)
    drawn = Counter(
        "first" if value < low else "lower" if value < middle else "upper" if value < high else "outside"
        for value in (macs(sampler.path(step)) for step in range(1200))
    )
    assert drawn["outside"] == 0
    assert drawn["first"] == pytest.approx(600, abs=70)
    assert drawn["lower"] == pytest.approx(300, abs=60)
    assert drawn["upper"] == pytest.approx(300, abs=60)


def test_a_bin_leaves_out_its_upper_end() -> None:
    values = sorted({macs(PathSampler("tiny", 0).path(step)) for step in range(50)})
    sampler = PathSampler("tiny", 1, [(values[20], values[30])], macs_of_many)
    drawn = [macs(sampler.path(step)) for step in range(200)]
    assert min(drawn) >= values[20]
    assert max(drawn) < values[30]


def test_paths_in_bins_depend_on_seed_and_step_alone(quartiles: list[int]) -> None:
    bins = [(0, quartiles[0]), (quartiles[0], quartiles[2])]
    first, second = PathSampler("tiny", 3, bins, macs_of_many), PathSampler("tiny", 3, bins, macs_of_many)
    assert [first.path(step) for step in range(9)] == [second.path(step) for step in reversed(range(9))][::-1]


def test_a_path_in_a_bin_is_the_first_in_it_of_those_drawn_one_by_one(quartiles: list[int]) -> None:
    rare = sorted(macs(PathSampler("tiny", 0).path(step)) for step in range(1000))[2]
    bins = [(0, rare), (quartiles[0], quartiles[1])]
    sizes = [len(choice.candidates) for choice in layout("tiny")]
    sampler, draws = PathSampler("tiny", 5, bins, macs_of_many), []
    for step in range(20):
        rng = generator(5, "path", step)
        low, high = bins[rng.integers(len(bins))]
        one_by_one = (Architecture("tiny", tuple(rng.integers(sizes).tolist())) for _ in count())
        number, path = next((n, path) for n, path in enumerate(one_by_one) if low <= macs(path) < high)
        draws.append(number)
        assert sampler.path(step) == path
    assert min(draws) < 10 and max(draws) > 200


def test_a_bin_that_no_path_reaches_is_refused_before_the_first_step(quartiles: list[int]) -> None:
    with pytest.raises(
        ConstraintError, match=r"macs_bins: none of .* paths of tiny has between 5 and 1,000 "
    ):
        PathSampler("tiny", 0, [(0, quartiles[0]), (5, 1000)], macs_of_many)
