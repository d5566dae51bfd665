"""What a search will need from a trunk, checked before hours of training and not after them.

The built-in spaces are known to have it. A user's own trunk may lack labels, have candidates that give
different shapes, or do what cannot be counted.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass

import torch
from nni.nas.space import model_context

from detnas_nni.config import Config
from detnas_nni.cost.deployed import exported
from detnas_nni.cost.table import CostTable, cost_table
from search_spaces import BUILT_IN, layout
from search_spaces.trunk import TrunkSpace

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Searchable:
    """A user's own trunk that can be searched.

    Attributes:
        table: what its candidates cost.
        not_exported: why it has no ONNX file; None if it has one, or if it is not known.
        tried: whether an export was tried.
    """

    table: CostTable
    not_exported: str | None
    tried: bool

    def __str__(self) -> str:
        table = self.table
        least, most = (
            table.base.macs + sum(pick(cost.macs for cost in row) for row in table.blocks)
            for pick in (min, max)
        )
        exports = "exports to ONNX" if self.tried else "an export to ONNX was not tried: no package onnx"
        if self.not_exported is not None:
            exports = f"does not export to ONNX: {self.not_exported}"
        return (
            f"{table.space}: {len(table.blocks)} blocks, {least / 1e6:.1f} to {most / 1e6:.1f} million MACs "
            f"at {table.resolution} px; {exports}"
        )


def check_searchable(config: Config) -> Searchable | None:
    """Check a user's own trunk, in seconds, and log what was found; None for a built-in space.

    Raises SpaceError, in one sentence, if a search would refuse the trunk: for its labels, for candidates
    that give different shapes, for costs that cannot be counted or do not add up.
    """
    space = config.space.name
    if space in BUILT_IN:
        return None
    table = cost_table(space, config.search.constraint.resolution)
    tried = importlib.util.find_spec("onnx") is not None
    found = Searchable(table, _why_not_exported(config) if tried else None, tried)
    _log.log(logging.INFO if found.not_exported is None else logging.WARNING, "%s", found)
    return found


def _why_not_exported(config: Config) -> str | None:
    """The exporter's first complaint about nets that together have every candidate; None if it has none."""
    space, choices = config.space, layout(config.space.name)
    image = torch.rand(1, 3, *(config.search.constraint.resolution,) * 2)
    for number in range(max(len(choice.candidates) for choice in choices)):
        path = {choice.label: choice.candidates[number % len(choice.candidates)] for choice in choices}
        with torch.random.fork_rng(devices=[]), model_context(path):
            net = TrunkSpace(space.name, **space.options).eval()
        try:
            exported(net, [image])
        except Exception as error:  # whatever the exporter, or the trunk in it, raises
            reason = str(error).strip().splitlines()
            return f"{type(error).__name__}: {reason[0]}" if reason else type(error).__name__
    return None
