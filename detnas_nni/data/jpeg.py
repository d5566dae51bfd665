"""JPEG's bytes to pixels by torchvision's decoder, in two thirds of the time that Pillow takes."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

# JPEG's markers, the byte after 0xFF [ITU-T T.81, table B.1; T.871 for JFIF].
_SCAN = 0xDA
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_TABLES = (0xDB, 0xC4, 0xDD, 0xFE)  # quantisation, Huffman, restart interval; comment
_JFIF = 0xE0

_RGB = 3  # torchvision.io.ImageReadMode.RGB, which will be removed with the decoder


def decode_jpeg(data: torch.Tensor, size: tuple[int, int]) -> torch.Tensor | None:
    """The uint8 RGB pixels (3, H, W), identical to Pillow's; None if Pillow has to decode.

    That is for damaged data, where Pillow gives the reason, and where torchvision has no such decoder (0.29
    announces its removal) or one that rounds differently.

    Args:
        data: the bytes of a JPEG file in RGB or grey, uint8 (N,).
        size: width and height that its header states.
    """
    decode = _decoder()
    if decode is None:
        return None
    try:
        pixels = decode(data, _RGB, False)
    except RuntimeError:
        return None
    return pixels if pixels.shape == (3, size[1], size[0]) else None


def header_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG file states, from its first bytes; None unless its header is plain.

    A plain header has only tables, comments, JFIF's own segment, and a frame of 8 bits in grey or three
    colours; not EXIF, a colour profile or Adobe's segment.
    """
    if data[:2] != b"\xff\xd8":
        return None
    at, size = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker == _SCAN:
            return size
        if marker in _FRAMES:
            if size is not None or len(segment) < 6 or segment[0] != 8 or segment[5] not in (1, 3):
                return None
            size = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big")
        elif marker not in _TABLES and not (marker == _JFIF and segment[:5] == b"JFIF\0"):
            return None
        at += 2 + length
    return None


@cache
def _decoder() -> Callable[[torch.Tensor, int, bool], torch.Tensor] | None:
    """torchvision's operator, without the warning that its Python function gives with every image."""
    try:
        decode = torch.ops.image.decode_jpeg
        for sample in _samples():
            data = torch.frombuffer(bytearray(sample), dtype=torch.uint8)
            if not torch.equal(decode(data, _RGB, False), _by_pillow(sample)):
                return None
    except (AttributeError, RuntimeError):  # torchvision was built without it, or has renamed it
        return None
    return decode


def _by_pillow(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return functional.pil_to_tensor(image.convert("RGB"))


def _samples() -> list[bytes]:
    """Noise, with every frequency and rounding, in both colour layouts and in grey."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 72, 3), dtype=np.uint8))
    samples = []
    for image, subsampling in ((noise, "4:2:0"), (noise, "4:4:4"), (noise.convert("L"), "4:4:4")):
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90, subsampling=subsampling)
        samples.append(stream.getvalue())
    return samples
