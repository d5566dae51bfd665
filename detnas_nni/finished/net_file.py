"""A finished net in one file: weights, and what is needed to rebuild it. Loading runs no code."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from detnas_nni.errors import CheckpointError
from detnas_nni.finished.description import read_description
from detnas_nni.finished.nets import FinishedBackbone, FinishedDetector, build
from detnas_nni.training.weights import load_tensors, write_tensors
from detnas_nni.util.files import replace_file

_KEY = "finished_net"


def save_net(net: FinishedDetector | FinishedBackbone, path: Path) -> None:
    """Write the file, whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in net.weights().items()}
    content = {_KEY: net.description.model_dump_json(), "state": weights}
    replace_file(path, lambda temporary: write_tensors(temporary, content))


def is_net_file(path: Path) -> bool:
    """Whether a file is one that `save_net` wrote. Raises CheckpointError if it cannot be read."""
    return path.is_file() and _KEY in load_tensors(path)


def load_net(path: Path, *, trusted: tuple[str, ...] = ()) -> FinishedDetector | FinishedBackbone:
    """The net in a file, on the CPU and in eval mode.

    Args:
        path: what `save_net` wrote.
        trusted: spaces "package.module:factory" whose code may be imported.

    Raises CheckpointError.
    """
    content = load_tensors(path)
    description, state = content.get(_KEY), content.get("state")
    if not isinstance(description, str) or not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a finished net, such as `detnas export --weights` writes")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: a value in its state is {type(tensor).__name__}, not a tensor")
    return build(read_description(description, path, trusted), state, path)
