"""The average of a supernet's last weights, which a training that is gone on with comes to as well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detnas_nni.config import Config
from tests.training.two_ranks import recording

AVERAGED = {"steps": 6, "average_last": 3}


@pytest.mark.parametrize(("last", "averaged"), [(3, 3), (1, 1), (100, 6)])
def test_a_supernets_weights_are_the_mean_over_the_last_steps(
    last: int,
    averaged: int,
    step: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    state_of: Callable[[Path], dict[str, Tensor]],
) -> None:
    with recording() as record:
        state = state_of(train(scratch(**{step: {**AVERAGED, "average_last": last}})))
    without = state_of(train(scratch(**{step: {"steps": 6}}), fresh=True))
    # `record` has what is before each step; the last entry, of the end, has the average.
    after = [*record.parameters[1:-1], {name: without[name] for name in record.parameters[0]}]
    counted = after[-averaged:]
    changed = set()
    for name in counted[0]:
        values = torch.stack([parameters[name] for parameters in counted])
        if (values == values[0]).all():  # of a candidate that was not drawn meanwhile
            assert torch.equal(state[name], values[0])
        else:
            changed.add(name)
            torch.testing.assert_close(state[name], values.double().mean(0).float(), rtol=1e-5, atol=1e-7)
    if averaged > 1:
        assert changed and changed < set(counted[0])
    others = state.keys() - counted[0].keys()  # BN's statistics
    assert others and all(torch.equal(state[name], without[name]) for name in others)


@pytest.mark.parametrize("cut", [3, 5, 6])
def test_an_averaged_training_that_is_gone_on_with_ends_as_if_it_had_never_stopped(
    cut: int,
    step: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    cut_at: Callable[..., Any],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    config = scratch(**{step: {**AVERAGED, "checkpoint_every": 1}})
    whole = state_of(train(config))
    with cut_at(cut):  # before the average begins, in its middle, and when all that is left is to write it
        train(config, fresh=True)
    assert differing(whole, state_of(train(config))) == []
