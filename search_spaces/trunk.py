"""Build a trunk by name, ours or a user's, and determine what can be chosen in it."""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import current_model
from torch import Tensor, nn

from search_spaces import is_fixed
from search_spaces.efficientnetlite import EfficientNetLiteTrunk
from search_spaces.errors import SpaceError
from search_spaces.resnet import ResNetTrunk
from search_spaces.shufflenetv2 import ShuffleNetV2Trunk
from search_spaces.sizes import BUILT_IN, LITE, SIZES, Choice


def build_trunk(space: str, **options: Any) -> nn.Module:
    """See `search_spaces.build_trunk`."""
    if space in BUILT_IN:
        family = (
            ShuffleNetV2Trunk if space in SIZES else EfficientNetLiteTrunk if space in LITE else ResNetTrunk
        )
        return _call(partial(family, space), space, options)
    try:
        trunk = _call(_load_factory(space), space, options)
    except ValueError as error:
        raise _explained(error, space) from error
    if not isinstance(trunk, nn.Module):
        raise SpaceError(f"{space!r} gave {type(trunk).__name__}, not an nn.Module")
    channels = getattr(trunk, "out_channels", None)
    if not isinstance(channels, Mapping) or not channels:
        raise SpaceError(
            f"the trunk of {space!r} has to name its features' channels: "
            f'`out_channels` = {{"stage1": 64, …}} in the order of the strides, not {channels!r}'
        )
    # Under model_context every LayerChoice has become its chosen candidate, so there is none to find.
    if current_model() is None:
        layer_choices(trunk, space)
    if not hasattr(trunk, "classifier_channels"):
        trunk.classifier_channels = list(channels.values())[-1]
    return trunk


def _call(factory: Callable[..., nn.Module], space: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        return factory(**options)
    except TypeError as error:
        raise SpaceError(f"{space!r} cannot be called with the options {options}: {error}") from error


def _explained(error: ValueError, space: str) -> Exception:
    """What NNI's message about a label means; other errors unchanged."""
    if "Label must be specified" in str(error):
        return SpaceError(
            f"the trunk of {space!r} has a LayerChoice without a label; give each block its own, such "
            'as label="block_00"'
        )
    conflict = re.search(r"Cannot find a valid default sample .* for (.+?)\. Please", str(error))
    if conflict is not None:
        return _of_one_label(conflict[1], space)
    return error


def _of_one_label(label: str, space: str) -> SpaceError:
    return SpaceError(
        f"the trunk of {space!r} has LayerChoices of the same label, {label!r}, with different candidates; "
        "give each block its own label"
    )


def _load_factory(space: str) -> Callable[..., nn.Module]:
    """The callable that "package.module:factory" names."""
    module_name, _, attribute = space.partition(":")
    if not module_name or not attribute:
        raise SpaceError(
            f"unknown search space {space!r}; known: {', '.join(BUILT_IN)}, "
            'or "package.module:factory" for a trunk of your own'
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SpaceError(
            f"search space {space!r}: cannot import {module_name!r} ({error}); is it on PYTHONPATH?"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise SpaceError(f"search space {space!r}: module {module_name!r} has no callable {attribute!r}")
    return factory


class TrunkSpace(ModelSpace):
    """Only a trunk, as a `ModelSpace`: to profile it, to enumerate its choices, to build one fixed net.

    A trunk that is not a `ModelSpace` itself cannot be built outside of one.
    """

    def __init__(self, space: str, **options: Any) -> None:
        super().__init__()
        self.trunk = build_trunk(space, **options)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to the trunk's features."""
        return self.trunk(x)


@contextmanager
def throwaway(space: str) -> Iterator[TrunkSpace]:
    """A temporary `TrunkSpace` in eval mode, which leaves torch's random state as it was.

    A built-in one is on the meta device, with shapes but no storage (3.8g would take 0.5 GB). A foreign
    trunk's code may compute with its weights, so it is built on the CPU.
    """
    device = "meta" if space in BUILT_IN else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        yield TrunkSpace(space).eval()


def layer_choices(trunk: nn.Module, space: str) -> dict[str, LayerChoice]:
    """Every LayerChoice of an unfixed trunk by its module name, in module order.

    `SpaceError` if there is none in a trunk that is not one of our fixed nets, if two with one label have
    different candidates, or if one is inside a candidate of another: costs would not be additive.
    """
    found = {name: module for name, module in trunk.named_modules() if isinstance(module, LayerChoice)}
    if not found and not is_fixed(space):
        raise SpaceError(f"the trunk of {space!r} has no LayerChoice: there is nothing to search")
    candidates: dict[str, list[str | int]] = {}
    for name, module in found.items():
        if candidates.setdefault(module.label, module.names) != module.names:
            raise _of_one_label(module.label, space)
        for other in found:
            if name.startswith(f"{other}."):
                raise SpaceError(
                    f"the trunk of {space!r} has LayerChoice {module.label!r} inside {found[other].label!r}; "
                    "nested choices are not supported"
                )
    return found


def mutables(space: str) -> dict[str, Any]:
    """NNI's mutables of the space by label, in block order; `SpaceError` if one is not a LayerChoice."""
    with throwaway(space) as trunk_space:
        simplified = trunk_space.simplify()
        labels = {module.label for module in layer_choices(trunk_space, space).values()}
    for label, mutable in simplified.items():
        if label not in labels:
            raise SpaceError(
                f"the trunk of {space!r} has {mutable!r}, which is not a LayerChoice; only these are searched"
            )
    return simplified


def layout_of_mutables(space: str) -> tuple[Choice, ...]:
    """The layout of any space, from its built trunk."""
    return tuple(Choice(label, tuple(mutable.values)) for label, mutable in mutables(space).items())
