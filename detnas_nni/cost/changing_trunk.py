"""A trunk that becomes one architecture of its space after the other, each as its fixed net would be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_nni.models.folding import fold_batch_norm
from search_spaces import layout
from search_spaces.trunk import TrunkSpace, layer_choices

_CALIBRATION_BATCH = 4  # BN needs more than one value a channel, of a feature of one pixel, too


class ChangingTrunk:
    """The trunk of a space in eval mode, BN folded, with one candidate in the place of each choice.

    That is the module tree that NNI builds of an architecture under `model_context`; to become another one
    swaps references. Weights are drawn, and BN has the statistics of noise, so that activations keep their
    size: what decays to denormal numbers would be slower than any trained net.

    Args:
        space: its name.
        options: of the trunk.
        resolution: side of the images that it will see, in pixels.
        device: where it computes.
    """

    def __init__(
        self, space: str, options: Mapping[str, Any], resolution: int, device: torch.device | str
    ) -> None:
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net: nn.Module = TrunkSpace(space, **options)
            image = torch.randn(_CALIBRATION_BATCH, 3, resolution, resolution)
        labels = [choice.label for choice in layout(space)]
        places: dict[str, list[tuple[nn.Module, str, list[nn.Module]]]] = defaultdict(list)
        for name, choice in layer_choices(self.net, space).items():
            parent, _, attribute = name.rpartition(".")
            places[choice.label].append((self.net.get_submodule(parent), attribute, list(choice)))
        # A label may stand in several places, which then choose together.
        self._places = [places[label] for label in labels]
        self.sizes = [len(of_label[0][2]) for of_label in self._places]
        for module in self._everything():
            module.to(self.device)
        self._calibrate(image.to(self.device))
        for module in self._everything():
            fold_batch_norm(module)

    def become(self, ops: Sequence[int]) -> None:
        """Put the candidates of these ops into their places."""
        for places, op in zip(self._places, ops, strict=True):
            for parent, attribute, candidates in places:
                parent._modules[attribute] = candidates[op]

    def candidates(self) -> list[list[list[nn.Module]]]:
        """For each block and op, the candidate's modules: one for each place that the label stands in."""
        return [
            [[candidates[op] for _, _, candidates in places] for op in range(size)]
            for places, size in zip(self._places, self.sizes, strict=True)
        ]

    def _everything(self) -> list[nn.Module]:
        """The net, whatever it is now, and every candidate."""
        return [
            self.net,
            *(module for of_block in self.candidates() for of_op in of_block for module in of_op),
        ]

    @torch.no_grad()
    def _calibrate(self, image: Tensor) -> None:
        for module in self._everything():
            module.train()
            for norm in module.modules():
                if isinstance(norm, _BatchNorm):
                    norm.momentum = 1.0  # the statistics are then those of the last batch
        for turn in range(max(self.sizes, default=1)):
            self.become([turn % size for size in self.sizes])
            self.net(image)
        for module in self._everything():
            module.eval()
