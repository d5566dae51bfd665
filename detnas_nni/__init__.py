"""DetNAS, backbone search for object detection (Chen et al., NeurIPS 2019), on Microsoft NNI 3.0.

The names below are the Python API: the steps of the pipeline as functions of a config, the finished net, the
metrics. Each is imported when it is asked for: most need torch and NNI, `detnas --help` needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detnas_nni.architecture import Architecture
    from detnas_nni.config.reading import load_config
    from detnas_nni.finished.api import load_backbone, load_detector
    from detnas_nni.finished.retrain import retrain
    from detnas_nni.metrics import coco_box_ap, voc_map
    from detnas_nni.reference import load_reference_classifier
    from detnas_nni.search.session import search_in_process
    from detnas_nni.supernet.steps import finetune, pretrain

__version__ = "0.1.0"

_PLACES = {
    "Architecture": "architecture",
    "load_config": "config.reading",
    "load_backbone": "finished.api",
    "load_detector": "finished.api",
    "retrain": "finished.retrain",
    "coco_box_ap": "metrics",
    "voc_map": "metrics",
    "load_reference_classifier": "reference",
    "search_in_process": "search.session",
    "finetune": "supernet.steps",
    "pretrain": "supernet.steps",
}

__all__ = [
    "Architecture",
    "__version__",
    "coco_box_ap",
    "finetune",
    "load_backbone",
    "load_config",
    "load_detector",
    "load_reference_classifier",
    "pretrain",
    "retrain",
    "search_in_process",
    "voc_map",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
