"""Import torch, torchvision and NNI in two thirds of the usual time."""

import atexit
import gc
import os
import sys
from importlib import import_module


def import_at_once() -> None:
    """Import them without garbage collection in between, and exclude their objects from later collections.

    They create 400,000 permanent objects. Python would scan them again and again while their number grows
    (0.6 s of 3.2), at exit (0.8 s) and in every full collection, which in a loader's worker copies the memory
    that it shares with the training. Does nothing in a process that has already imported torch, such as a
    notebook: its own objects are left to the collector.
    """
    if "torch" in sys.modules:
        return
    atexit.register(_silence_triton)  # before they register theirs, so that it is called after these
    gc.disable()
    try:
        for package in ("torch", "torchvision", "nni"):
            import_module(package)
    finally:
        gc.freeze()
        gc.enable()


def _silence_triton() -> None:
    """Send stderr to nowhere after the exit handlers, if triton was imported.

    From 3.9 on (torch 2.15) it is built with nanobind, which writes some eighty lines about leaks when its
    types outlive the interpreter; without garbage collection they do, on purpose. Python cannot turn the
    report off; triton redirects stderr in its own workers, too.
    """
    if "triton" not in sys.modules:
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
