"""Decodes one image file, or says why not."""

import os
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms.v2 import functional

from detnas_nni.data.jpeg import decode_jpeg, header_size

# 67 megapixels: ImageNet's largest image has 61. Beyond it a small file may unpack to gigabytes.
MAX_PIXELS = 2**26

# Bytes that hold the header of nearly every photo, and the whole of a small one.
_HEADER = 2**14

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
        with file.open("rb", buffering=0) as stream:
            pixels = _plain_jpeg(stream, size)
        if pixels is not None:
            return pixels
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


def _plain_jpeg(stream: FileIO, size: tuple[int, int] | None) -> torch.Tensor | None:
    """The pixels of a JPEG file in which nothing is odd; None where Pillow is to look closer.

    For small images Pillow's look at the header takes a quarter as long as all the rest.
    """
    start = stream.read(_HEADER)
    found = header_size(start)
    if found is None or (size is not None and found != size) or found[0] * found[1] > MAX_PIXELS:
        return None
    length = os.fstat(stream.fileno()).st_size
    if length > _longest(found):
        return None
    data = torch.empty(length, dtype=torch.uint8)
    view = data.numpy()
    if length <= len(start):
        view[:] = np.frombuffer(start, dtype=np.uint8)[:length]
    else:
        view[: len(start)] = np.frombuffer(start, dtype=np.uint8)
        if stream.readinto(view[len(start) :]) != length - len(start):
            return None
    return decode_jpeg(data, found)


def _longest(size: tuple[int, int]) -> int:
    """Bytes that no photo of a size takes. Gigabytes may stand behind a small header, which Pillow leaves."""
    return 2**20 + 3 * size[0] * size[1]


def _decode_jpeg(stream: BinaryIO, image: Image.Image) -> torch.Tensor | None:
    """The pixels of a JPEG file whose header Pillow has read and accepted; None if Pillow is to decode it."""
    size = os.fstat(stream.fileno()).st_size
    if image.mode not in ("RGB", "L") or size > _longest(image.size):
        return None
    data = torch.empty(size, dtype=torch.uint8)
    stream.seek(0)
    return decode_jpeg(data, image.size) if stream.readinto(data.numpy()) == size else None
