"""Images that many candidates are measured on, decoded once, in a file that every process maps into memory.

A search reads the same images for each of its candidates. Decoding and transforming them costs as much as a
small net does, and gives the same pixels every time. They are kept as plain bytes; the mapped file is shared
by all trials on a machine, through the kernel's page cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from torch.utils.data import Dataset

from detnas_nni.data.datasets import ImageDataset
from detnas_nni.data.decoded import DecodedImages, Place
from detnas_nni.data.loaders import ForkedLoader
from detnas_nni.util.files import replace_file, write_json
from detnas_nni.util.lock import FolderLock
from detnas_nni.util.progress import watched

_log = logging.getLogger(__name__)

_ENOUGH = 100  # images from which the size of all is estimated

_VERSION = 2  # raise it when the same file and transform give different pixels

_LONGEST_WAIT = 600.0  # seconds for another process that is decoding the same images


def keep_decoded(
    dataset: ImageDataset, indices: Sequence[int], path: Path, *, limit: int, workers: int = 0
) -> None:
    """Let a data set take its images from a file of decoded ones, which is made if missing.

    The set's transform must give the same result for an image each time. Unreadable images are not kept, and
    are handled as without a cache. Nothing is kept, and the set stays as it was, if the images take more than
    `limit` bytes, the disk is full, or their values are not whole numbers from 0 to 255.

    Args:
        dataset: the set.
        indices: of the images that will be asked for.
        path: of the file, without its suffix; `PATH.bin` and `PATH.json` are written, whole or not at all.
        limit: bytes that they may take.
        workers: processes that decode.
    """
    wanted = sorted(set(indices))
    key = _key(dataset, wanted)
    found = _read(path, key)
    if found is None:
        lock = FolderLock(path)
        try:
            # If another process is doing it, decoding them here as well would take as long.
            lock.wait(_LONGEST_WAIT)
            found = _read(path, key) or _decode(dataset, wanted, path, key, limit, workers)
        finally:
            lock.release()
    if found["places"]:
        places = {int(index): tuple(place) for index, place in found["places"].items()}
        dataset.kept = DecodedImages(path.with_suffix(".bin"), places)


def _key(dataset: ImageDataset, indices: Sequence[int]) -> str:
    """Hash of which files these are and when they were written."""
    digest = hashlib.sha256(f"{_VERSION} {dataset.transform!r}".encode())
    for index in indices:
        file = dataset.files[index]
        try:
            status = file.stat()
            digest.update(
                f"{index} {file} {status.st_size} {status.st_mtime_ns} {dataset.way_up(index)}\n".encode()
            )
        except OSError:
            digest.update(f"{index} {file} missing\n".encode())
    return digest.hexdigest()


def _read(path: Path, key: str) -> dict | None:
    """The record of these images: where they are, or that they are not to be kept."""
    try:
        found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if found["key"] != key:
            return None
        expected = sum(3 * height * width for _, height, width in found["places"].values())
        size = path.with_suffix(".bin").stat().st_size if found["places"] else 0
        return found if size == expected else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _NotKeptError(Exception):
    """Why the images are not kept."""


def _decode(
    dataset: ImageDataset, indices: Sequence[int], path: Path, key: str, limit: int, workers: int
) -> dict:
    places: dict[int, Place] = {}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            places.update(_write(dataset, indices, file, limit, workers))

    started = time.perf_counter()
    try:
        replace_file(path.with_suffix(".bin"), write)
    except _NotKeptError as reason:
        places.clear()
        _log.info("%s: decoded anew for each candidate: %s", dataset.name, reason)
    except OSError as error:  # such as a full disk: a search does not need this file
        places.clear()
        _log.warning("%s: decoded anew for each candidate: %s", dataset.name, error)
    else:
        size = path.with_suffix(".bin").stat().st_size
        _log.info(
            "%s: %d images decoded for all candidates, %.2f GB, in %.1f s",
            *(dataset.name, len(places), size / 1e9, time.perf_counter() - started),
        )
    if not places:
        path.with_suffix(".bin").unlink(missing_ok=True)
    found = {"key": key, "places": places}
    write_json(path.with_suffix(".json"), found)
    return found


def _write(
    dataset: ImageDataset, indices: Sequence[int], file: BinaryIO, limit: int, workers: int
) -> Iterator[tuple[int, Place]]:
    offset = 0
    loader = ForkedLoader(_Decoding(dataset, indices), batch_size=None, num_workers=workers)
    decoded = watched(loader, len(indices), "decoding", "image")
    for count, (index, image) in enumerate(zip(indices, decoded, strict=True)):
        if count == _ENOUGH:  # the rest is as large; better to stop now than when the disk is full
            expected = offset / count * len(indices)
            free = shutil.disk_usage(Path(file.name).parent).free
            if expected > limit or expected > free / 2:
                raise _NotKeptError(
                    f"they would take {expected / 1e9:.1f} GB, with hardware.keep_decoded_gb {limit / 1e9:g} "
                    f"and {free / 1e9:.1f} GB free"
                )
        if image is None:
            continue
        if image.dtype is not torch.uint8:
            raise _NotKeptError("its images are not whole numbers from 0 to 255")
        if offset + image.numel() > limit:
            raise _NotKeptError(f"they take more than hardware.keep_decoded_gb ({limit / 1e9:g} GB)")
        file.write(image.contiguous().numpy())
        yield index, (offset, *image.shape[1:])
        offset += image.numel()


class _Decoding(Dataset):
    """The images of a set in their smallest form, without targets; None for a bad one."""

    def __init__(self, dataset: ImageDataset, indices: Sequence[int]) -> None:
        self._dataset = dataset
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, item: int) -> Tensor | None:
        image = self._dataset.image(self._indices[item])
        if image is None:
            return None
        small = image.to(torch.uint8)
        return small if torch.equal(small.to(image.dtype), image) else image
