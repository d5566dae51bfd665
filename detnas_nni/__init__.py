"""DetNAS, backbone search for object detection (Chen et al., NeurIPS 2019), on Microsoft NNI 3.0."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detnas_nni.finished.api import load_backbone, load_detector

__version__ = "0.1.0"

__all__ = ["__version__", "load_backbone", "load_detector"]


def __getattr__(name: str) -> Any:
    """The finished net's API, imported when it is asked for: it needs torch and NNI, `detnas --help` none."""
    if name in ("load_backbone", "load_detector"):
        from detnas_nni.finished import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
