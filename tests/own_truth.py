"""Ground truth that a net finds in part, whatever its training gave: some of its own detections.

How much a few steps of training find of a set's real objects hangs on the processor. A test that needs an AP
between 0 and 1, or two that differ, measures on this.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn
from torchvision import tv_tensors

from detnas_nni.data.images import read_image
from detnas_nni.data.transforms import detection_eval

_OBJECTS = 6  # an image


@torch.no_grad()
def write_own_truth(net: nn.Module, images: Path, annotations: Path, out: Path) -> Path:
    """COCO JSON like `annotations`, with every other detection of the net in place of the objects.

    One in two of these is narrower than the detection: the IoU of the two is 5/7, which counts at the
    thresholds up to 0.7.

    Args:
        net: a detector in eval mode that keeps detections of any score.
        images: the folder that the images are in.
        annotations: the set's own COCO JSON.
        out: the file to write.
    """
    content = json.loads(annotations.read_text())
    categories = [category["id"] for category in content["categories"]]
    found = []
    for image in content["images"]:
        (output,) = net([detection_eval()(tv_tensors.Image(read_image(images / image["file_name"])))])
        for number, (box, label) in enumerate(zip(output["boxes"], output["labels"], strict=True)):
            x1, y1, x2, y2 = box.tolist()
            if number % 2 == 0 and number < 2 * _OBJECTS and x2 - x1 > 1 and y2 - y1 > 1:
                width = (x2 - x1) * (5 / 7 if number % 4 == 0 else 1)
                found.append(
                    {
                        "id": len(found) + 1,
                        "image_id": image["id"],
                        "category_id": categories[int(label) - 1],
                        "bbox": [x1, y1, width, y2 - y1],
                        "area": width * (y2 - y1),
                        "iscrowd": 0,
                    }
                )
    out.write_text(json.dumps({**content, "annotations": found}))
    return out
