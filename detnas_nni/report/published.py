"""The published nets of a space: their architecture and their cost; their AP was not measured here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import search_spaces
from detnas_nni.architecture import Architecture, read_document
from detnas_nni.cost.table import Cost, cost_table

_FOLDER = Path(search_spaces.__file__).parent / "published"

_WORDS = {"detnas": "DetNAS", "shufflenetv2": "ShuffleNetV2", "fpn": "FPN", "coco": "COCO", "voc": "VOC"}
_WORDS |= {"retinanet": "RetinaNet", "300m": "300M", "1.3g": "1.3G", "3.8g": "3.8G"}


@dataclass(frozen=True)
class PublishedNet:
    """A net of the paper, or a hand-crafted one to compare with; its cost in the search's convention."""

    name: str
    architecture: Architecture
    cost: Cost


def published_nets(space: str, resolution: int) -> list[PublishedNet]:
    """Those of a space, ascending by MACs at a resolution in pixels; most spaces have none."""
    nets = []
    for path in sorted(_FOLDER.glob("*.json")):
        document = read_document(path)
        if document.get("space") == space:
            architecture = Architecture.from_dict(document, str(path))
            cost = cost_table(space, resolution).cost(architecture)
            nets.append(PublishedNet(_title(path.stem), architecture, cost))
    return sorted(nets, key=lambda net: (net.cost.macs, net.name))


def _title(stem: str) -> str:
    return " ".join(_WORDS.get(word, word) for word in stem.split("-"))
