"""The finished net as a plain torch module that takes RGB images, and the JSON that rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from nni.nas.space import model_context
from pydantic import ValidationError, model_validator
from torch import Tensor, nn

from detnas_nni.architecture import Architecture
from detnas_nni.config import Detector, Section
from detnas_nni.errors import ArchitectureError, CheckpointError, ConfigError
from detnas_nni.models import DetectorSpace
from detnas_nni.training.tensors import fill
from search_spaces import BUILT_IN, SpaceError
from search_spaces.trunk import TrunkSpace

Part = Literal["detector", "backbone"]
"""A whole detector, or its trunk alone."""

BACKGROUND = "__background__"
"""torchvision's name of label 0, which no detection has."""

PREPROCESSING = (
    "RGB, float32, 0 to 1, channels first, any size; resizing, the order of the channels and the scale that "
    "the net was trained with are computed inside"
)
"""What every finished net takes, whatever its format."""


class Description(Section):
    """A finished net without its weights."""

    format: Literal[1] = 1
    part: Part
    space: str
    ops: tuple[int, ...]
    options: dict[str, Any]
    """keyword arguments of the trunk"""
    detector: Detector | None = None
    """None for a backbone"""
    names: tuple[str, ...] = ()
    """of the K classes, in the order of their labels, from 1; none for a backbone"""
    category_ids: tuple[int | str, ...] = ()
    """their ids in the training data"""
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _parts_agree(self) -> Description:
        if self.part == "detector" and not (self.detector and self.names):
            raise ValueError("a detector has settings and classes")
        if len(self.category_ids) != len(self.names):
            raise ValueError(f"{len(self.category_ids)} category ids of {len(self.names)} classes")
        return self

    @property
    def architecture(self) -> Architecture:
        """Raises ArchitectureError if the ops do not fit the space."""
        return Architecture(self.space, self.ops)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label; label 0 is the background. Empty for a backbone."""
        return (BACKGROUND, *self.names) if self.names else ()

    def backbone(self) -> Description:
        """The description of the trunk alone."""
        return self.model_copy(update={"part": "backbone", "detector": None, "names": (), "category_ids": ()})


def read_description(text: str, source: Path, trusted: tuple[str, ...] = ()) -> Description:
    """Read a description from JSON. Raises CheckpointError that names the file.

    Args:
        text: what `Description.model_dump_json` gave.
        source: the file it comes from.
        trusted: spaces "package.module:factory" whose code may be imported; no file can run others' code.
    """
    try:
        description = Description.model_validate_json(text, strict=True)
        expect_trusted(description.space, source, trusted)
        _ = description.architecture
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "all of it"
        raise CheckpointError(f"{source}: the net's description is damaged: {key}: {first['msg']}") from None
    except ArchitectureError as error:
        raise CheckpointError(f"{source}: the net's description is damaged: {error}") from None
    return description


def expect_trusted(space: str, source: Path, trusted: tuple[str, ...]) -> None:
    """Raise CheckpointError for a space that names code which the user has not named as well."""
    if ":" in space and space not in trusted:
        raise CheckpointError(
            f"{source}: a net of the space {space!r}, which names code, and no file may run code: if you "
            "trust it, pass the config that names it (-c), or trusted=(…,) in Python"
        )


_SIDE = 256  # pixels; a multiple of every stride


def to_trained(images: Tensor) -> Tensor:
    """Convert RGB (…, 3, H, W), uint8 or float in 0..1, to the nets' training input: float BGR in 0..255."""
    bgr = images.flip(-3)
    return bgr.to(torch.float32) if images.dtype is torch.uint8 else bgr * 255


class FinishedDetector(nn.Module):
    """A detector with torchvision's interface, for users.

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
        """Detections per image: `boxes` (M, 4) in x1, y1, x2, y2 pixels, `labels` (M,) from 1, `scores` (M,).

        In training mode the losses by name instead, for which targets have boxes and labels.

        Args:
            images: each (3, H, W), RGB, of any size: float in 0..1, or uint8.
            targets: in training mode, one per image.
        """
        return self.net([to_trained(image) for image in images], targets)

    def backbone(self) -> FinishedBackbone:
        """Its trunk, which shares its weights."""
        return FinishedBackbone(self.description.backbone(), self.net.trunk)

    def weights(self) -> dict[str, Tensor]:
        """What `build` takes."""
        return self.net.state_dict()


class FinishedBackbone(nn.Module):
    """A trunk for any framework: images in, one feature map per stage out.

    Attributes:
        description: what it is.
        out_channels: of each feature map.
        strides: image pixels per cell of each feature map.
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
        A trunk of your own returns the features that it names.
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

    Raises CheckpointError, naming the file they come from, if they do not fit.
    """
    # On the meta device nothing is drawn, and no file can make a net larger than its own tensors. The code of
    # a foreign trunk may compute with its weights.
    device = "meta" if description.space in BUILT_IN else "cpu"
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.device(device),
            model_context(description.architecture.choices),
        ):
            net = _unfilled(description)
    except (SpaceError, ConfigError, RuntimeError) as error:  # torch's own, for sizes that overflow
        raise CheckpointError(f"{source}: its net cannot be built: {error}") from None
    fill(net, weights, source, "the net that the file describes", assign=True)
    net.eval()
    if isinstance(net, DetectorSpace):
        return FinishedDetector(description, net).eval()
    return FinishedBackbone(description, net.trunk).eval()


def _unfilled(description: Description) -> DetectorSpace | TrunkSpace:
    if description.part == "backbone":
        return TrunkSpace(description.space, **description.options)
    return DetectorSpace(description.space, len(description.names), description.detector, description.options)
