"""A published net with half of the inner channels where that saves most: plain pruning to a limit on MACs."""

from __future__ import annotations

from detnas_nni.architecture import Ops
from detnas_nni.cost.table import cost_table
from search_spaces import LITE
from search_spaces.sizes import LITE_CANDIDATES

HALF = LITE_CANDIDATES.index("mbconv_3x3_half")


def published_macs(space: str) -> int:
    """The MACs of the net that a space is built around, backbone convention, at 224 pixels."""
    return cost_table(space).cost(LITE[space].published_ops).macs


def narrowed(space: str, max_macs: int) -> Ops:
    """The published net of a space around one, narrowed to a limit on MACs.

    One block after another becomes the 3x3 candidate of half the inner channels, that which saves most first.
    The net may exceed the limit even with all of them.
    """
    table, ops = cost_table(space), list(LITE[space].published_ops)
    while table.cost(ops).macs > max_macs:
        saved = [row[op].macs - row[HALF].macs for row, op in zip(table.blocks, ops, strict=True)]
        most = max(range(len(ops)), key=saved.__getitem__)
        if saved[most] <= 0:
            break
        ops[most] = HALF
    return tuple(ops)
