"""Batches are a pure function of seed and step."""

import pytest

from detnas_nni.data.loaders import TrainBatches


def test_every_epoch_is_another_permutation_and_no_batch_is_short():
    batches = list(TrainBatches(size=10, batch_size=4, steps=5, seed=0))
    assert [len(batch) for batch in batches] == [4] * 5
    order = [index for batch in batches for index, _ in batch]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]
    assert [position for batch in batches for _, position in batch] == list(range(20))


def test_a_resumed_training_goes_on_where_it_stopped():
    whole = list(TrainBatches(10, 4, 12, seed=3))
    resumed = TrainBatches(10, 4, 12, seed=3, start_step=7)
    assert list(resumed) == whole[7:]
    assert len(resumed) == 12
    assert list(resumed) == whole[7:]
    assert list(TrainBatches(10, 4, 12, seed=3, start_step=12)) == []


def test_the_seed_sets_the_order():
    assert list(TrainBatches(50, 5, 4, seed=1)) == list(TrainBatches(50, 5, 4, seed=1))
    assert list(TrainBatches(50, 5, 4, seed=1)) != list(TrainBatches(50, 5, 4, seed=2))


def test_ranks_share_a_step_as_one_process_would_have_it():
    whole = list(TrainBatches(30, 6, 8, seed=1))
    ranks = [list(TrainBatches(30, 2, 8, seed=1, rank=rank, world_size=3)) for rank in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*ranks, strict=True)] == whole


def test_a_batch_may_be_larger_than_the_set():
    (batch,) = TrainBatches(size=3, batch_size=8, steps=1, seed=0)
    order = [index for index, _ in batch]
    assert sorted(order[:3]) == sorted(order[3:6]) == [0, 1, 2]


@pytest.mark.parametrize(
    "arguments", [{"size": 0}, {"batch_size": 0}, {"start_step": 9}, {"rank": 1}, {"start_step": -1}]
)
def test_arguments_that_give_no_batches_are_refused(arguments):
    with pytest.raises(ValueError, match=r"no batches|rank"):
        TrainBatches(**{"size": 4, "batch_size": 2, "steps": 8, "seed": 0} | arguments)
