"""What there is to compute on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from detnas_nni.errors import ConfigError


@dataclass(frozen=True)
class Machine:
    """Attributes:
    cores: CPU cores that this process may use.
    gpus: their number, 0 for a CPU.
    gpu_name: of the first.
    gpu_memory: GB, of the smallest.
    """

    cores: int
    gpus: int = 0
    gpu_name: str = ""
    gpu_memory: float = 0.0

    @classmethod
    def here(cls, device: str = "auto") -> Machine:
        """This one. ConfigError if a GPU is asked for and there is none."""
        import torch  # seconds

        cores = len(os.sched_getaffinity(0))
        count = 0 if device == "cpu" else torch.cuda.device_count()
        if device == "cuda" and not count:
            raise ConfigError("--device cuda, but torch finds no GPU; use auto or cpu")
        if not count:
            return cls(cores)
        gpus = [torch.cuda.get_device_properties(number) for number in range(count)]
        return cls(cores, count, gpus[0].name, min(gpu.total_memory for gpu in gpus) / 1e9)

    def __str__(self) -> str:
        cores = f"{self.cores} CPU core{'s' if self.cores != 1 else ''}"
        if not self.gpus:
            return f"{cores}, no GPU"
        return f"{self.gpus} x {self.gpu_name} ({self.gpu_memory:.0f} GB), {cores}"
