"""What the sections of a config are made of: their base class, paths, and numbers with a range."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Environment variables filled in, and a relative path resolved from the config file's folder."""

    def variable(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise ValueError(f"the environment variable {match[1]} is not set")
        return value

    filled_in = Path(re.sub(r"\$\{(\w+)\}", variable, str(path)))
    try:
        expanded = filled_in.expanduser()
    except RuntimeError:
        raise ValueError("there is no such home folder") from None
    folder = (info.context or {}).get("folder", Path.cwd())
    return Path(os.path.normpath(folder / expanded))


def _ops(value: object) -> tuple[int, ...]:
    """Text with commas, a list, or the one number of a net of one block, as a tuple."""
    ops = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        ops = [int(part) if part.strip().isdecimal() else part for part in value.split(",")]
    if not ops or any(type(op) is not int or op < 0 for op in ops):
        raise ValueError(
            "expected an architecture's ops, one whole number per block: a list, or text with commas such as "
            "1,0,2 (a file of an architecture has them as `ops`)"
        )
    return tuple(ops)


ConfigPath = Annotated[Path, AfterValidator(_resolve)]
Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpsText = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), BeforeValidator(_ops)]
"""An architecture's ops: a list of integers, or text with commas, as `--ops` takes it."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class Section(BaseModel):
    """A part of the config: no unknown keys, immutable, every number finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
