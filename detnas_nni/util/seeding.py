"""Independent random streams from the one seed of a config."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: int | str) -> int:
    """A 63-bit seed derived from the seed and its purpose, such as ("augmentation", 17).

    Streams of different purposes are independent, so that drawing more of one never shifts another; a
    step's stream depends on its number alone, so that a resumed training needs no saved generator.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: int | str) -> np.random.Generator:
    """A separate NumPy generator for a purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))
