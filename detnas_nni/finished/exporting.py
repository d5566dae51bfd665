"""A finished net as a file for other programs: torch, TorchScript or ONNX, each checked before it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.run_folder import export_folder
from detnas_nni.data.drawing import draw_scene
from detnas_nni.data.images import BadImageError, read_image
from detnas_nni.errors import UsageError
from detnas_nni.finished.nets import FinishedBackbone, FinishedDetector, Part
from detnas_nni.finished.parity import expect_parity
from detnas_nni.finished.sources import detection_splits, open_net, save_net, unseen
from detnas_nni.finished.tracing import example, folded, metadata, quiet
from detnas_nni.models.hardware import prepare
from detnas_nni.util.files import replace_file

Format = Literal["torch", "torchscript", "onnx"]
SUFFIXES: dict[Format, str] = {"torch": ".pt", "torchscript": ".torchscript", "onnx": ".onnx"}

METADATA = "detnas.json"
"""The extra file with a TorchScript file's metadata as JSON: `torch.jit.load(…, _extra_files=…)`."""

_CHECKED = 8  # images of the data that a detector is checked on


def export(
    config: Config,
    weights: Path,
    *,
    form: Format,
    part: Part = "detector",
    architecture: Path | None = None,
    out: Path | None = None,
    size: tuple[int, int] | None = None,
) -> Path:
    """Write a finished net to a file and return its path, by default `RUN_DIR/export/PART.SUFFIX`.

    Args:
        config: the experiment.
        weights: of a single net, of a supernet, or a file that was written here; see `sources.open_net`.
        form: `torch` for `load_detector` and `load_backbone`, or a graph for other programs.
        part: the whole detector, or its backbone.
        architecture: a JSON file: what the net has to be, or, for a supernet, the candidate.
        out: the file.
        size: for ONNX, the one height and width in pixels that the graph takes; any if None.

    Raises:
        CheckpointError: the weights are missing, damaged or of another net.
        EvaluationError: the exported net does not compute what the net does.
        UsageError: a supernet without an architecture, a size for another format than ONNX, or packages that
            ONNX needs are missing.
    """
    if size is not None and form != "onnx":
        raise UsageError(f"--size is for ONNX; a net in {form} format takes images of any size")
    if form == "onnx":
        from detnas_nni.finished.onnx_file import expect_packages

        expect_packages()
    trusted = (config.space.name,)
    chosen = None if architecture is None else Architecture.from_json(architecture, trusted=trusted)
    splits = detection_splits(config) if part == "detector" else None
    net = open_net(weights, part=part, config=config, architecture=chosen, splits=splits)
    path = out or export_folder(config.run_dir) / f"{part}{SUFFIXES[form]}"
    if form == "torch":
        save_net(net, path)
        return path
    images = _images(splits)
    if form == "onnx":
        from detnas_nni.finished.onnx_file import write_onnx

        write_onnx(net, path, images, size)
    else:
        device = prepare(config.hardware) if config.hardware.device == "cuda" else torch.device("cpu")
        _write_torchscript(net, path, images, device)
    return path


def _write_torchscript(
    net: FinishedDetector | FinishedBackbone, path: Path, images: Sequence[Tensor], device: torch.device
) -> None:
    """The file computes on the kind of device on which it was traced, and says so."""
    copied = folded(net).to(device)
    with quiet():
        traced = torch.jit.trace(copied, (example(copied, images[0]).to(device),), check_trace=False)
        expect_parity(net, lambda given: traced(given.to(device)), images, "the TorchScript net")
        text = json.dumps({**metadata(net.description, copied), "device": device.type})
        extra = {METADATA: text}
        replace_file(path, lambda temporary: torch.jit.save(traced, str(temporary), _extra_files=extra))


def _images(splits: Any) -> list[Tensor]:
    """RGB uint8 images to trace and to check with, of different sizes: the data's, or else drawn ones."""
    images: list[Tensor] = []
    for record in () if splits is None else unseen(splits).records:
        try:
            images.append(read_image(record.file, record.size, upright=record.upright))
        except BadImageError:
            continue  # the evaluation has reported it
        if len(images) == _CHECKED:
            break
    if not images:
        rng = np.random.default_rng(0)
        images = [
            torch.from_numpy(draw_scene(rng, *size, [0, 1, 2], (30, 60))[0]).permute(2, 0, 1).contiguous()
            for size in ((160, 120), (97, 131))
        ]
    height, width = images[0].shape[1:]
    # Whatever tracing wrongly made constant shows with another shape, and in an image without objects.
    return [
        *images,
        functional.crop(images[0], 0, 0, height, max(width * 2 // 3, 1)),
        torch.zeros_like(images[0]),
    ]
