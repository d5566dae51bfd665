"""Latency tables by hand, and their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detnas_nni.cost.latency_table import Check, Conditions, LatencyTable
from search_spaces import layout

FOREIGN = LatencyTable(
    Conditions("foreign:mobile", {}, 64, 1, "a board", 1, "2.0"), 50, ((10, 20), (5, 6, 7))
)
"""Of a trunk that is not ours."""

CHECK = Check(30, 0.021, 0.08, 0.93, 0.01, 3.1, 6.2)


def by_hand(**conditions: Any) -> LatencyTable:
    """Block b's op o takes 100 + 10 b + 7 o + 50 (o is the last) microseconds; 900 are in no block."""
    values = {
        "space": "tiny",
        "options": {},
        "resolution": 224,
        "batch_size": 1,
        "device": "a board",
        "threads": 1,
        "torch": "2.0",
    }
    blocks = tuple(
        tuple(100 + 10 * block + 7 * op + 50 * (op == 3) for op in range(4))
        for block in range(len(layout("tiny")))
    )
    return LatencyTable(Conditions(**values | conditions), 900, blocks, CHECK, 160)


def changed_file(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The table's file with one thing changed in its JSON object."""
    by_hand().save(path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path
