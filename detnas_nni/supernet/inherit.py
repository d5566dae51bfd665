"""A path's weights, taken from the supernet's without changing them.

A supernet's parameter `trunk.stages.stage1.0.shufflenet_5x5.main.0.weight` is the fixed net's
`trunk.stages.stage1.0.main.0.weight`: the same name without the candidate's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from detnas_nni.architecture import Architecture
from detnas_nni.training.weights import Weights
from search_spaces.trunk import throwaway


def choice_prefixes(supernet: nn.Module) -> dict[str, str]:
    """The name of every LayerChoice of a supernet (or of an unfixed model space) → its label."""
    return {
        name: module.label for name, module in supernet.named_modules() if isinstance(module, LayerChoice)
    }


def path_state(
    state: Mapping[str, Tensor], prefixes: Mapping[str, str], architecture: Architecture
) -> dict[str, Tensor]:
    """The entries of a supernet's state dict that a path uses, under the names of the fixed net.

    The tensors are the supernet's own: copy them (`load_state_dict` does) before anything writes to them.
    """
    choices = architecture.choices
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix = _enclosing_choice(name, prefixes)
        if prefix is None:
            renamed[name] = tensor
            continue
        candidate, _, rest = name[len(prefix) + 1 :].partition(".")
        if candidate == str(choices[prefixes[prefix]]):
            renamed[f"{prefix}.{rest}"] = tensor
    return renamed


def weights_of_path(weights: Weights, architecture: Architecture) -> Weights:
    """An architecture's part of a supernet's weights; a single net's own as they are.

    Raises CheckpointError if these are weights of another space, or of a single net with another
    architecture.
    """
    weights.expect(space=architecture.space)
    if weights.info.ops is not None:
        weights.expect_single(architecture)
        return weights
    with throwaway(architecture.space) as space:
        trunk = choice_prefixes(space.trunk)
    prefixes = {f"{weights.info.trunk_prefix}{name}": label for name, label in trunk.items()}
    state = path_state(weights.state, prefixes, architecture)
    return replace(weights, info=replace(weights.info, ops=architecture.ops), state=state)


def _enclosing_choice(name: str, prefixes: Mapping[str, str]) -> str | None:
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in prefixes:
            return prefix
    return None
