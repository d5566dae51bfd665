"""The ways to sample paths: what each promises of the candidates that are drawn, and that it is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.errors import ConfigError
from detnas_nni.supernet.paths import BalancedPathSampler, NearbyPathSampler, PathSampler, path_sampler
from search_spaces import CANDIDATES, layout
from tests.search.searching import tiny
from tests.training.two_ranks import recording
from tests.varied import SEED

FOREIGN = "foreign:mobile"
"""A space with a block of two candidates and one of three."""


@pytest.fixture(autouse=True)
def _foreign_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "search_spaces"))


def drawn(space: str, steps: int, seed: int = 0) -> np.ndarray:
    """The ops of the first balanced paths, (steps, blocks)."""
    sampler = BalancedPathSampler(space, seed)
    return np.array([sampler.path(step).ops for step in range(steps)])


@pytest.mark.parametrize("space", ["tiny", "small", FOREIGN])
def test_every_candidate_of_a_block_is_drawn_once_in_every_round_of_balanced_paths(space: str) -> None:
    paths = drawn(space, 60)  # whole rounds of 2, 3 and 4
    assert paths.shape == (60, len(layout(space)))
    for choice, ops in zip(layout(space), paths.T, strict=True):
        k = len(choice.candidates)
        for round_ in ops.reshape(-1, k):
            assert sorted(round_) == list(range(k))


def test_the_orders_of_balanced_rounds_and_blocks_are_drawn_apart_from_each_other() -> None:
    rounds = 3000
    ops = drawn("tiny", 4 * rounds).reshape(rounds, 4, -1)
    # Where a block begins, beside where it began in the round before, and where its neighbour begins.
    first, again, neighbour = ops[1:, 0, 0], ops[:-1, 0, 0], ops[1:, 0, 1]
    slack = 4 * (rounds * (1 / 16) * (15 / 16)) ** 0.5  # four standard deviations of a binomial share
    for other in (again, neighbour):
        assert np.abs(np.bincount(first * 4 + other, minlength=16) - rounds / 16).max() < slack
    assert len({tuple(order) for order in ops[:, :, 0].tolist()}) == 24


def test_a_balanced_path_depends_on_seed_and_step_alone() -> None:
    sampler = BalancedPathSampler("small", 3)
    backwards = [sampler.path(step).ops for step in reversed(range(21))]
    assert drawn("small", 21, seed=3).tolist() == [list(ops) for ops in backwards[::-1]]
    assert (drawn("small", 21, seed=4) != drawn("small", 21, seed=3)).any()


def test_fair_paths_are_the_balanced_ones(step: str, scratch: Callable[..., Config]) -> None:
    balanced, fair = (
        path_sampler(scratch(**{step: {"sampling": name}}), step) for name in ("balanced", "fair")
    )
    assert [fair.path(step) for step in range(9)] == [balanced.path(step) for step in range(9)]
    assert (balanced.passes, fair.passes) == (1, len(CANDIDATES))


def test_without_the_key_paths_are_those_of_the_paper(step: str, scratch: Callable[..., Config]) -> None:
    sampler = path_sampler(scratch(), step)
    assert type(sampler) is PathSampler
    assert [sampler.path(step) for step in range(9)] == [PathSampler("tiny", SEED).path(n) for n in range(9)]


def test_a_nearby_path_has_the_known_candidates_in_half_of_the_steps_and_their_share_of_the_rest() -> None:
    net, steps = tiny(3, 0, 1), 4000
    sampler = NearbyPathSampler(net, SEED)
    ops = np.array([sampler.path(step).ops for step in range(steps)])
    for block, known in enumerate(net.ops):
        shares = np.bincount(ops[:, block], minlength=4) / steps
        expected = np.full(4, 1 / 8)
        expected[known] += 1 / 2
        assert np.abs(shares - expected).max() < 4 * (0.25 / steps) ** 0.5  # four standard deviations
    # Blocks are drawn apart from each other: each is the known one with a chance of 5/8.
    together = (ops == np.array(net.ops)).sum(axis=1)
    variance = len(net.ops) * (5 / 8) * (3 / 8)
    assert abs(together.var() / variance - 1) < 0.15


def test_a_nearby_path_depends_on_net_seed_and_step_alone() -> None:
    def paths(seed: int, steps: range) -> list[Architecture]:
        sampler = NearbyPathSampler(tiny(2), seed)
        return [sampler.path(step) for step in steps]

    assert paths(3, range(21)) == paths(3, range(20, -1, -1))[::-1]
    assert paths(3, range(21)) != paths(4, range(21))


def test_the_config_names_the_net_that_a_detectors_paths_are_drawn_around(
    scratch: Callable[..., Config],
) -> None:
    net = tiny(1, 3)
    config = scratch(finetune={"around": net.ops})
    nearby = path_sampler(config, "finetune")
    assert type(nearby) is NearbyPathSampler
    assert nearby.path(5) == NearbyPathSampler(net, SEED).path(5)
    assert type(path_sampler(config, "pretrain")) is PathSampler
    for ops, problem in (
        (net.ops[1:], f"'ops' has {len(net.ops) - 1} values; space 'tiny' has {len(net.ops)} blocks"),
        ((*net.ops[1:], 4), "expected 0 to 3"),
    ):
        with pytest.raises(ConfigError, match=f"finetune.around: .*{problem}"):
            path_sampler(scratch(finetune={"around": ops}), "finetune")
    with pytest.raises(ConfigError, match="set around to null, or sampling to uniform"):
        scratch(finetune={"around": net.ops, "sampling": "balanced"})


def test_a_training_takes_the_paths_of_its_sampling(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], searched_blocks: list[str]
) -> None:
    settings, sampler = {"sampling": "balanced"}, BalancedPathSampler("tiny", SEED)
    if step == "finetune":
        settings, sampler = {"around": tiny(1, 3).ops}, NearbyPathSampler(tiny(1, 3), SEED)
    with recording() as record:
        train(scratch(**{step: {**settings, "steps": 5}}))
    for number, ran in enumerate(record.ran):
        for block, op in zip(searched_blocks, sampler.path(number).ops, strict=True):
            used = {name for name in CANDIDATES if any(f".{block}.{name}." in module for module in ran)}
            assert used == {CANDIDATES[op]}


def test_a_balanced_training_that_is_gone_on_with_ends_as_if_it_had_never_stopped(
    step: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    cut_at: Callable[..., Any],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    config = scratch(**{step: {"sampling": "balanced", "steps": 6}})
    whole = state_of(train(config))
    with cut_at(3):  # in the middle of a round; its last checkpoint is of step 2
        train(config, fresh=True)
    with recording() as record:
        again = state_of(train(config))
    assert record.steps == [2, 3, 4, 5]
    assert differing(whole, again) == []
