"""WHAT can be searched: trunks with NNI LayerChoices, and nothing about training or data.

A space is named by a built-in size (tiny, small, large, 3.8g of the paper's ShuffleNetV2 space; lite0, lite1,
lite2 around EfficientNet-Lite) or by "package.module:factory". The hand-crafted nets to compare with
(resnet50, resnet101) are spaces with nothing to choose. Importing this package is cheap; torch and NNI are
loaded when a trunk is built.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import SpaceError
from search_spaces.sizes import BUILT_IN, CANDIDATES, FIXED, LITE, SEARCHED, SIZES, STAGES, Choice

if TYPE_CHECKING:
    from torch import nn

# nni 3.0 takes every name in torch.nn for a module, and warns about each that is not; harmless. Silenced
# here, since whatever imports NNI's layers imports this package first.
warnings.filterwarnings("ignore", message=".* is found to be not a nn.Module", category=RuntimeWarning)

__all__ = [
    "BUILT_IN",
    "CANDIDATES",
    "FIXED",
    "LITE",
    "SEARCHED",
    "SHIPPED_RESOLUTION",
    "SIZES",
    "STAGES",
    "Choice",
    "SpaceError",
    "all_options",
    "build_trunk",
    "costs",
    "is_fixed",
    "layout",
    "search_space_json",
]

SHIPPED_RESOLUTION = 224
"""The side of the image for which the costs of the built-in spaces are shipped, in costs_224.json."""


def build_trunk(space: str, **options: Any) -> "nn.Module":
    """The trunk of a space; to be called in the `__init__` of a `ModelSpace`, or under `model_context`.

    `space` is a built-in name, or "package.module:factory": `factory(**options)` returns an nn.Module with
    labelled LayerChoices whose forward turns (N, 3, H, W) into an ordered dict of features (N, C, h, w), and
    whose `out_channels` maps each feature's name to its C. An optional attribute `classifier_channels` is the
    width of the convolution before a classifier's last layer (None for no such convolution), by default the
    last feature's C. A trunk may have a method `classifier_conv` that returns that convolution, and a method
    `first_stages(n)` that returns the modules that run up to the end of its stage n.
    The ShuffleNetV2 sizes take `shuffle`: "interleave" (default) or "even_odd"; the others take no options.

    Raises `SpaceError` for an unknown name, a factory that cannot be imported, options that the trunk does
    not take, and a foreign trunk that lacks `out_channels` or has no LayerChoice.
    """
    from search_spaces import trunk

    return trunk.build_trunk(space, **options)


def all_options(space: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A trunk's options with a built-in trunk's default filled in, which a config may leave out."""
    return {**({"shuffle": "interleave"} if space in SIZES else {}), **options}


@lru_cache(maxsize=32)
def layout(space: str) -> tuple[Choice, ...]:
    """What can be chosen in a space, one `Choice` per block, in block order; an op indexes its candidates.

    Empty for a fixed net. Microseconds for a built-in space; a foreign one is built once. Raises `SpaceError`
    like `build_trunk`.
    """
    if space in SEARCHED:
        return SEARCHED[space].layout
    if is_fixed(space):
        return ()
    from search_spaces import trunk

    return trunk.layout_of_mutables(space)


def is_fixed(space: str) -> bool:
    """Whether a space is one hand-crafted net, to be trained and measured but not searched."""
    return space in FIXED


def search_space_json(space: str) -> dict[str, dict[str, Any]]:
    """NNI's HPO search space, for `searchSpaceFile` of an experiment: one flat choice per block.

    Generated from the built trunk's mutables. Raises `SpaceError` like `build_trunk`, also for a fixed net.
    """
    if is_fixed(space):
        raise SpaceError(
            f"{space!r} is a fixed net with nothing to choose, so it has no search space; "
            f"those that can be searched: {', '.join(SEARCHED)}, or a trunk of your own"
        )
    from search_spaces import trunk

    return {label: mutable.as_legacy_dict() for label, mutable in trunk.mutables(space).items()}


def costs(space: str, resolution: int = SHIPPED_RESOLUTION) -> dict[str, Any]:
    """What a space and its candidates cost, for one square image, in the form of `profiling.profile`.

    Profiling takes 0.5 s (tiny) to 2 s (large) after the 4 s in which torch and NNI are imported, too much
    for every trial process; so the numbers of the built-in spaces at 224 are read from a file that
    `python -m search_spaces` writes. Raises `SpaceError` like `build_trunk` and `profile`.
    """
    if resolution == SHIPPED_RESOLUTION and space in BUILT_IN:
        path = Path(__file__).with_name(f"costs_{SHIPPED_RESOLUTION}.json")
        shipped = json.loads(path.read_text(encoding="utf-8"))[space]
        # JSON has lists where a size has tuples; a fixed net has no size.
        size = json.loads(json.dumps(asdict(SEARCHED[space]))) if space in SEARCHED else None
        if shipped.pop("size", None) == size:
            return shipped
    from search_spaces.profiling import profile

    return profile(space, resolution)
