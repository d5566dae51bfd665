"""Decodes one image file, or says why it cannot: the only way from file to pixels, in training and in use."""

import os
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from detnas_nni.data.headers import FORMATS, named_warnings
from detnas_nni.data.jpeg import decode_jpeg, header_size
from detnas_nni.data.pixels import BadImageError, as_rgb, orientation, stored_size, turned

__all__ = ["MAX_PIXELS", "BadImageError", "read_image"]

# 67 megapixels: ImageNet's largest image has 61. Beyond it a small file may unpack to gigabytes.
MAX_PIXELS = 2**26

# Bytes that contain the header of nearly every photo, and all of a small one.
_HEADER = 2**14


def read_image(
    file: Path, size: tuple[int, int] | None = None, *, upright: bool | None = None
) -> torch.Tensor:
    """Decode `file` to uint8 RGB (3, H, W); module `pixels` says what happens to more than 8 bits.

    Args:
        file: the image file.
        size: width and height that the image must have. A photo is rotated if EXIF's orientation gives that
            size, and not if the stored image has it.
        upright: whether to rotate a photo as viewers show it if its size does not decide. By default yes if
            there is a size, as boxes are drawn on what people see; otherwise no, as in the reference's
            ImageNet reader.

    Raises:
        BadImageError: the file is missing, truncated, not an image, too large, of an unknown range of
            values, or not of `size`.
    """
    if upright is None:
        upright = size is not None
    try:
        with file.open("rb", buffering=0) as stream:
            pixels = _plain_jpeg(stream, size)
        if pixels is not None:
            return pixels
        with (
            file.open("rb") as stream,
            named_warnings(file),
            Image.open(stream, formats=FORMATS) as image,
        ):
            return _decode(image, stream, size, upright)
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged data
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadImageError(f"cannot be decoded ({reason or type(error).__name__})") from error


def _decode(
    image: Image.Image, stream: BinaryIO, size: tuple[int, int] | None, upright: bool
) -> torch.Tensor:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImageError(f"has {width}x{height} pixels, more than the allowed {MAX_PIXELS}")
    form, turn = image.format, orientation(image)
    stored = stored_size(image, turn)
    shown = stored[::-1] if turn >= 5 else stored
    if size is not None and size not in (stored, shown):
        raise BadImageError(f"is {stored[0]}x{stored[1]} pixels, its annotation says {size[0]}x{size[1]}")
    turns = upright if size is None or stored == shown else size == shown
    if form == "JPEG" and (turn == 1 or not turns):
        pixels = _decode_jpeg(stream, image)
        if pixels is not None:
            return pixels
    return functional.pil_to_tensor(turned(as_rgb(image), form, turn, turns))


def _plain_jpeg(stream: FileIO, size: tuple[int, int] | None) -> torch.Tensor | None:
    """The pixels of an ordinary JPEG file; None if Pillow has to look closer.

    For small images Pillow's reading of the header takes a quarter as long as all the rest.
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
    """More bytes than a photo of this size takes. Pillow does not notice gigabytes after a small header."""
    return 2**20 + 3 * size[0] * size[1]


def _decode_jpeg(stream: BinaryIO, image: Image.Image) -> torch.Tensor | None:
    """The pixels of a JPEG file whose header Pillow has accepted; None if Pillow has to decode it."""
    size = os.fstat(stream.fileno()).st_size
    if image.mode not in ("RGB", "L") or size > _longest(image.size):
        return None
    data = torch.empty(size, dtype=torch.uint8)
    stream.seek(0)
    return decode_jpeg(data, image.size) if stream.readinto(data.numpy()) == size else None
