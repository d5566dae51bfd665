"""MACs and parameters of every candidate of a space.

MACs of the built-in spaces are counted by NNI's profiler, those of a user's own trunk by running it
(`counting.py`), which gives the same numbers for the built-in ones.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nni.nas.profiler.pytorch.flops import FlopsProfiler, FlopsResult, register_flops_formula
from nni.nas.profiler.pytorch.utils import MutableShape, ShapeTensor, register_shape_inference_formula
from torch import Tensor, nn

from search_spaces import BUILT_IN, layout
from search_spaces.counting import RunMacs
from search_spaces.efficientnetlite import Normalise, SamePad
from search_spaces.errors import SpaceError
from search_spaces.trunk import TrunkSpace, layer_choices, throwaway


def _keep_shape(_operator: Any, x: ShapeTensor, *_: Any, **__: Any) -> MutableShape:
    return x.real_shape


# NNI knows the shapes of ReLU, GELU, hard swish and hard sigmoid, but not of other activations, nor of a
# residual that is added in place.
for _name in ("hardtanh", "silu", "silu_", "sigmoid", "sigmoid_", "leaky_relu", "leaky_relu_", "mish", "elu"):
    register_shape_inference_formula(getattr(torch.ops.aten, _name).default, _keep_shape)
for _name in ("add_", "sub", "sub_", "div", "div_"):
    register_shape_inference_formula(getattr(torch.ops.aten, _name).Tensor, _keep_shape)


def _pad_shape(_operator: Any, x: ShapeTensor, pad: Sequence[int], *_: Any) -> MutableShape:
    shape = list(x.real_shape)
    for axis, (before, behind) in enumerate(zip(pad[::2], pad[1::2], strict=True), start=1):
        shape[-axis] = shape[-axis] + before + behind
    return MutableShape(*shape)


register_shape_inference_formula(torch.ops.aten.constant_pad_nd.default, _pad_shape)
# These have no MACs that count; without a formula NNI warns that it counts nothing.
for _module in (nn.MaxPool2d, nn.Identity, Normalise, SamePad):
    register_flops_formula(_module, lambda *_: FlopsResult(0, 0))


def profile(space: str, resolution: int) -> dict[str, Any]:
    """The costs of a trunk for one image (1, 3, resolution, resolution), as plain numbers.

    - `base`: [MACs, parameters] of the architecture of zeros;
    - `blocks`: for each block and op, [MACs, parameters] more than op 0;
    - `last_feature`: [C, H, W] of the last feature;
    - `classifier_channels`: channels of a classifier's last convolution, None if it has none;
    - `classifier_conv_params`: parameters of such a convolution of the trunk itself, if any.

    MACs are multiply-adds of convolutions and matrix products; parameters are all that the modules have.
    Raises `SpaceError` if the trunk cannot be run or counted, gives other features than stated, or has costs
    that do not add up over its blocks.
    """
    with throwaway(space) as trunk_space:
        # Zeros rather than whatever is in memory: operators may compute positions from values.
        image = torch.zeros(1, 3, resolution, resolution)
        macs = (_ProfiledMacs if space in BUILT_IN else RunMacs)(trunk_space, image, space)
        last_feature = _features(trunk_space, image, space)[-1].shape[1:]
        outside, params = _parameters(trunk_space, space)
        blocks = [
            [list(more) for more in zip(_from_first(macs_row), _from_first(params_row), strict=True)]
            for macs_row, params_row in zip(macs.blocks, params, strict=True)
        ]
        _check_sums(macs, blocks, space)
    own = getattr(trunk_space.trunk, "classifier_conv", None)
    return {
        "base": [macs.base, outside + sum(of_block[0] for of_block in params)],
        "blocks": blocks,
        "last_feature": list(last_feature),
        "classifier_channels": trunk_space.trunk.classifier_channels,
        **({} if own is None else {"classifier_conv_params": _size(own())}),
    }


class _ProfiledMacs:
    """Like `RunMacs`, with NNI's profiler."""

    def __init__(self, trunk_space: TrunkSpace, image: Tensor, space: str) -> None:
        self._choices = layout(space)
        try:
            # NNI's defaults count normalisation, activation and bias too, about 6 % more.
            self._profiler = FlopsProfiler(
                trunk_space, image, count_normalization=False, count_activation=False, count_bias=False
            )
        except Exception as error:  # whatever the trunk's code raises in it
            raise SpaceError(
                f"NNI's FlopsProfiler cannot trace the trunk of {space!r} ({type(error).__name__}: {error})"
            ) from error
        zeros = [0] * len(self._choices)
        self.base = self.count(zeros)
        # One block changed at a time: the profiler counts whole trunks only.
        self.blocks = [
            [self.count([*zeros[:index], op, *zeros[index + 1 :]]) for op in range(len(choice.candidates))]
            for index, choice in enumerate(self._choices)
        ]

    def count(self, ops: Sequence[int]) -> int:
        blocks = zip(self._choices, ops, strict=True)
        sample = {choice.label: choice.candidates[op] for choice, op in blocks}
        return round(self._profiler.profile(sample))


def _features(trunk_space: TrunkSpace, image: Tensor, space: str) -> list[Tensor]:
    features, promised = trunk_space(image), dict(trunk_space.trunk.out_channels)
    given = isinstance(features, Mapping) and {name: x.shape[1] for name, x in features.items()}
    if given != promised or list(given) != list(promised):
        raise SpaceError(
            f"the trunk of {space!r} has out_channels {promised}, but its forward gives "
            f"{given or type(features).__name__}"
        )
    return list(features.values())


def _parameters(trunk_space: TrunkSpace, space: str) -> tuple[int, list[list[int]]]:
    """Parameters outside all choices, and of each candidate of each block."""
    choices = layout(space)
    of_label = {choice.label: [0] * len(choice.candidates) for choice in choices}
    for module in layer_choices(trunk_space, space).values():
        for op, candidate in enumerate(module):
            of_label[module.label][op] += _size(candidate)
    outside = _size(trunk_space) - sum(map(sum, of_label.values()))
    return outside, [of_label[choice.label] for choice in choices]


def _from_first(numbers: list[int]) -> list[int]:
    return [number - numbers[0] for number in numbers]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_sums(macs: _ProfiledMacs | RunMacs, blocks: list[list[list[int]]], space: str) -> None:
    """Eight architectures, drawn with a fixed seed, against the count of the whole trunk."""
    draw = random.Random(0)
    for _ in range(8):
        ops = [draw.randrange(len(of_block)) for of_block in blocks]
        more = sum(of_block[op][0] for of_block, op in zip(blocks, ops, strict=True))
        if macs.count(ops) != macs.base + more:
            raise SpaceError(
                f"the MACs of {space!r} do not add up over its blocks: the choice in one changes the shape "
                "that another sees; the candidates of a block have to give the same shape"
            )
