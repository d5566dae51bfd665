"""The trunk in its three uses: a classifier, Faster R-CNN with FPN, RetinaNet.

Each is an NNI `ModelSpace`. Built plainly it is the search space; built under
`nni.nas.space.model_context(choices)` it is the fixed net of one architecture, with the same parameter names
without the candidate's. A trunk without choices gives the fixed net either way.
"""

from detnas_nni.models.batchnorm import set_bn_momentum
from detnas_nni.models.classifier import ClassifierSpace
from detnas_nni.models.detector import DetectorSpace
from detnas_nni.models.freezing import check_freeze, freeze

__all__ = ["ClassifierSpace", "DetectorSpace", "check_freeze", "freeze", "set_bn_momentum"]
