"""The small space with 2, 4 or 8 candidates per block, all alike: any path of any of them costs the same.

Spaces for `supernet_step.py`, named as "alike:of_4".
"""

from collections import OrderedDict

from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from search_spaces.blocks import ChoiceBlock
from search_spaces.sizes import SIZES, STAGES


def of_2() -> nn.Module:
    """The small trunk with two candidates per block, all alike."""
    return TrunkOfAlike(2)


def of_4() -> nn.Module:
    """With four."""
    return TrunkOfAlike(4)


def of_8() -> nn.Module:
    """With eight."""
    return TrunkOfAlike(8)


class TrunkOfAlike(nn.Module):
    """The small trunk, in which the candidates of a block are all the same and any path costs the same."""

    def __init__(self, number: int) -> None:
        super().__init__()
        widths = SIZES["small"]
        self.out_channels = OrderedDict(zip(STAGES, widths.channels, strict=True))
        self.classifier_channels = widths.classifier
        self.stem = nn.Conv2d(3, widths.stem, 3, stride=2, padding=1)
        self.stages = nn.ModuleDict()
        entering, index = widths.stem, 0
        for stage, width, blocks in zip(STAGES, widths.channels, widths.blocks, strict=True):
            self.stages[stage] = nn.Sequential()
            for block in range(blocks):
                candidates = [
                    ChoiceBlock("shufflenet_3x3", entering, width, stride=2 if block == 0 else 1)
                    for _ in range(number)
                ]
                self.stages[stage].append(LayerChoice(candidates, label=f"block_{index}"))
                entering, index = width, index + 1

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Like `ShuffleNetV2Trunk`'s."""
        features = OrderedDict()
        x = self.stem(x)
        for name, stage in self.stages.items():
            x = features[name] = stage(x)
        return features
