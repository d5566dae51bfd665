"""Decodes one image file, or says why not."""

import os
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms.v2 import functional

from detnas_nni.data.jpeg import decode_jpeg

# 67 megapixels: ImageNet's largest image has 61. Beyond it a small file may unpack to gigabytes.
MAX_PIXELS = 2**26

# What image sets consist of. Pillow's other readers are left out: some run other programs (EPS, Ghostscript).
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")

_ORIENTATION = ExifTags.Base.Orientation


class BadImageError(Exception):
    """An image file that cannot be used; the text says why, without the file's name."""


def read_image(file: Path, size: tuple[int, int] | None = None, *, upright: bool = False) -> torch.Tensor:
    """Decode `file` to uint8 RGB (3, H, W).

    Args:
        file: the image file.
        size: width and height that its annotation states. A photo whose EXIF orientation turns it to that
            size is turned; without a stated size EXIF is not looked at, as in the reference's ImageNet
            reader.
        upright: turn a photo as its EXIF orientation says, as viewers show it.

    Raises:
        BadImageError: the file is missing, truncated, no image, too large, or not of `size`.
    """
    try:
        with file.open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImageError(
                    f"has {width}x{height} pixels, more than the {MAX_PIXELS} that are allowed"
                )
            if size is not None and image.size != size and image.size == size[::-1]:
                image = ImageOps.exif_transpose(image)
            if upright and image.getexif().get(_ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(image)
            if size is not None and image.size != size:
                raise BadImageError(f"is {width}x{height} pixels, its annotation says {size[0]}x{size[1]}")
            pixels = _decode_jpeg(stream, image) if image.format == "JPEG" else None
            return functional.pil_to_tensor(image.convert("RGB")) if pixels is None else pixels
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged data
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadImageError(f"cannot be decoded ({reason or type(error).__name__})") from error


def _decode_jpeg(stream: BinaryIO, image: Image.Image) -> torch.Tensor | None:
    """The pixels of a JPEG file whose header Pillow has read and accepted; None if Pillow is to decode it."""
    size = os.fstat(stream.fileno()).st_size
    # No photo takes more. Gigabytes may stand behind a small header, and Pillow would not read them.
    limit = 2**20 + 3 * image.width * image.height
    if image.mode not in ("RGB", "L") or size > limit:
        return None
    data = torch.empty(size, dtype=torch.uint8)
    stream.seek(0)
    return decode_jpeg(data, image.size) if stream.readinto(data.numpy()) == size else None
