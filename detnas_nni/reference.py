"""The authors' released ImageNet weights as ours: their layer names, and the shuffle they trained with.

Their layers are named after the block's position (stage and letter) and candidate, such as
`features.5.conv.1.interstellar2b_shufflenet_5x5_branch2b_s.weight`; a supernet has the op after the block,
`features.5.1.conv.…`. Backbones of the authors' detectors, which lack `last_conv` and `fc`, are not taken.

Sources: megvii-model/DetNAS, Supernet-ImageNet (supernets); megvii-model/ShuffleNet-Series, DetNAS (nets).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from nni.nas.space import model_context
from torch import Tensor, nn

from detnas_nni.architecture import Architecture
from detnas_nni.errors import CheckpointError, UsageError
from detnas_nni.models import ClassifierSpace
from detnas_nni.supernet.inherit import choice_prefixes, path_state
from detnas_nni.training.tensors import expect_tensors_alone
from detnas_nni.training.weights import (
    CLASSIFIER,
    Weights,
    WeightsInfo,
    file_hash,
    load_weights,
    save_weights,
)
from search_spaces import CANDIDATES, SIZES
from search_spaces.blocks import SHUFFLES

# The authors' two; mixing them up gives AP ≈ 0 (megvii-model/DetNAS issue 16).
_SUPERNET_SHUFFLE, _SINGLE_NET_SHUFFLE = "interleave", "even_odd"

_ENDS = {
    "trunk.stem.conv": "first_conv.conv",
    "trunk.stem.bn": "first_conv.bn",
    "last_conv.0": "last_conv.conv",
    "last_conv.1": "last_conv.bn",
    "fc": "fc.fc",
}
_MAX_CLASSES = 100_000  # ImageNet-21k has 21,841; a tensor can state any number of rows, and be small

_BLOCK = re.compile(r"features\.[0-9]+\.(?P<op>[0-9]+\.)?(?:conv|proj_conv)\.")
_CANDIDATE = re.compile(rf"features\.([0-9]{{1,3}})\.conv\.[0-9]\.\w+?_({'|'.join(CANDIDATES)})_branch2")


def load_reference_classifier(
    state_dict: Mapping[str, Any], *, space: str, ops: Sequence[int], shuffle: str | None = None
) -> nn.Module:
    """The fixed classifier of an architecture in eval mode, with the weights that the authors released.

    It is on the CPU and shares no memory with `state_dict`; images (N, 3, H, W), BGR of 0–255, become logits
    (N, rows of `fc.fc.weight`).

    Args:
        state_dict: of a supernet or of a single net; its keys tell which. `module.` before all keys, and a
            dict around it with the key `state_dict` or `model`, do no harm.
        space: a built-in space, a name in `search_spaces.SIZES`.
        ops: one op per block: the path to take from a supernet, or what the single net has to be.
        shuffle: the trunk's channel shuffle; by default the one that such weights were trained with.

    Raises:
        CheckpointError: the state dict does not fit; the message names the key.
        ArchitectureError: the ops are none of the space.
        UsageError: an unknown space or shuffle.
    """
    info, state = _converted(state_dict, space, ops, shuffle)
    net = _without_weights(info).to_empty(device="cpu")
    net.load_state_dict(state)
    return net.eval()


def import_reference(
    file: Path,
    out: Path,
    *,
    space: str | None = None,
    ops: Sequence[int] | None = None,
    shuffle: str | None = None,
) -> Weights:
    """Convert a checkpoint that the authors released to a file of our weights, and return what was written.

    A supernet becomes a classification supernet, as pre-training leaves one; with `ops`, the single net of
    that path. A checkpoint has no class names: they are "0", "1", … by the rows of the last layer. Steps and
    seed are 0, the fingerprint is `reference:` and the start of the checkpoint's SHA-256.

    Args:
        file: what torch saved, in its current format or that of 2019.
        out: the file to write; replaced if it exists.
        space: a name in `search_spaces.SIZES`; by default the one with the checkpoint's stem.
        ops, shuffle: as `load_reference_classifier` takes them.

    Raises:
        CheckpointError: the file cannot be read as tensors, or does not fit; the message names the key.
        ArchitectureError: the ops are none of the space.
        UsageError: an unknown space or shuffle, or `out` is `file`.
    """
    if out.resolve() == file.resolve():
        raise UsageError(f"{out}: is the checkpoint itself, which would be lost; name another file to write")
    content = _read(file)
    try:
        info, state = _converted(content, space, ops, shuffle)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    save_weights(out, replace(info, fingerprint=f"reference:{file_hash(file)[:16]}"), state)
    return load_weights(out)


def read_reference_ops(state_dict: Mapping[str, Any]) -> tuple[int, ...]:
    """The ops that the keys of a single net name, one per block, in block order.

    Raises CheckpointError for a supernet, which has every op, and for a block whose keys name none.
    """
    state = _tensors(state_dict)
    if _is_supernet(state):
        raise CheckpointError("the keys are a supernet's, which has every op; say which ops to take")
    named = {int(match[1]): CANDIDATES.index(match[2]) for match in map(_CANDIDATE.match, state) if match}
    for block in range(max(named, default=0) + 1):
        if block not in named:
            raise CheckpointError(
                f"no key features.{block}.conv.… names an op ({', '.join(CANDIDATES)}); the checkpoint is "
                "expected whole, under the names that the authors gave"
            )
    return tuple(named[block] for block in sorted(named))


def _converted(
    state_dict: Mapping[str, Any], space: str | None, ops: Sequence[int] | None, shuffle: str | None
) -> tuple[WeightsInfo, dict[str, Tensor]]:
    """What the authors' weights belong to, without the fingerprint, and the weights under our names."""
    if space is not None and space not in SIZES:
        raise UsageError(f"space {space!r}: the authors' weights exist only for {', '.join(SIZES)}")
    if shuffle is not None and shuffle not in SHUFFLES:
        raise UsageError(f"shuffle {shuffle!r}: expected {' or '.join(SHUFFLES)}")
    theirs = _tensors(state_dict)
    is_supernet = _is_supernet(theirs)
    space = space or _space_of_stem(_rows(theirs, "first_conv.conv.weight"))
    shuffle = shuffle or (_SUPERNET_SHUFFLE if is_supernet else _SINGLE_NET_SHUFFLE)
    path = None if ops is None else Architecture.from_ops(space, ops)
    classes = _rows(theirs, "fc.fc.weight")
    if classes > _MAX_CLASSES:
        raise CheckpointError(
            f"fc.fc.weight has {classes:,} rows, expected one per class, at most {_MAX_CLASSES:,}"
        )
    info = WeightsInfo(
        kind=CLASSIFIER,
        space=space,
        # The trunk's default is left out, so that the weights fit a config that sets no options.
        options={} if shuffle == "interleave" else {"shuffle": shuffle},
        classes=tuple(map(str, range(classes))),
        steps=0,
        seed=0,
        fingerprint="",
        trunk_prefix="trunk.",
        ops=None if is_supernet else _named_ops(theirs, space, path),
    )
    net = _without_weights(info)
    ours = _renamed(theirs, net.state_dict(), info)
    if is_supernet and path is not None:
        return replace(info, ops=path.ops), path_state(ours, choice_prefixes(net), path)
    return info, ours


def _named_ops(state: Mapping[str, Tensor], space: str, wanted: Architecture | None) -> tuple[int, ...]:
    """A single net's ops; CheckpointError if they do not fit the space, or are not the wanted ones."""
    ops, blocks = read_reference_ops(state), sum(SIZES[space].blocks)
    if len(ops) != blocks:
        raise CheckpointError(
            f"the last block's keys are features.{len(ops) - 1}, expected features.{blocks - 1} in the space "
            f"{space!r}; name the space that the weights are of"
        )
    for block, (named, op) in enumerate(zip(ops, wanted.ops if wanted else ops, strict=True)):
        if named != op:
            raise CheckpointError(
                f"the keys of features.{block} name op {named} ({CANDIDATES[named]}), but ops[{block}] is "
                f"{op} ({CANDIDATES[op]}); the net's ops are {','.join(map(str, ops))}"
            )
    return ops


def _renamed(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], info: WeightsInfo
) -> dict[str, Tensor]:
    """The tensors under our names, once every key and shape is that of `expected`, our state dict."""
    layers, names = _layers(info), {}
    for name in expected:
        layer, _, parameter = name.rpartition(".")
        names[f"{layers[layer]}.{parameter}"] = name
    advice = f"expected the authors' classifier in the space {info.space!r}, whole; is that its space?"
    for key in state:
        if key not in names:
            raise CheckpointError(f"unknown key {key}; {advice}")
    renamed = {}
    for key, name in names.items():
        tensor, shape = state.get(key), tuple(expected[name].shape)
        if tensor is None and key.endswith(".num_batches_tracked"):
            tensor = torch.tensor(0)  # torch counts since 0.4.1, and without the count nothing is lost
        if tensor is None:
            raise CheckpointError(f"the key {key} is missing; {advice}")
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{key} has the shape {tuple(tensor.shape)}, not {shape}; {advice}")
        renamed[name] = tensor.detach().to(expected[name].dtype)
    return renamed


def _layers(info: WeightsInfo) -> dict[str, str]:
    """Our name of every layer that has weights → the authors'."""
    layers = dict(_ENDS)
    places = [(stage, n) for stage, blocks in enumerate(SIZES[info.space].blocks, 1) for n in range(blocks)]
    for block, (stage, n) in enumerate(places):
        ours, theirs = f"trunk.stages.stage{stage}.{n}", f"features.{block}"
        for op, candidate in enumerate(CANDIDATES):
            if info.ops is not None and info.ops[block] != op:
                continue
            our_op, their_op = ("", "") if info.ops is not None else (f".{candidate}", f".{op}")
            for our_layer, their_layer in _block_layers(f"{stage}{ascii_lowercase[n]}", candidate):
                layers[f"{ours}{our_op}.{our_layer}"] = f"{theirs}{their_op}.{their_layer}"
    return layers


def _block_layers(place: str, candidate: str) -> Iterator[tuple[str, str]]:
    """A block's layers, (ours, theirs); with the projection, which a block of stride 1 lacks."""
    for index, layer in enumerate(_unit_layers(f"{place}_proj", depthwise=True)):
        yield f"projection.{index}", f"proj_conv.{layer}"
    is_xception, index = candidate == "xception_3x3", 0
    for unit, letter in enumerate("abc" if is_xception else "ab"):
        for layer in _unit_layers(f"{place}_{candidate}_branch2{letter}", is_xception or unit > 0):
            yield f"main.{index}", f"conv.{unit}.{layer}"
            index += 1
        index += 1  # the ReLU, which ends each unit and has no weights


def _unit_layers(name: str, depthwise: bool) -> list[str]:
    spatial = [f"interstellar{name}_s", f"interstellar{name}_s_bn"] if depthwise else []
    return [*spatial, f"interstellar{name}", f"bn{name}"]


def _without_weights(info: WeightsInfo) -> ClassifierSpace:
    """The fixed net, or the supernet's space; on the meta device, where no initial weights are drawn."""
    path = info.architecture
    with torch.device("meta"), nullcontext() if path is None else model_context(path.choices):
        return ClassifierSpace(info.space, len(info.classes), options=info.options)


def _tensors(state_dict: Any) -> dict[str, Tensor]:
    """The state dict, out of what training scripts wrap around it."""
    for wrapper in ("state_dict", "model"):
        if isinstance(state_dict, Mapping) and isinstance(state_dict.get(wrapper), Mapping):
            state_dict = state_dict[wrapper]
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(f"expected a dict of tensors, found {type(state_dict).__name__}")
    for key, value in state_dict.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"key {key!r} is {type(value).__name__}, expected a dict of tensors alone")
    # DataParallel, in which the authors train, puts it before every key.
    prefix = "module." if all(key.startswith("module.") for key in state_dict) else ""
    return {key.removeprefix(prefix): tensor for key, tensor in state_dict.items()}


def _is_supernet(state: Mapping[str, Tensor]) -> bool:
    kinds = {match["op"] is not None: key for key in state if (match := _BLOCK.match(key))}
    if not kinds:
        raise CheckpointError("no key features.0.conv.… or features.0.0.conv.…: not the authors' classifier")
    if len(kinds) == 2:
        raise CheckpointError(
            f"{kinds[True]} is a supernet's key, {kinds[False]} a single net's; expected one"
        )
    return True in kinds


def _space_of_stem(channels: int) -> str:
    # No two spaces share a stem's width, and all other shapes are held against the space's afterwards.
    stems = {size.stem: space for space, size in SIZES.items()}
    if channels not in stems:
        expected = ", ".join(f"{stem} ({space})" for stem, space in stems.items())
        raise CheckpointError(f"first_conv.conv.weight has {channels} rows, expected one of {expected}")
    return stems[channels]


def _rows(state: Mapping[str, Tensor], key: str) -> int:
    tensor = state.get(key)
    if tensor is None or not tensor.dim() or not len(tensor):
        raise CheckpointError(f"the key {key} is missing or empty; expected the authors' classifier, whole")
    return len(tensor)


def _read(file: Path) -> Any:
    if not file.is_file():
        raise CheckpointError(f"{file}: there is no such file; name a checkpoint that the authors released")
    try:
        expect_tensors_alone(file)
        # Not memory-mapped, as our own files are: torch's format of 2019 cannot be.
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the reader raise anything, KeyError and struct.error too
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise CheckpointError(
            f"{file}: cannot be read as tensors ({reason}); if you trust whom it is from, load it with torch "
            "and save its state dict alone, anew"
        ) from None
