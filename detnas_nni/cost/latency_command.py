"""`detnas latency`: what is measured, of an experiment or of a space by its name, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detnas_nni.config import Config, Hardware
from detnas_nni.cost.latency import measure_latency
from detnas_nni.cost.latency_table import LatencyTable
from detnas_nni.errors import UsageError
from detnas_nni.models.hardware import prepare


@dataclass(frozen=True)
class Order:
    """What is to be measured."""

    space: str
    options: dict[str, Any]
    """of the trunk"""
    resolution: int
    """side of the square images, in pixels"""
    hardware: Hardware
    out: Path
    """the table's file"""

    @classmethod
    def of_config(cls, config: Config) -> Order:
        """An experiment's space, at its constraint's resolution, into the file that it names, if it does."""
        limits = config.search.constraint
        out = limits.latency_table or config.run_dir / "latency.json"
        return cls(config.space.name, config.space.options, limits.resolution, config.hardware, out)

    @classmethod
    def of_space(cls, space: str, resolution: int | None) -> Order:
        """A space by its name, with its trunk's default options, into a file in the working directory."""
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
    ) -> Order:
        """With what is not None in place of its own."""
        hardware = {
            key: value for key, value in (("device", device), ("threads", threads)) if value is not None
        }
        return replace(
            self,
            resolution=resolution or self.resolution,
            hardware=self.hardware.model_copy(update=hardware),
            out=out or self.out,
        )

    def measure(self, *, batch_size: int = 1, rounds: int, check: int) -> LatencyTable:
        """Measure and write; arguments and errors as of `measure_latency`, ConfigError for a missing GPU."""
        table = measure_latency(
            self.space,
            self.options,
            resolution=self.resolution,
            batch_size=batch_size,
            device=prepare(self.hardware),
            rounds=rounds,
            check=check,
        )
        table.save(self.out)
        return table


def summary(table: LatencyTable, path: Path) -> str:
    """A few lines for the terminal."""
    made_for = table.conditions
    least, most = (table.rest_us + sum(pick(row) for row in table.blocks_us) for pick in (min, max))
    check = table.check or "none: no net was set aside (by --check, or since the space has few)"
    return (
        f"{path}\n"
        f"  space   {made_for.space}, {made_for.resolution} px, batch of {made_for.batch_size}\n"
        f"  device  {made_for.device}, threads: {made_for.threads}, torch {made_for.torch}\n"
        f"  range   {least / 1000:.2f} to {most / 1000:.2f} ms\n"
        f"  check   {check}"
    )
