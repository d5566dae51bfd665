"""How many passes, each of one path and one batch, make up one update of a supernet's weights.

Fair sampling is the strict fairness of FairNAS (arXiv 1907.01845, algorithm 1): as many paths as a block has
candidates, which together use every candidate of every block once, then one update. Gradients are summed, as
there, not averaged. So the learning rate is that of the other samplings: a candidate gets one gradient at
full size, as whenever it is drawn, and what all paths share gets k at once, as if the batch were k times as
large and the rate k times as high. Unlike there each pass has its own batch: a step costs as much and sees as
many images as a step of the other samplings. Momentum and weight decay act once per update, with the learning
rate of its last step.
"""

from __future__ import annotations

from typing import Literal

from detnas_nni.config.schema import Config, Training
from detnas_nni.errors import ConfigError
from search_spaces import layout


def passes_per_update(config: Config, step: Literal["pretrain", "finetune"]) -> int:
    """The number of candidates of a block with fair sampling, else 1.

    Raises:
        ConfigError: blocks have different numbers of candidates, or steps are not a whole number of updates.
    """
    settings: Training = getattr(config, step)
    if settings.sampling != "fair":
        return 1
    sizes = {len(choice.candidates) for choice in layout(config.space.name)}
    if len(sizes) > 1:
        raise ConfigError(
            f"{step}.sampling is fair, which needs the same number of candidates in every block; those of "
            f"{config.space.name} have {', '.join(map(str, sorted(sizes)))}; use balanced"
        )
    passes = max(sizes, default=1)
    if settings.steps % passes:
        raise ConfigError(
            f"{step}.steps is {settings.steps}; with {step}.sampling fair it has to be a multiple of the "
            f"{passes} passes of an update, such as {settings.steps + -settings.steps % passes}"
        )
    return passes
