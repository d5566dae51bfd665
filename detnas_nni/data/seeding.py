"""Seeds derived from seeds: every draw has a stream of its own, the same on every machine and version."""

import hashlib
from collections.abc import Sequence


def derived_seed(*parts: int | str) -> int:
    """Mix `parts` (a seed and what tells this draw from others) into one seed in [0, 2^63).

    A cryptographic hash rather than arithmetic: neighbouring seeds and positions get unrelated streams, and
    the value does not change with the version of torch or numpy.
    """
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seeded_choice(keys: Sequence[str], count: int, seed: int) -> list[int]:
    """Positions of `count` of the `keys` (unique), chosen by `seed`, in ascending order.

    The choice follows the keys, not their order or number: a key that is among the first `count` stays chosen
    when others are reordered, so a held-out split survives a re-export of the annotations.
    """
    ranked = sorted(range(len(keys)), key=lambda position: derived_seed(seed, keys[position]))
    return sorted(ranked[:count])
