"""`detnas latency`: measures a latency table, and how well it predicts nets that it was not made from."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detnas_nni.architecture import Ops
from detnas_nni.config import Config, Hardware
from detnas_nni.config.run_folder import LATENCY
from detnas_nni.cost.deployed import measure_deployed
from detnas_nni.cost.latency_check import checked, draw_apart, expect_rounds, typical
from detnas_nni.cost.latency_table import TORCH, Conditions, LatencyTable
from detnas_nni.cost.stopwatch import ChangingTrunk, Laps, Stopwatch, device_name, no_garbage_collection
from detnas_nni.errors import UsageError
from detnas_nni.models.hardware import prepare

_log = logging.getLogger(__name__)


_WARM_UP = 3  # rounds that do not count: libraries choose their kernels, caches fill
_CHECKED_EVERY = 2  # a net that is set aside is measured in every second round


@dataclass
class Measurements:
    """Measurements of all rounds, in microseconds."""

    laps: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """candidates by (block, op), within passes of random architectures"""
    wholes: list[tuple[Ops, float]] = field(default_factory=list)
    """passes of the same architectures without marks"""
    set_aside: dict[Ops, list[float]] = field(default_factory=dict)
    """passes of other architectures"""


def measure_latency(
    space: str,
    options: Mapping[str, Any] | None = None,
    *,
    resolution: int,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    rounds: int = 200,
    check: int = 30,
    seed: int = 0,
) -> LatencyTable:
    """Measure every candidate of every block in its place, with torch's current number of threads.

    Args:
        space: its name.
        options: the trunk's.
        resolution: side of the square images, in pixels.
        batch_size: images per forward pass.
        device: where it is measured, and for which the table holds.
        rounds: how often each candidate is measured.
        check: random architectures that are set aside, measured as whole nets in the same rounds, and
            predicted; at most a hundredth of the space.
        seed: for the architectures.

    Raises `UsageError` for a fixed net or too few rounds, and `SpaceError` like `search_spaces.build_trunk`.
    """
    expect_rounds(rounds)
    device, options = torch.device(device), dict(options or {})
    trunk = ChangingTrunk(space, options, resolution, device)
    measured = _measure(trunk, resolution, batch_size, rounds, check, np.random.default_rng(seed))
    rest, blocks = _table(trunk.sizes, measured)
    conditions = Conditions(
        space,
        options,
        resolution,
        batch_size,
        device_name(device),
        torch.get_num_threads(),
        torch.__version__,
    )
    table = LatencyTable(conditions, rest, blocks, passes=2 * len(measured.wholes))
    return LatencyTable(conditions, rest, blocks, checked(table, measured.set_aside), table.passes)


@torch.inference_mode()
def _measure(
    trunk: ChangingTrunk,
    resolution: int,
    batch_size: int,
    rounds: int,
    check: int,
    rng: np.random.Generator,
) -> Measurements:
    stopwatch = Stopwatch(trunk.device)
    laps = Laps(stopwatch)
    modules = {
        (block, op): of_op
        for block, of_block in enumerate(trunk.candidates())
        for op, of_op in enumerate(of_block)
    }
    image = torch.randn(batch_size, 3, resolution, resolution).to(trunk.device)
    set_aside = draw_apart(trunk.sizes, check, rng)
    measured = Measurements(set_aside={ops: [] for ops in set_aside})

    def pass_in_laps(ops: Ops) -> None:
        trunk.become(ops)
        with laps.running({(block, op): modules[block, op] for block, op in enumerate(ops)}):
            stopwatch.whole(trunk.net, image)
        for name, microseconds in laps.take().items():
            measured.laps[name].append(microseconds)

    def whole_pass(ops: Ops) -> float:
        trunk.become(ops)
        return stopwatch.whole(trunk.net, image)

    with no_garbage_collection():
        for number in range(-_WARM_UP, rounds):
            if number == 0:
                measured.laps.clear()
                measured.wholes.clear()
            for ops in _group(trunk.sizes, measured.set_aside.keys(), rng):
                pass_in_laps(ops)
                measured.wholes.append((ops, whole_pass(ops)))
            turn = set_aside[number % _CHECKED_EVERY :: _CHECKED_EVERY] if number >= 0 else []
            for index in rng.permutation(len(turn)).tolist():
                measured.set_aside[turn[index]].append(whole_pass(turn[index]))
            if number >= 0 and (number + 1) % max(1, rounds // 4) == 0:
                _log.info("latency: round %d of %d", number + 1, rounds)
    return measured


def _group(sizes: Sequence[int], without: Any, rng: np.random.Generator) -> list[Ops]:
    """Random architectures in which each block has each of its candidates, about equally often."""
    passes = max(sizes)
    while True:
        columns = [rng.permutation(np.arange(passes) % size).tolist() for size in sizes]
        group = list(zip(*columns, strict=True))
        if not any(ops in without for ops in group):
            return group


def _table(sizes: Sequence[int], measured: Measurements) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """What whole passes take beyond the sums of their candidates; and the time of each candidate."""
    blocks = tuple(
        tuple(round(typical(measured.laps[block, op])) for op in range(size))
        for block, size in enumerate(sizes)
    )
    rest = typical(
        [
            microseconds - sum(row[op] for row, op in zip(blocks, ops, strict=True))
            for ops, microseconds in measured.wholes
        ]
    )
    return round(rest), blocks


@dataclass(frozen=True)
class Order:
    """What to measure."""

    space: str
    options: dict[str, Any]
    """the trunk's"""
    resolution: int
    """side of the square images, in pixels"""
    hardware: Hardware
    out: Path
    """the table's file"""
    runtime: str = TORCH

    @classmethod
    def of_config(cls, config: Config) -> Order:
        """An experiment's space, at its constraint's resolution, and the file that it names, if any."""
        limits = config.search.constraint
        out = limits.latency_table or config.run_dir / LATENCY
        given = (config.space.name, config.space.options, limits.resolution, config.hardware)
        return cls(*given, out, limits.latency_runtime)

    @classmethod
    def of_space(cls, space: str, resolution: int | None) -> Order:
        """A space by name, with its trunk's default options, and a file in the working directory."""
        if resolution is None:
            raise UsageError("--space needs --resolution, the side of the images in pixels")
        out = Path(f"latency-{space.replace(':', '-')}-{resolution}.json")
        return cls(space, {}, resolution, Hardware(), out)

    def changed(
        self,
        *,
        resolution: int | None = None,
        device: str | None = None,
        threads: int | None = None,
        out: Path | None = None,
        runtime: str | None = None,
    ) -> Order:
        """The order with the values that are not None instead of its own."""
        hardware = {
            key: value for key, value in (("device", device), ("threads", threads)) if value is not None
        }
        return replace(
            self,
            resolution=resolution or self.resolution,
            hardware=self.hardware.model_copy(update=hardware),
            out=out or self.out,
            runtime=runtime or self.runtime,
        )

    def measure(self, *, batch_size: int = 1, rounds: int, check: int) -> LatencyTable:
        """Measure and write; arguments and errors as for `measure_latency` and `measure_deployed`.

        Raises ConfigError for a missing GPU, UsageError for a runtime that is not installed.
        """
        device = prepare(self.hardware)
        numbers = {"resolution": self.resolution, "batch_size": batch_size, "rounds": rounds, "check": check}
        if self.runtime == TORCH:
            table = measure_latency(self.space, self.options, device=device, **numbers)
        else:
            table = measure_deployed(self.space, self.options, runtime=self.runtime, **numbers)
        table.save(self.out)
        return table


def summary(table: LatencyTable, path: Path) -> str:
    """A few lines for the terminal."""
    made_for = table.conditions
    least, most = (table.rest_us + sum(pick(row) for row in table.blocks_us) for pick in (min, max))
    check = table.check or "none: no net was set aside (because of --check, or the space is small)"
    runtime = "" if made_for.runtime == TORCH else f"  runtime {made_for.runtime}\n"
    return (
        f"{path}\n"
        f"  space   {made_for.space}, {made_for.resolution} px, batch of {made_for.batch_size}\n"
        f"  device  {made_for.device}, threads: {made_for.threads}, torch {made_for.torch}\n"
        f"{runtime}"
        f"  range   {least / 1000:.2f} to {most / 1000:.2f} ms\n"
        f"  check   {check}{_ways(table)}"
    )


def _ways(table: LatencyTable) -> str:
    """By which of two ways the table was made, if both were tried."""
    if table.other_check is None:
        return ""
    ways = ("sums of blocks", "a regression over whole nets")
    taken, other = ways if table.made_from == "blocks" else ways[::-1]
    return f"\n  made    by {taken}; by {other} the check gave: {table.other_check}"
