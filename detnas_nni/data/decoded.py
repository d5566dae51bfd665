"""Images in a file of their decoded bytes, mapped into memory."""

from pathlib import Path

import torch

Place = tuple[int, int, int]
"""Of an image in the file: offset, height, width."""


class DecodedImages:
    """Images of a data set by index, each uint8 (3, H, W): exactly the values that the set gives as float32.

    Args:
        file: their bytes, one image after the other.
        places: where each is.
    """

    def __init__(self, file: Path, places: dict[int, Place]) -> None:
        self._places = places
        size = sum(3 * height * width for _, height, width in places.values())
        self._bytes = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, index: int) -> bool:
        return index in self._places

    @property
    def bytes(self) -> int:
        """Their size, in the file and in memory."""
        return self._bytes.numel()

    def get(self, index: int) -> torch.Tensor | None:
        """The image; None if it is not kept."""
        place = self._places.get(index)
        if place is None:
            return None
        offset, height, width = place
        # A copy: torch cannot pass mapped memory out of a loader's worker, and would wait forever.
        return self._bytes[offset : offset + 3 * height * width].view(3, height, width).clone()
