"""Where torch computes, as the config's `hardware` section says."""

from __future__ import annotations

import torch

from detnas_nni.config import Hardware
from detnas_nni.errors import ConfigError


def prepare(hardware: Hardware) -> torch.device:
    """Set torch's threads and return the device; ConfigError if a GPU is asked for and there is none."""
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    return torch.device("cuda" if uses_gpu(hardware) else "cpu")


def uses_gpu(hardware: Hardware) -> bool:
    """Whether torch computes on a GPU; ConfigError if one is asked for and there is none."""
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("hardware.device is cuda, but torch finds no GPU; use auto or cpu")
    return hardware.device != "cpu" and torch.cuda.is_available()
