"""The tuner's address: `search.yaml` files name `detnas_nni.search.tuner.DetNASTuner`."""

from detnas_nni.search.nnictl.tuner import DetNASTuner

__all__ = ["DetNASTuner"]
