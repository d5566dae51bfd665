"""What a finished net is: all that is needed to rebuild it around its weights, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from detnas_nni.architecture import Architecture
from detnas_nni.config import Detector, Section
from detnas_nni.errors import ArchitectureError, CheckpointError

Part = Literal["detector", "backbone"]
"""A whole detector, or its trunk alone."""

BACKGROUND = "__background__"
"""torchvision's name of label 0, which no detection has."""

PREPROCESSING = (
    "RGB, float32, 0 to 1, channels first, any size; resizing, the order of the channels and the scale that "
    "the net was trained with are computed inside"
)
"""What every finished net takes, whatever its format."""


class Description(Section):
    """A finished net without its weights."""

    format: Literal[1] = 1
    part: Part
    space: str
    ops: tuple[int, ...]
    options: dict[str, Any]
    """keyword arguments of the trunk"""
    detector: Detector | None = None
    """None for a backbone"""
    names: tuple[str, ...] = ()
    """of the K classes, in the order of their labels from 1; none for a backbone"""
    category_ids: tuple[int | str, ...] = ()
    """their ids in the training data, as its files have them"""
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _parts_agree(self) -> Description:
        if self.part == "detector" and not (self.detector and self.names):
            raise ValueError("a detector has settings and classes")
        if len(self.category_ids) != len(self.names):
            raise ValueError(f"{len(self.category_ids)} category ids of {len(self.names)} classes")
        return self

    @property
    def architecture(self) -> Architecture:
        """Raises ArchitectureError if the ops are none of the space."""
        return Architecture(self.space, self.ops)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label; label 0 is the background. Empty for a backbone."""
        return (BACKGROUND, *self.names) if self.names else ()

    def backbone(self) -> Description:
        """Of the trunk alone."""
        return self.model_copy(update={"part": "backbone", "detector": None, "names": (), "category_ids": ()})


def read_description(text: str, source: Path, trusted: tuple[str, ...] = ()) -> Description:
    """From JSON. Raises CheckpointError that names the file.

    Args:
        text: what `Description.model_dump_json` gave.
        source: the file it comes from.
        trusted: spaces "package.module:factory" whose code may be imported; no file gets others' code run.
    """
    try:
        description = Description.model_validate_json(text, strict=True)
        expect_trusted(description.space, source, trusted)
        _ = description.architecture
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "all of it"
        raise CheckpointError(f"{source}: the net's description is damaged: {key}: {first['msg']}") from None
    except ArchitectureError as error:
        raise CheckpointError(f"{source}: the net's description is damaged: {error}") from None
    return description


def expect_trusted(space: str, source: Path, trusted: tuple[str, ...]) -> None:
    """Raise CheckpointError for a space that names code which the user has not named, too."""
    if ":" in space and space not in trusted:
        raise CheckpointError(
            f"{source}: a net of the space {space!r}, which names code, and no file gets code run: if you "
            "trust it, pass the config that names it (-c), or trusted=(…,) in Python"
        )
