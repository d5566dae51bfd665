"""torchvision's plain paths from a file to a batch, as in its reference trainings; for loading.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import tv_tensors
from torchvision.datasets.folder import default_loader
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

READERS = ("pil", "decode_jpeg")

FORMS = ("bgr", "rgb")
"""The result: BGR in 0..255 for our nets, or RGB in 0..1 for torchvision's."""


class _ToBGR(v2.Transform):
    _transformed_types = (tv_tensors.Image,)

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        return inpt.as_subclass(Tensor).flip(-3).to(torch.float32)


def plain_decode(reader: str, file: Path) -> Tensor:
    """The file's pixels, uint8 (3, H, W)."""
    if reader == "pil":
        return v2.functional.pil_to_tensor(default_loader(str(file)))
    return decode_jpeg(read_file(str(file)), ImageReadMode.RGB)


def plain_batches(
    reader: str, form: str, case: Any, dataset: Any, training: bool
) -> Callable[[Sequence[int]], Any]:
    """A function that reads the images of some indices as one batch."""
    transform = _transform(reader, form, case, training)
    read = default_loader if reader == "pil" else _read_tensor

    def classified(indices: Sequence[int]) -> Any:
        return default_collate(
            [transform(read(str(dataset.files[at])), int(dataset.labels[at])) for at in indices]
        )

    def detected(indices: Sequence[int]) -> Any:
        records = [dataset.records[at] for at in indices]
        return tuple(
            zip(*(transform(read(str(record.file)), _target(record)) for record in records), strict=True)
        )

    return detected if case.side is None else classified


def _read_tensor(file: str) -> tv_tensors.Image:
    return tv_tensors.Image(decode_jpeg(read_file(file), ImageReadMode.RGB))


def _target(record: Any) -> dict[str, Tensor]:
    return {
        "boxes": tv_tensors.BoundingBoxes(
            torch.from_numpy(record.boxes), format="XYXY", canvas_size=(record.height, record.width)
        ),
        "labels": torch.from_numpy(record.labels),
        "image_id": torch.tensor(record.image_id),
    }


def _transform(reader: str, form: str, case: Any, training: bool) -> v2.Compose:
    """As references/classification and references/detection of torchvision's repository."""
    steps: list[v2.Transform] = []
    to_tensor = [v2.ToImage()] if reader == "pil" else []
    last = [_ToBGR()] if form == "bgr" else [v2.ToDtype(torch.float32, scale=True)]
    if case.side is None:
        steps += [*to_tensor, *([v2.RandomHorizontalFlip()] if training else [])]
    elif training:
        steps += [
            v2.RandomResizedCrop(case.side, scale=(case.min_scale, 1.0), antialias=True),
            v2.ColorJitter(case.jitter, case.jitter, case.jitter),
            v2.RandomHorizontalFlip(),
            *to_tensor,
        ]
    else:
        steps += [v2.Resize(round(case.side / 0.875), antialias=True), v2.CenterCrop(case.side), *to_tensor]
    return v2.Compose([*steps, *last, v2.ToPureTensor()])
