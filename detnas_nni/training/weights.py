"""Trained weights as a file, of a supernet or of a single net, and a description of what they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Strict, StrictInt, StrictStr, TypeAdapter, ValidationError
from torch import Tensor

from detnas_nni.architecture import Architecture, Ops
from detnas_nni.errors import ArchitectureError, CheckpointError
from detnas_nni.training.tensors import load_tensors, write_tensors
from detnas_nni.util.files import replace_file
from detnas_nni.util.text import show
from search_spaces import BUILT_IN, all_options

CLASSIFIER = "classifier"
"""The kind of a classifier's weights; a detector's kind is its name."""

FINISHED_NET = "finished_net"
"""The key of an exported net's description, in a file of its own form (`finished.sources.save_net`)."""

_FORMAT = 1


def _plain(values: Any) -> Any:
    """Refuse all but plain values as in YAML: comparing or printing a tensor may take any time and memory."""
    left, seen = [values], set()  # one by one, since lists may be shared or contain themselves
    while left:
        value = left.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) not in seen:
                seen.add(id(value))
                left.extend((*value, *value.values()) if isinstance(value, dict) else value)
        elif value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"holds a {type(value).__name__}, expected plain values")
    return values


def _list(values: Any) -> Any:
    """Refuse other things that pydantic would iterate over, such as a tensor with a trillion rows."""
    if not isinstance(values, list | tuple):
        raise ValueError("expected a list")
    return values


_Settings = Annotated[dict[str, Any], Strict(), BeforeValidator(_plain)]


@dataclass(frozen=True)
class WeightsInfo:
    """What weights belong to. A step that loads them checks every field against its own config."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: StrictStr
    """classifier, faster_rcnn or retinanet"""
    space: StrictStr
    options: _Settings
    """of the trunk: weights trained with one channel shuffle suit no other, though the shapes agree"""
    classes: Annotated[tuple[StrictStr, ...], BeforeValidator(_list)]
    steps: StrictInt
    seed: StrictInt
    fingerprint: StrictStr
    """hash of the config sections that the training used"""
    trunk_prefix: StrictStr
    """where the trunk stands in the state dict, such as `trunk.`"""
    ops: Annotated[tuple[StrictInt, ...], BeforeValidator(_list)] | None = None
    """the architecture of a single net; None for a supernet"""
    detector: _Settings | None = None
    """the config's section of that name, for users who only have the weights; None for a classifier, and in
    files written before this was stored"""
    start: _Settings | None = None
    """source, licence and sha256 of the published weights that the first of its trainings started from"""
    set_apart: StrictStr | None = None
    """hash of the images that were held out for the test split; None if there were none"""

    @property
    def architecture(self) -> Architecture | None:
        """The architecture of a single net; None for a supernet."""
        return None if self.ops is None else Architecture(self.space, self.ops)


_INFO = TypeAdapter(WeightsInfo)


@dataclass(frozen=True)
class Weights:
    """A file of weights, loaded."""

    path: Path
    info: WeightsInfo
    state: dict[str, Tensor]

    @property
    def trunk_state(self) -> dict[str, Tensor]:
        """The trunk's part of the state dict, without the prefix."""
        prefix = self.info.trunk_prefix
        return {
            name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)
        }

    @property
    def _has_no_class_names(self) -> bool:
        """Whether the classes are mere numbers, as in the authors' weights: then only their order counts."""
        return self.info.classes == tuple(map(str, range(len(self.info.classes))))

    def expect(self, **fields: Any) -> None:
        """Raise CheckpointError if a field of `info` is not what the config says."""
        space = self.info.space
        for name, expected in fields.items():
            found = getattr(self.info, name)
            if name == "classes" and self._has_no_class_names and len(found) == len(expected):
                continue
            if name == "options" and all_options(space, found) == all_options(space, expected):
                continue
            if found != expected:
                raise CheckpointError(
                    f"{self.path}: weights of {_KIND[self.info.ops is None]} whose {name} is "
                    f"{_show(found)}, but the config says {_show(expected)}; train some with this config, "
                    "name other weights, or point run_dir at the right run"
                )

    def expect_supernet(self, **fields: Any) -> None:
        """Like `expect`, and raise CheckpointError if these are a single net's."""
        if self.info.ops is not None:
            raise CheckpointError(
                f"{self.path}: weights of the single net {_listed(self.info.ops)}; a supernet's are needed"
            )
        self.expect(**fields)

    def expect_single(self, architecture: Architecture | None = None) -> None:
        """Raise CheckpointError if these are a supernet's, or another architecture's than the given one."""
        if self.info.ops is None:
            raise CheckpointError(f"{self.path}: weights of a supernet; a single net's are needed")
        expect_architecture(self.path, self.info.space, self.info.ops, architecture)


def expect_architecture(path: Path, space: str, ops: Ops, wanted: Architecture | None) -> None:
    """Raise CheckpointError if the net in a file, given by space and ops, is another than the wanted one."""
    if wanted is not None and (space, ops) != (wanted.space, wanted.ops):
        raise CheckpointError(
            f"{path}: weights of the architecture {_listed(ops)} of {space}; those of {wanted} of "
            f"{wanted.space} are needed"
        )


_KIND = {True: "a supernet", False: "a single net"}


def save_weights(path: Path, info: WeightsInfo, state: Mapping[str, Tensor]) -> None:
    """Write the file atomically."""
    lists = {"classes": list(info.classes), "ops": None if info.ops is None else list(info.ops)}
    content = {"format": _FORMAT, "info": {**asdict(info), **lists}, "state": dict(state)}

    replace_file(path, lambda temporary: write_tensors(temporary, content))


def load_weights(path: Path) -> Weights:
    """The weights in a file, on the CPU, memory-mapped. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there are no weights; run the step that trains them first")
    content = load_tensors(path)
    if FINISHED_NET in content:
        raise CheckpointError(
            f"{path}: a finished net, which `detnas export` wrote; name the weights that it was exported "
            "from, such as RUN_DIR/retrain/NAME/detector/net.pt"
        )
    version, state = content.get("format"), content.get("state")
    if type(version) is not int or version != _FORMAT or not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a file of weights of format {_FORMAT}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {show(name)} in it is {type(tensor).__name__}, not a tensor")
    try:
        info = _info(content["info"])
        if info.space in BUILT_IN:
            _ = info.architecture  # raises for ops that fit no space; no file gets code of another run
    except (KeyError, ValueError, ArchitectureError) as error:
        raise CheckpointError(f"{path}: the description of the weights is damaged: {error}") from None
    return Weights(path, info, state)


def _info(values: Any) -> WeightsInfo:
    """The description in a file. Raises ValueError for one that is damaged."""
    try:
        return _INFO.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{show(key)}: {first['msg']}" if key else first["msg"]) from None


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex: a supernet's identity in `best_architecture.json`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(ops: Ops) -> str:
    return ",".join(map(str, ops))


def _show(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else show(value)
