"""DetNAS, backbone search for object detection (Chen et al., NeurIPS 2019), on Microsoft NNI 3.0."""

__version__ = "0.1.0"
