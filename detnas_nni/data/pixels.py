"""A decoded image's values as 8 bits per colour, by one rule per mode; and which way up it is.

- 8 bits and less, palettes, CMYK: as Pillow converts them; transparency is dropped.
- 16 bits (I;16, and I within 0..65535): v >> 8, for the whole range of the type, as in libpng, in
  stb and in Pillow for 16 bits in colour. Not the range of the image: two images of one camera must not
  differ in brightness. A TIFF that declares 12 bits: v >> 4.
- Floats (F) within 0..1: times 255; within 0..255: rounded. Others are refused: their range is unknown.
"""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

_ORIENTATION = ExifTags.Base.Orientation
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF's tags
_WHITE_IS_ZERO = 0

# How an image is turned for each EXIF orientation; and what undoes it.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNDONE = {**_TURNS, 6: _TURNS[8], 8: _TURNS[6]}

_EXIF = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where a PNG may have it


class BadImageError(Exception):
    """An image file that cannot be used; the text says why, without the file's name."""


def is_wide(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits per value, which are scaled."""
    return image.mode == "F" or image.mode.startswith("I")


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB.

    Raises:
        BadImageError: its values have no known range; the mode is named.
    """
    return Image.fromarray(_eight_bits(image)).convert("RGB") if is_wide(image) else image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Grey values (H, W) uint8 of an image whose values are wider."""
    values = np.asarray(image)
    if not values.size:
        raise BadImageError("has no pixels")
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 255):
            raise BadImageError(
                f"has the mode F with values from {low:g} to {high:g}, expected 0 to 1 or 0 to 255; "
                "save it with 8 bits"
            )
        return np.rint(values * 255 if high <= 1 else values).astype(np.uint8)
    if low < 0 or high > 65535:
        raise BadImageError(
            f"has the mode {image.mode} with values from {low} to {high}, expected 16 bits, 0 to 65535; "
            "save it with 8 bits"
        )
    tags = getattr(image, "tag_v2", {})
    bits = (tags.get(_BITS_PER_SAMPLE) or (16,))[0]
    grey = (values >> (4 if bits == 12 else 8)).astype(np.uint8)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8, of an image not decoded yet; 1 if missing or invalid."""
    if image.format == "PNG" and not _EXIF & image.info.keys():
        return 1  # Pillow would decode the whole image to look for EXIF after it
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF is its own format, and can be damaged in as many ways
        return 1
    return value if value in _TURNS else 1


def stored_size(image: Image.Image, turn: int) -> tuple[int, int]:
    """Width and height as stored; Pillow gives a TIFF's as displayed."""
    return image.size[::-1] if image.format == "TIFF" and turn >= 5 else image.size


def turned(decoded: Image.Image, form: str | None, turn: int, shown: bool) -> Image.Image:
    """A decoded image as displayed, or as stored.

    Args:
        decoded: as Pillow gives it.
        form: the file's format; a TIFF is turned by Pillow as it decodes it.
        turn: the file's `orientation`.
        shown: whether as EXIF says to display it.
    """
    if turn == 1 or shown == (form == "TIFF"):
        return decoded
    return decoded.transpose((_TURNS if shown else _UNDONE)[turn])
