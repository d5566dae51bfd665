"""Decodes one image file, or says why not."""

from pathlib import Path

import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional

# 67 megapixels: ImageNet's largest image has 61. Beyond it a small file may unpack to gigabytes.
MAX_PIXELS = 2**26

# What image sets consist of. Pillow's other readers are left out: some run other programs (EPS, Ghostscript).
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")


class BadImageError(Exception):
    """An image file that cannot be used; the text says why, without the file's name."""


def read_image(file: Path, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Decode `file` to uint8 RGB (3, H, W).

    Args:
        file: the image file.
        size: width and height that its annotation states. A photo whose EXIF orientation turns it to that
            size is turned; without a stated size EXIF is not looked at, as in the reference's ImageNet
            reader.

    Raises:
        BadImageError: the file is missing, truncated, no image, too large, or not of `size`.
    """
    try:
        with Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImageError(
                    f"has {width}x{height} pixels, more than the {MAX_PIXELS} that are allowed"
                )
            if size is not None and image.size != size and image.size == size[::-1]:
                image = ImageOps.exif_transpose(image)
            if size is not None and image.size != size:
                raise BadImageError(f"is {width}x{height} pixels, its annotation says {size[0]}x{size[1]}")
            return functional.pil_to_tensor(image.convert("RGB"))
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged data
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadImageError(f"cannot be decoded ({reason or type(error).__name__})") from error
