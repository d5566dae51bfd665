"""A trunk that takes its time in the first allocation of a Slurm job, so that the limit meets it at work."""

import os
import time
from collections import OrderedDict

from torch import Tensor, nn

from tests.search_spaces.foreign import MobileTrunk

SECONDS = 1.0
"""More than a step's; no number of the training depends on it."""


class UnhurriedTrunk(MobileTrunk):
    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        if self.training and "SLURM_JOB_ID" in os.environ and "SLURM_RESTART_COUNT" not in os.environ:
            time.sleep(SECONDS)
        return super().forward(x)


def trunk() -> nn.Module:
    return UnhurriedTrunk()
