"""What an annotation file says, before anything is decided, and how to read ambiguous values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from detnas_nni.data.corrections.orientation import Exif
from detnas_nni.data.corrections.scales import Units
from detnas_nni.data.corrections.units import Form, Reading
from detnas_nni.data.corrections.values import Beside, Id
from detnas_nni.data.records import DetectionSet

MAX_SIDE = 2**24
"""Pixels; whole numbers up to here are exact in the float32 of the boxes."""

MAX_AREA = 1e30  # well inside float32


@dataclass(frozen=True)
class Conventions:
    """How to read ambiguous annotations; the config's keys of the same names.

    Attributes:
        exif: which way up photos are.
        box_form, box_units: what a box's four numbers are.
        crowds: whether `iscrowd` boxes are crowds, or objects drawn with CVAT's brush.
        strict: whether a correction is an error.
        scan: whether to open every image file, to report also what needs no correction.
        hint: how the training split was read.
    """

    exif: Exif = "auto"
    box_form: Form | Literal["auto"] = "auto"
    box_units: Units | Literal["auto"] = "auto"
    crowds: Literal["ignored", "objects"] = "ignored"
    strict: bool = False
    scan: bool = False
    hint: Reading | None = None

    def following(self, training: DetectionSet) -> Conventions:
        """For another split of the same data, which is read like the training split where possible."""
        return replace(self, hint=training.reading)


DEFAULT = Conventions()
"""As the annotations indicate, and otherwise by the tools' conventions."""


@dataclass
class Entries:
    """The images of an annotation file and their boxes, as written: M images, N boxes.

    Attributes:
        source: the file, for messages.
        declared: what a box's four numbers are in this format.
        key_of: gives a box's key for messages from its number in the file.
        listed: images that the file has, good or not.
        ids, files, sizes: of the images; a size that has to be read from the image file is (0, 0).
        image: the index of each box's image among them.
        label: from 1 on.
        values: four numbers per box, one after the other.
        area: square pixels; NaN if not stated.
        position: a box's number in the file.
        beside: marks of the boxes that have any, by the box's index.
        around: indices of the boxes that are x, y, width, height in pixels whatever the others are.
    """

    source: Path
    declared: Form
    key_of: Callable[[int], str]
    listed: int
    ids: list[Id] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    image: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    beside: dict[int, Beside] = field(default_factory=dict)
    around: list[int] = field(default_factory=list)

    def add_image(self, own: Id, file: Path, size: tuple[int, int] | None) -> int:
        """Add an image and return its index."""
        self.ids.append(own)
        self.files.append(file)
        self.sizes.append(size or (0, 0))
        return len(self.ids) - 1

    def add_box(
        self,
        image: int,
        label: int,
        values: Sequence[float],
        position: int,
        *,
        area: float = float("nan"),
        beside: Beside | None = None,
        around: bool = False,
    ) -> None:
        """Add a box of an image; arguments as the attributes."""
        if beside is not None:
            self.beside[len(self.image)] = beside
        if around:
            self.around.append(len(self.image))
        self.image.append(image)
        self.label.append(label)
        self.values.extend(values)
        self.area.append(area)
        self.position.append(position)


def size_in_pixels(value: float | None) -> int | None:
    """A positive whole number of pixels; some tools write 640.0."""
    return int(value) if value is not None and 1 <= value < MAX_SIDE and value == int(value) else None
