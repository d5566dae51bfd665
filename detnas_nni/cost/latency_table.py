"""The latency of every architecture of a space on one device: one number per candidate, and its file.

Importing this is cheap: no torch. Numbers are whole microseconds, so that sums, and a search within a limit,
are exact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detnas_nni.errors import LatencyError
from detnas_nni.util.files import write_json
from search_spaces import all_options, layout

TORCH = "torch"
"""Eager torch, as a runtime."""

FORMAT = 1
"""The version of the file format that this package reads and writes."""

_MAX_FILE_BYTES = 1_000_000  # a table of 40 blocks has 5,000

# Ten minutes per block: far above any latency, and sums stay well within 64 bits.
_Microseconds = Annotated[int, Field(ge=0, le=600_000_000)]
_Rest = Annotated[int, Field(ge=-600_000_000, le=600_000_000)]
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_Positive = Annotated[int, Field(ge=1)]


MadeFrom = Literal["blocks", "whole nets"]


@dataclass(frozen=True)
class Check:
    """How well the table predicts whole nets that it was not made from."""

    __pydantic_config__ = _STRICT

    architectures: int
    """number of random ones, each measured as a whole"""
    median_error: float
    """of |predicted - measured| / measured"""
    worst_error: float
    kendall_tau: float
    """of the two rankings: 1 if they are the same, about 0 if they are unrelated"""
    noise: float
    """median relative difference between the halves of a net's measurements: smaller errors mean nothing"""
    fastest_ms: float
    """the lowest measurement"""
    slowest_ms: float

    def __str__(self) -> str:
        return (
            f"median error {self.median_error:.1%}, worst {self.worst_error:.1%}, Kendall's tau "
            f"{self.kendall_tau:.2f} over {self.architectures} random nets of {self.fastest_ms:.2f} to "
            f"{self.slowest_ms:.2f} ms (noise {self.noise:.1%})"
        )


@dataclass(frozen=True)
class Conditions:
    """The conditions that latencies hold for."""

    __pydantic_config__ = _STRICT

    space: str
    options: dict[str, Any]
    """the trunk's"""
    resolution: _Positive
    """side of the square images, in pixels"""
    batch_size: _Positive
    device: str
    """the name of the GPU, or of the CPU"""
    threads: _Positive
    """torch's on the CPU"""
    torch: str
    """the version"""
    runtime: str = TORCH
    """what ran the net: eager torch, or for example `onnxruntime 1.32.0`, maybe with `-cuda`, `-tensorrt`"""

    @property
    def runtime_name(self) -> str:
        """Without the version, as a config names it."""
        return self.runtime.partition(" ")[0]

    def to_dict(self) -> dict[str, Any]:
        """Eager torch is not mentioned, so that its tables stay as they were."""
        values = asdict(self)
        if self.runtime == TORCH:
            del values["runtime"]
        return values


@dataclass(frozen=True)
class LatencyTable:
    """The latency of a backbone's forward pass, as a sum over its blocks."""

    conditions: Conditions
    rest_us: int
    """stem and everything else outside the blocks"""
    blocks_us: tuple[tuple[int, ...], ...]
    """for each block and op"""
    check: Check | None = None
    """None if no architecture was set aside"""
    passes: int = 0
    """forward passes that it was made from"""
    made_from: MadeFrom = "blocks"
    """measured blocks, or a regression over whole nets"""
    other_check: Check | None = None
    """that of the way that predicts worse, if both were tried"""

    def predict(self, ops: Sequence[int]) -> int:
        """Microseconds of a forward pass of one batch; the ops are assumed to fit."""
        return self.rest_us + sum(row[op] for row, op in zip(self.blocks_us, ops, strict=True))

    @property
    def fingerprint(self) -> str:
        """A hash of the predictions and their conditions, without the check."""
        content = [self.conditions.to_dict(), self.rest_us, self.blocks_us]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the JSON file, folders included, with the candidates' names next to their numbers."""
        choices = layout(self.conditions.space)
        blocks = {
            choice.label: dict(zip(map(str, choice.candidates), row, strict=True))
            for choice, row in zip(choices, self.blocks_us, strict=True)
        }
        check = {} if self.check is None else {"check": asdict(self.check)}
        if self.other_check is not None:
            check["other_check"] = asdict(self.other_check)
        if self.made_from != "blocks":
            check["made_from"] = self.made_from
        write_json(
            path,
            {
                "format": FORMAT,
                "conditions": self.conditions.to_dict(),
                **check,
                "passes": self.passes,
                "rest_us": self.rest_us,
                "blocks_us": blocks,
            },
        )


class _File(BaseModel):
    """The file's JSON object."""

    model_config = _STRICT

    format: Literal[1]
    conditions: Conditions
    check: Check | None = None
    other_check: Check | None = None
    made_from: MadeFrom = "blocks"
    passes: int = 0
    rest_us: _Rest
    blocks_us: dict[str, dict[str, _Microseconds]]


def read_latency_table(
    path: Path, *, space: str, options: Mapping[str, Any] | None = None, runtime: str | None = None
) -> LatencyTable:
    """The table in a file, which has to be for this space and, unless None, these trunk options and this
    runtime.

    The file's space is compared and never imported. Raises `LatencyError` that names the file if it is
    missing, damaged, or for another space, other options or another runtime.
    """
    file = _parse(path, _read(path))
    made_for = file.conditions
    if made_for.space != space:
        raise _refused(path, f"for the space {made_for.space!r}, but {space!r} is needed")
    if options is not None and all_options(space, made_for.options) != all_options(space, options):
        raise _refused(
            path, f"for a trunk with the options {made_for.options}, but {dict(options)} are needed"
        )
    if runtime is not None and made_for.runtime_name != runtime:
        raise LatencyError(
            f"{path}: measured with the runtime {made_for.runtime_name!r}, but "
            f"search.constraint.latency_runtime is {runtime!r}; set that to {made_for.runtime_name}, or "
            f"measure a table with `detnas latency --runtime {runtime} --out FILE`"
        )
    choices = layout(space)
    if list(file.blocks_us) != [choice.label for choice in choices]:
        raise _refused(path, f"key 'blocks_us' needs the {len(choices)} blocks of {space!r}, in their order")
    for choice in choices:
        if list(file.blocks_us[choice.label]) != list(map(str, choice.candidates)):
            raise _refused(
                path,
                f"key 'blocks_us.{choice.label}' needs the candidates "
                f"{', '.join(map(str, choice.candidates))}, in that order",
            )
    blocks = tuple(tuple(row.values()) for row in file.blocks_us.values())
    return LatencyTable(
        made_for, file.rest_us, blocks, file.check, file.passes, file.made_from, file.other_check
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise LatencyError(
            f"{path}: cannot be read ({error.strerror}); `detnas latency --out FILE` measures such a table"
        ) from None
    if len(content) > _MAX_FILE_BYTES:
        raise LatencyError(f"{path}: larger than {_MAX_FILE_BYTES:,} bytes; this is not a latency table")
    return content


def _parse(path: Path, content: bytes) -> _File:
    try:
        return _File.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise _refused(path, f"key {key!r}: {first['msg']}" if key else first["msg"]) from None


def _refused(path: Path, what: str) -> LatencyError:
    return LatencyError(f"{path}: {what}; measure a table with `detnas latency --out FILE`")
