"""A finished net in the form that TorchScript and ONNX need: tensors in, tensors out, BN folded."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detnas_nni.finished.nets import PREPROCESSING, Description, FinishedBackbone, FinishedDetector
from detnas_nni.models.batchnorm import fold_batch_norm


class _ExactResize(GeneralizedRCNNTransform):
    """torchvision's, which computes an image's new size in float32 when traced, and in float64 otherwise.

    For one in eight of the quickstart's images a side then differs by a pixel, and so the boxes differ.
    """

    def __init__(self, plain: GeneralizedRCNNTransform) -> None:
        super().__init__(plain.min_size, plain.max_size, plain.image_mean, plain.image_std)
        self.eval()

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Images (3, H, W), in eval mode only."""
        sides = shape_as_tensor(image)[-2:].to(torch.float64)
        # Not number / tensor, which torch computes as number * (1 / tensor).
        limits = torch.tensor([self.min_size[-1], self.max_size], dtype=torch.float64, device=sides.device)
        scale = (limits / torch.stack([sides.min(), sides.max()])).min()
        height, width = (sides * scale).floor().to(torch.int64)
        resized = interpolate(image[None], size=(height, width), mode="bilinear", align_corners=False)
        return resized[0], target


class OneImage(nn.Module):
    """A detector of one image."""

    inputs = ("image",)
    outputs = ("boxes", "labels", "scores")
    dynamic = {  # noqa: RUF012 - a constant
        "image": {1: "height", 2: "width"},
        **{name: {0: "detections"} for name in outputs},
    }

    def __init__(self, detector: FinishedDetector) -> None:
        super().__init__()
        self.detector = detector
        inner = detector.net.detector
        inner.transform = _ExactResize(inner.transform)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """RGB image (3, H, W), float in 0..1, to boxes (M, 4), labels (M,) int64, scores (M,)."""
        (found,) = self.detector([image])
        return tuple(found[name] for name in self.outputs)


class Batch(nn.Module):
    """A backbone on a batch."""

    inputs = ("images",)

    def __init__(self, backbone: FinishedBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.outputs = _names(backbone)
        sides = {2: "height", 3: "width"}
        self.dynamic = {"images": {0: "images", **sides}} | {
            name: {0: "images", **{axis: f"{side}_{name}" for axis, side in sides.items()}}
            for name in self.outputs
        }

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """RGB images (N, 3, H, W), float in 0..1, to C2, C3, …, each (N, C, ceil(H / s), ceil(W / s))."""
        return tuple(self.backbone(images))


def _names(backbone: FinishedBackbone) -> tuple[str, ...]:
    """C2 for the map of stride 4 = 2², C3 for 8 = 2³; the trunk's own names where two share a stride."""
    names = tuple(f"C{stride.bit_length() - 1}" for stride in backbone.strides)
    return names if len(set(names)) == len(names) else backbone.names


Traceable = OneImage | Batch


def traceable(net: FinishedDetector | FinishedBackbone) -> Traceable:
    """A copy of a net in eval mode, to be traced."""
    form = OneImage if isinstance(net, FinishedDetector) else Batch
    return form(copy.deepcopy(net)).eval().requires_grad_(False)


def folded(net: FinishedDetector | FinishedBackbone) -> Traceable:
    """The same with BN folded."""
    copied = traceable(net)
    fold_batch_norm(copied)
    return copied


def example(net: Traceable, image: Tensor) -> Tensor:
    """The net's input of an image (3, H, W), RGB, uint8."""
    scaled = image.to(torch.float32) / 255
    return scaled if isinstance(net, OneImage) else scaled[None]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's warnings about values that tracing makes constant, which is checked on images of other
    sizes, and about the successors of its tracers."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def metadata(description: Description, net: Traceable) -> dict[str, str]:
    """What an exported graph states about itself, by name; values are JSON except for prose."""
    values = {
        "part": description.part,
        "preprocessing": PREPROCESSING,
        "inputs": json.dumps(net.inputs),
        "outputs": json.dumps(net.outputs),
        "description": description.model_dump_json(),
    }
    if isinstance(net, OneImage):
        values["boxes"] = "x1, y1, x2, y2 in pixels of the input image"
        values["classes"] = json.dumps(description.classes)
        values["category_ids"] = json.dumps([0, *description.category_ids])
    else:
        values["out_channels"] = json.dumps(net.backbone.out_channels)
        values["strides"] = json.dumps(net.backbone.strides)
    return values
