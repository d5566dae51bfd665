"""The finished net as a plain torch module that takes RGB images, for who knows nothing of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from nni.nas.space import model_context
from torch import Tensor, nn

from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.finished.description import Description
from detnas_nni.models import DetectorSpace
from search_spaces import BUILT_IN, SpaceError
from search_spaces.trunk import TrunkSpace

_SIDE = 256  # pixels; a multiple of every stride


def to_trained(images: Tensor) -> Tensor:
    """RGB (…, 3, H, W), uint8 or float in 0..1, to what the nets are trained with: float BGR in 0..255."""
    bgr = images.flip(-3)
    return bgr.to(torch.float32) if images.dtype is torch.uint8 else bgr * 255


class FinishedDetector(nn.Module):
    """A detector as torchvision has them, in the user's hands.

    Attributes:
        description: what it is.
        classes: names by label; label 0 is the background, as in torchvision.
        category_ids: of the training data, by label; 0 is the background's.
    """

    def __init__(self, description: Description, net: DetectorSpace) -> None:
        super().__init__()
        self.description = description
        self.classes = description.classes
        self.category_ids = (0, *description.category_ids)
        self.net = net

    def forward(
        self, images: Sequence[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        """Detections an image: `boxes` (M, 4) in x1, y1, x2, y2 pixels, `labels` (M,) from 1, `scores` (M,).

        In training mode the losses by name instead, for which targets have boxes and labels.

        Args:
            images: each (3, H, W), RGB, of a size of its own: float in 0..1, or uint8.
            targets: in training mode, one an image.
        """
        return self.net([to_trained(image) for image in images], targets)

    def backbone(self) -> FinishedBackbone:
        """Its trunk, which shares its weights."""
        return FinishedBackbone(self.description.backbone(), self.net.trunk)

    def weights(self) -> dict[str, Tensor]:
        """What `build` takes."""
        return self.net.state_dict()


class FinishedBackbone(nn.Module):
    """A trunk for any framework: images in, one feature map a stage out.

    Attributes:
        description: what it is.
        out_channels: of each feature map.
        strides: image pixels a cell of each feature map.
    """

    def __init__(self, description: Description, trunk: nn.Module) -> None:
        super().__init__()
        self.description = description
        self.trunk = trunk
        self.training = trunk.training
        self.names = tuple(trunk.out_channels)
        self.out_channels = list(trunk.out_channels.values())
        self.strides = self._strides()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W), RGB, float in 0..1 or uint8, to features [C2, C3, C4, C5].

        Each is (N, C, ceil(H / s), ceil(W / s)), with C of `out_channels` and s of `strides`.
        A trunk of your own gives those that it names.
        """
        features = self.trunk(to_trained(images))
        return [features[name] for name in self.names]

    def features(self, images: Tensor) -> list[Tensor]:
        """The same."""
        return self(images)

    def weights(self) -> dict[str, Tensor]:
        """What `build` takes."""
        return self.trunk.state_dict(prefix="trunk.")

    @torch.no_grad()
    def _strides(self) -> list[int]:
        training, some = self.training, next(self.trunk.parameters())
        features = self.eval()(torch.zeros(1, 3, _SIDE, _SIDE, device=some.device))
        self.train(training)
        return [round(_SIDE / feature.shape[-1]) for feature in features]


def build(
    description: Description, weights: Mapping[str, Tensor], source: Path
) -> FinishedDetector | FinishedBackbone:
    """The net of a description with its weights, copied, on the CPU and in eval mode.

    Raises CheckpointError that names the file they come from, if they do not fit.
    """
    # On the meta device nothing is drawn, and no file makes a net that is larger than its own tensors. The
    # code of a foreign trunk may compute with its weights.
    device = "meta" if description.space in BUILT_IN else "cpu"
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.device(device),
            model_context(description.architecture.choices),
        ):
            net = _unfilled(description)
    except (SpaceError, ConfigError, RuntimeError) as error:  # torch's of sizes that no number holds
        raise CheckpointError(f"{source}: its net cannot be built: {error}") from None
    _fill(net, weights, source)
    net.eval()
    if isinstance(net, DetectorSpace):
        return FinishedDetector(description, net).eval()
    return FinishedBackbone(description, net.trunk).eval()


def _unfilled(description: Description) -> DetectorSpace | TrunkSpace:
    if description.part == "backbone":
        return TrunkSpace(description.space, **description.options)
    return DetectorSpace(description.space, len(description.names), description.detector, description.options)


def _fill(net: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    expected = net.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        needed, found = (_form(tensors.get(name)) for tensors in (expected, weights))
        if needed != found:
            raise CheckpointError(
                f"{source}: {name} is {found}, but the net that the file describes has {needed}; the file is "
                "damaged, or the weights are another net's"
            )
    net.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)


def _form(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")
