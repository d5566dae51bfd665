"""What an annotation file says, before anything is decided, and how to read what it leaves open."""

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
    """How to read what annotations leave open; the config's keys of the same names.

    Attributes:
        exif: which way up photos are meant.
        box_form, box_units: what a box's four numbers are.
        crowds: whether `iscrowd` boxes are crowds, or objects as CVAT exports those drawn with its brush.
        strict: whether a correction is an error.
        scan: whether every image file is opened, to tell of what needs no correction.
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
        """For another split of the same data, which is read as the training split was where it can be."""
        return replace(self, hint=training.reading)


DEFAULT = Conventions()
"""As annotations tell, and by the tools' conventions where they do not."""


@dataclass
class Entries:
    """The images of an annotation file and their boxes, as they are written: M images, N boxes.

    Attributes:
        source: the file, for messages.
        declared: what the form says of a box's four numbers.
        key_of: takes a box's number in the file, gives its key for messages.
        listed: images that the file has, good or not.
        ids, files, sizes: of the images; a size that is to be read from the picture is (0, 0).
        image: the place of each box's image among them.
        label: from 1 on.
        values: four numbers a box, one after the other.
        area: square pixels; NaN where none is stated.
        position: a box's number in the file.
        beside: what is marked, of the boxes of which something is, by their place.
        around: places of the boxes that are x, y, width, height in pixels whatever the others are.
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
        """Its place."""
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
        """A box in an image; arguments as of the attributes."""
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
