"""A seeded choice of what to hold out."""

from collections.abc import Sequence

from detnas_nni.util.seeding import derive_seed


def seeded_choice(keys: Sequence[str], count: int, seed: int) -> list[int]:
    """Positions of `count` of the `keys` (unique), chosen by `seed`, in ascending order.

    The choice follows the keys, not their order or number: a key that is among the first `count` stays chosen
    when others are reordered, so a held-out split survives a re-export of the annotations.
    """
    ranked = sorted(range(len(keys)), key=lambda position: derive_seed(seed, "hold-out", keys[position]))
    return sorted(ranked[:count])
