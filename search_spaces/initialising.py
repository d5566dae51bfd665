"""What the families of trunks share when they draw their weights."""

from collections.abc import Iterator

from torch import nn


def layers_to_draw(module: nn.Module) -> Iterator[nn.Module]:
    """A module and all in it, in order; none on the meta device.

    There is nothing to draw there, and torch takes longer for that than for drawing.
    """
    if not all(parameter.is_meta for parameter in module.parameters()):
        yield from module.modules()
