"""MACs of a trunk in ordinary PyTorch: torch's flop counter watches it run, candidate by candidate.

NNI's profiler knows modules by their class, and counts unknown ones as nothing: convolutions by function, the
products inside attention, a module that runs twice. A user's own trunk is therefore counted by its
operators.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from search_spaces import layout
from search_spaces.errors import SpaceError
from search_spaces.trunk import TrunkSpace, layer_choices

# Words in the names of operators that multiply and add like convolutions and matrix products.
_MULTIPLIES = {
    *("conv", "convolution", "conv2d", "mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "mv", "addmv"),
    *("dot", "vdot", "cdist", "attention", "lstm", "gru", "rnn", "bilinear"),
}


class RunMacs:
    """MACs of the architectures of a trunk as functions of ops, by runs of it.

    Each candidate runs once, with its inputs in a net of first candidates.

    Args:
        trunk_space: in eval mode.
        image: (1, 3, H, W).
        space: its name.

    Raises SpaceError if the trunk fails, if the candidates of a block give different shapes, or if something
    multiplies in a way that torch's flop counter does not know.
    """

    def __init__(self, trunk_space: TrunkSpace, image: Tensor, space: str) -> None:
        self._trunk_space, self._image, self._space = trunk_space, image, space
        self._labels = [choice.label for choice in layout(space)]
        self._modules: dict[str, list[LayerChoice]] = {label: [] for label in self._labels}
        for module in layer_choices(trunk_space, space).values():
            self._modules[module.label].append(module)
        inputs = self._inputs()
        self.base = self.count([0] * len(self._labels))
        """of the architecture of zeros"""
        self.blocks = [self._of_block(label, inputs) for label in self._labels]
        """of each block and op alone"""

    def count(self, ops: Sequence[int]) -> int:
        """MACs of a whole architecture."""
        chosen = dict(zip(self._labels, ops, strict=True))
        with self._running(chosen):
            return self._counted(lambda: self._trunk_space(self._image))[0]

    def _inputs(self) -> dict[LayerChoice, list[Tensor]]:
        """The inputs of each call of every LayerChoice when first candidates run."""
        found: dict[LayerChoice, list[Tensor]] = {}
        hooks = [
            module.register_forward_pre_hook(lambda module, given: found.setdefault(module, []).extend(given))
            for modules in self._modules.values()
            for module in modules
        ]
        try:
            self._counted(lambda: self._trunk_space(self._image))
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _of_block(self, label: str, inputs: dict[LayerChoice, list[Tensor]]) -> list[int]:
        """MACs of each candidate of a block, over all its places."""
        totals = [0] * min(len(module) for module in self._modules[label])
        for module in self._modules[label]:
            candidates = list(module)[: len(totals)]
            for x in inputs.get(module, ()):
                counted = [self._counted(partial(candidate, x)) for candidate in candidates]
                _, expected = counted[0]
                for op, (macs, given) in enumerate(counted):
                    if given != expected:
                        raise SpaceError(
                            f"the MACs of {self._space!r} do not add up over its blocks: candidate "
                            f"{module.names[op]!r} of {label!r} gives {given}, candidate {module.names[0]!r} "
                            f"{expected}; the candidates of a block have to give the same shape"
                        )
                    totals[op] += macs
        return totals

    @contextmanager
    def _running(self, chosen: dict[str, int]) -> Iterator[None]:
        """Within the context each LayerChoice runs the chosen candidate, where NNI's runs the first."""
        modules = [(module, label) for label in chosen for module in self._modules[label]]
        for module, label in modules:
            module.forward = list(module)[chosen[label]].__call__
        try:
            yield
        finally:
            for module, _ in modules:
                del module.forward

    def _counted(self, run: Callable[[], Any]) -> tuple[int, Any]:
        """MACs of a call, and the shapes of its results."""
        fast_attention = torch.backends.mha.get_fastpath_enabled()
        # An operator for a whole attention layer would hide the products in it.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with (
                sdpa_kernel(SDPBackend.MATH),
                _Uncounted() as others,
                FlopCounterMode(display=False) as flops,
            ):
                given = run()
        except Exception as error:  # whatever the trunk's code raises
            height, width = self._image.shape[-2:]
            raise SpaceError(
                f"the trunk of {self._space!r} fails on an image of {height}x{width} pixels "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
            ) from error
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_attention)
        if others.names:
            raise SpaceError(
                f"the MACs of {self._space!r} cannot be counted: torch's flop counter has no formula for "
                f"{', '.join(sorted(others.names))}; use convolutions, linear layers, matrix products and "
                "attention in torch's own form"
            )
        shapes = tree_map(lambda value: tuple(value.shape) if isinstance(value, Tensor) else value, given)
        return flops.get_total_flops() // 2, shapes  # one multiplication and one addition each


class _Uncounted(TorchDispatchMode):
    """Collects the operators that multiply, by name, that the flop counter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet = func._overloadpacket
        words = set(re.split(r"_+", packet._qualified_op_name.partition("::")[2]))
        if packet not in flop_registry and words & _MULTIPLIES and "upsample" not in " ".join(words):
            self.names.add(packet._qualified_op_name)
        return func(*args, **kwargs or {})
