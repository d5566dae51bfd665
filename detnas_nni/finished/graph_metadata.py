"""What an exported graph, TorchScript or ONNX, says of itself."""

from __future__ import annotations

import json

from detnas_nni.finished.description import PREPROCESSING, Description
from detnas_nni.finished.tracing import OneImage, Traceable


def metadata(description: Description, net: Traceable) -> dict[str, str]:
    """What an exported graph says of itself, by name; values are JSON but for the prose."""
    values = {
        "part": description.part,
        "preprocessing": PREPROCESSING,
        "inputs": json.dumps(net.inputs),
        "outputs": json.dumps(net.outputs),
        "description": description.model_dump_json(),
    }
    if isinstance(net, OneImage):
        values["boxes"] = "x1, y1, x2, y2 in pixels of the image that is put in"
        values["classes"] = json.dumps(description.classes)
        values["category_ids"] = json.dumps([0, *description.category_ids])
    else:
        values["out_channels"] = json.dumps(net.backbone.out_channels)
        values["strides"] = json.dumps(net.backbone.strides)
    return values
