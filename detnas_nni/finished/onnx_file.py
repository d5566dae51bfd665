"""ONNX: a finished net's graph with its metadata, run by onnxruntime before it is written."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from detnas_nni.errors import EvaluationError, UsageError
from detnas_nni.finished.nets import FinishedBackbone, FinishedDetector
from detnas_nni.finished.parity import expect_parity
from detnas_nni.finished.tracing import Traceable, example, folded, metadata, quiet
from detnas_nni.util.files import replace_file

_OPSET = 17


def expect_packages() -> None:
    """Raise UsageError unless what ONNX needs is installed."""
    for package in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"ONNX needs the package {package} ({error}): pip install 'detnas-nni[onnx]', or "
                "pip install onnx onnxruntime"
            ) from None


def write_onnx(
    net: FinishedDetector | FinishedBackbone,
    path: Path,
    images: Sequence[Tensor],
    size: tuple[int, int] | None = None,
) -> None:
    """Write a net's graph, unless onnxruntime computes something different from torch on one of the images.

    Args:
        net: on the CPU, in eval mode.
        path: the file.
        images: RGB uint8 (3, H, W); the first is traced.
        size: the one height and width that the graph takes, to which the images are then stretched; a batch
            of one for a backbone. Any if None.

    Raises EvaluationError.
    """
    if size is not None:
        images = [functional.resize(image, list(size), antialias=True) for image in images]
    copied = folded(net)

    def write(temporary: Path) -> None:
        _write_graph(net, copied, temporary, images[0], is_dynamic=size is None)
        _check(net, copied, temporary, images)

    replace_file(path, write)


def _write_graph(
    net: FinishedDetector | FinishedBackbone,
    copied: Traceable,
    file: Path,
    image: Tensor,
    *,
    is_dynamic: bool,
) -> None:
    import onnx

    # The exporter that traces: torchvision registers NMS and RoIAlign with it, and tests its detectors with
    # it. A graph of one size still finds a varying number of objects.
    varying = {name: axes for name, axes in copied.dynamic.items() if is_dynamic or name in _COUNTS}
    with quiet():
        torch.onnx.export(
            copied,
            (example(copied, image),),
            str(file),
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(copied.inputs),
            output_names=list(copied.outputs),
            dynamic_axes=varying,
        )
    graph = onnx.load(str(file))
    onnx.helper.set_model_props(graph, metadata(net.description, copied))
    onnx.checker.check_model(graph)
    onnx.save(graph, str(file))


_COUNTS = ("boxes", "labels", "scores")


def _check(
    net: FinishedDetector | FinishedBackbone, copied: Traceable, file: Path, images: Sequence[Tensor]
) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; it warns about what torch's exporter always leaves
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

        def run(given: Tensor) -> list[object]:
            return session.run(list(copied.outputs), {copied.inputs[0]: given.numpy()})

        expect_parity(net, run, images, "the ONNX net")
    except EvaluationError:
        raise
    except Exception as error:  # onnxruntime's own classes have no common base
        raise EvaluationError(
            f"onnxruntime cannot run the ONNX net, so it was not written: {error}"
        ) from None
