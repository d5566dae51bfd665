"""What the machine offers: ports, shared memory, open files, folders to write to."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from detnas_nni.doctor.finding import Finding

if TYPE_CHECKING:  # it needs pydantic, which may be missing
    from detnas_nni.config import Config

WEB_UI = 8080
"""nnictl's default port."""

_SHARED = Path("/dev/shm")
_PREFETCH = 2  # batches that torch's loader has ready, for each of its processes
_TENSORS = 5  # per image with its target, each a file descriptor while it comes from a loader process
_SPARE = 256  # file descriptors for everything else
_ENOUGH_SHARED = 2**30
_ENOUGH_FILES = 1024
_GB = 1e9


def ports(web_ui: int = WEB_UI) -> list[Finding]:
    """Whether the web UI's default port is free; the next one is only for trials on remote machines."""
    if not _is_free(web_ui):
        port = next(port for port in range(web_ui + 2, 65535, 2) if _is_free(port) and _is_free(port + 1))
        text = f"{web_ui}, nnictl's default, is in use"
        remedy = f"nnictl create --port {port} --config FILE   # and detnas follow --port {port}"
        return [Finding("ports", "warning", text, remedy)]
    if not _is_free(web_ui + 1):
        text = f"{web_ui} is free; {web_ui + 1}, which only trials on remote machines need, is in use"
        return [Finding("ports", "ok", text)]
    return [Finding("ports", "ok", f"{web_ui} and {web_ui + 1} are free, for NNI's web UI")]


def _is_free(port: int) -> bool:
    # On every address, as NNI would bind it; without listening, so nothing is exposed.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def shared_memory(config: Config | None, folder: Path = _SHARED) -> list[Finding]:
    """Room for the batches that loader processes pass; a container often has 64 MB."""
    if not folder.is_dir():
        return []
    free = shutil.disk_usage(folder).free
    needed = _ENOUGH_SHARED if config is None else _bytes_in_flight(config)
    text = f"{free / _GB:.1f} GB free"
    if free >= needed:
        return [Finding(str(folder), "ok", text)]
    text += f"; loader processes may need {needed / _GB:.1f} GB, and die of a bus error when it is full"
    remedy = f"docker run --shm-size={-(-2 * needed // 2**30)}g   # or --set hardware.workers=0"
    return [Finding(str(folder), "warning", text, remedy)]


def _bytes_in_flight(config: Config) -> int:
    """Bytes of the float32 batches that are ready at once, over all processes of a training."""
    pixels = [0]
    if config.data.classification:
        pixels.append(config.pretrain.batch_size * config.data.classification.image_size**2)
    if config.data.detection:
        # Images are passed in their own size: unknown here, but rarely larger than after resizing.
        pixels.append(config.finetune.batch_size * config.detector.min_size * config.detector.max_size)
    return config.hardware.workers * _PREFETCH * 3 * 4 * max(pixels)


def open_files(config: Config | None) -> list[Finding]:
    """Whether the limit on open files is enough for the tensors that loader processes pass."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return [Finding("open files", "ok", "no limit")]
    needed = _ENOUGH_FILES if config is None else _descriptors(config)
    if limit >= needed:
        return [Finding("open files", "ok", f"up to {limit}")]
    text = f"up to {limit}; loaders may need {needed}, and then fail with `Too many open files`"
    remedy = f"ulimit -n {needed}"
    if hard != resource.RLIM_INFINITY and needed > hard:
        remedy += f"   # above the hard limit, {hard}: --set hardware.workers=0 needs none"
    return [Finding("open files", "warning", text, remedy)]


def _descriptors(config: Config) -> int:
    """File descriptors of one process. A classifier's batch is one tensor, a detector's image each."""
    if config.data.detection is None:
        return _SPARE
    share = -(-config.finetune.batch_size // config.hardware.devices)
    return _SPARE + config.hardware.workers * _PREFETCH * share * _TENSORS


def writable_folders(config: Config) -> list[Finding]:
    """Whether the run's folders are writable; nothing is left there."""
    folders = {key: getattr(config, key) for key in ("run_dir", "pretrain_dir", "finetune_dir")}
    return [_writable(key, folder) for key, folder in folders.items() if folder is not None]


def _writable(key: str, folder: Path) -> Finding:
    place = existing(folder)
    try:
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        text = f"{folder}: is not writable ({place}: {error.strerror})"
        return Finding(key, "problem", text, f"--set {key}=FOLDER   # a writable one")
    return Finding(key, "ok", f"{folder}: is writable")


def existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    return next(place for place in (folder, *folder.parents) if place.exists())
