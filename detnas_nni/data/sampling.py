"""Which images each step of a training sees."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from detnas_nni.util.seeding import derive_seed


class TrainBatches(Sampler[list[tuple[int, int]]]):
    """Batches for a training that is counted in steps, as a pure function of the seed and the step.

    The data set is gone through in one permutation after another, each from a generator of its own, seeded by
    (seed, epoch). Batches run on across the end of a permutation, so none is short, whatever the sizes. Since
    step k depends on nothing before it, a training resumes at k without any stored state.

    An item is (index, position): the position in the whole training, over all ranks, from which the data set
    seeds the item's augmentation.

    Args:
        size: images in the data set.
        batch_size: images a step on one rank.
        steps: steps of the whole training; also the length, if it starts later: Lightning counts batches from
            the start of the training when it resumes.
        seed: the config's seed.
        start_step: the step to begin with; `steps - start_step` batches come out.
        rank, world_size: this process's place; ranks take disjoint slices of the global batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        steps: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if size < 1 or batch_size < 1 or steps < 0 or not 0 <= start_step <= steps:
            raise ValueError(
                f"no batches of {batch_size} out of {size} images from step {start_step} to {steps}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in 0..{world_size - 1}")
        self.size = size
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.start_step = start_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, []
        for step in range(self.start_step, self.steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = self._permutation(epoch)
                batch.append((int(order[position % self.size]), position))
            yield batch

    def _permutation(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        return torch.randperm(self.size, generator=generator)
