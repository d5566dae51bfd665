"""A trained supernet as a file: its weights, and what it is a supernet of."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnas_nni.errors import CheckpointError
from detnas_nni.files import replace_file

_FORMAT = 1


@dataclass(frozen=True)
class SupernetInfo:
    """What a supernet is of. A step that takes one up checks every field against its own config."""

    kind: str
    """classifier, faster_rcnn or retinanet"""
    space: str
    options: Mapping[str, Any]
    """of the trunk: weights trained with one channel shuffle fit no other, though the shapes agree"""
    classes: tuple[str, ...]
    steps: int
    seed: int
    fingerprint: str
    """hash of the config's sections that the training read"""
    trunk_prefix: str
    """where the trunk stands in the state dict, such as `trunk.`"""


@dataclass(frozen=True)
class Supernet:
    """A supernet's checkpoint, loaded."""

    path: Path
    info: SupernetInfo
    state: dict[str, Tensor]

    @property
    def trunk_state(self) -> dict[str, Tensor]:
        """The trunk's part of the state dict, without the prefix."""
        prefix = self.info.trunk_prefix
        return {
            name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)
        }

    def expect(self, **fields: Any) -> None:
        """Raise CheckpointError if a field of `info` is not what the config says."""
        for name, expected in fields.items():
            found = getattr(self.info, name)
            if found != expected:
                raise CheckpointError(
                    f"{self.path}: a supernet whose {name} is {_show(found)}, but the config says "
                    f"{_show(expected)}; train one with this config, or point run_dir at the right run"
                )


def save_supernet(path: Path, info: SupernetInfo, state: dict[str, Tensor]) -> None:
    content = {"format": _FORMAT, "info": {**asdict(info), "classes": list(info.classes)}, "state": state}
    replace_file(path, lambda temporary: torch.save(content, temporary))


def load_supernet(path: Path) -> Supernet:
    """The supernet in a file, on the CPU, memory-mapped. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no supernet; run the step that trains it first")
    content = load_tensors(path)
    if content.get("format") != _FORMAT or not isinstance(content.get("state"), dict):
        raise CheckpointError(f"{path}: not a supernet's checkpoint of format {_FORMAT}")
    try:
        info = SupernetInfo(**{**content["info"], "classes": tuple(content["info"]["classes"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the checkpoint's description is damaged: {error}") from None
    return Supernet(path, info, content["state"])


def expect_state(space: nn.Module, supernet: Supernet) -> None:
    """Raise CheckpointError unless the supernet's weights fit an unfixed model space, name by name."""
    expected = {name: tuple(tensor.shape) for name, tensor in space.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in supernet.state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{supernet.path}: {name} has the shape {found.get(name)}, but the config's net has "
                f"{expected.get(name)}; it was trained with other settings of the space or the detector"
            )


def load_tensors(path: Path) -> dict[str, Any]:
    """A dict that torch saved: tensors and plain values alone, never code. Raises CheckpointError."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {reason}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dict of tensors, found {type(content).__name__}")
    return content


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex: a supernet's identity in `best_architecture.json`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _show(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else repr(value)
