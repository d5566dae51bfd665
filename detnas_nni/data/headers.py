"""An image file's header, without decoding the image: its size, which way up it is shown, its depth."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from detnas_nni.data.pixels import is_wide, orientation, stored_size

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
"""The formats of image sets. Some of Pillow's other readers run other programs (EPS: Ghostscript)."""

_log = logging.getLogger(__name__)

_SHOWN = 200  # characters of a library's warning


@dataclass(frozen=True)
class Header:
    """Attributes:
    stored: width and height as they are stored.
    orientation: EXIF's, 1 to 8.
    wide: whether it has more than 8 bits per value.
    """

    stored: tuple[int, int]
    orientation: int
    wide: bool

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as displayed."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored


def read_header(file: Path) -> Header | None:
    """A file's header; None if it is not an image. Pillow's warnings are left to whoever decodes it."""
    try:
        with file.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
            turn = orientation(image)
            return Header(stored_size(image, turn), turn, is_wide(image))
    except Exception:  # Pillow's readers raise nearly every type on damaged data
        return None


@contextmanager
def named_warnings(file: Path) -> Iterator[None]:
    """Log Pillow's warnings with the file's name, which they lack; each file once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        _tell(file, str(warning.message)[:_SHOWN])


@cache
def _tell(file: Path, text: str) -> None:
    _log.warning("%s: %s", file, text)
