"""A published net with half of the inner channels where that saves most: plain pruning to a limit on MACs."""

from __future__ import annotations

from detnas_nni.architecture import Ops
from detnas_nni.cost.table import cost_table
from search_spaces import LITE
from search_spaces.sizes import LITE_CANDIDATES

HALF = LITE_CANDIDATES.index("mbconv_3x3_half")


def narrowed(space: str, share: float) -> tuple[Ops, int]:
    """The published net of a space around one, within a share of its MACs, and how many that is.

    One block after another becomes the 3x3 candidate of half the inner channels, that which saves most first.
    The net may exceed the limit even with all of them.
    """
    table, ops = cost_table(space), list(LITE[space].published_ops)
    limit = int(share * table.cost(ops).macs)
    while table.cost(ops).macs > limit:
        saved = [row[op].macs - row[HALF].macs for row, op in zip(table.blocks, ops, strict=True)]
        most = max(range(len(ops)), key=saved.__getitem__)
        if saved[most] <= 0:
            break
        ops[most] = HALF
    return tuple(ops), limit
