"""torchvision's Faster R-CNN with FPN and RetinaNet around a trunk, with BN trained, never frozen."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import current_model
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detnas_nni import config as cfg
from detnas_nni.config.own_parts import is_own, load_factory
from detnas_nni.errors import ConfigError
from search_spaces import build_trunk

# RetinaNet starts at C3: it takes the trunk's last three features [facts: search space].
_RETINANET_FEATURES = 3

# torchvision's detectors pad a batch of images to a multiple of it, in pixels.
_PADDING = 32


class DetectorSpace(ModelSpace):
    """A detector around a trunk, which is searched or is a fixed net.

    Args:
        space: name of the trunk space, as `search_spaces.build_trunk` takes it.
        num_classes: object classes, without the background.
        settings: the config's `detector` section.
        options: keyword arguments of the trunk.

    Raises:
        ConfigError: the trunk gives more pyramid levels than there are anchor sizes, or a user's own
            detector cannot be imported, or does not keep the trunk where it is expected.
    """

    def __init__(
        self,
        space: str,
        num_classes: int,
        settings: cfg.Detector,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        trunk = build_trunk(space, **(options or {}))
        self._is_own = is_own(settings.name)
        build = _own if self._is_own else _BUILD[settings.name]
        self.detector = build(trunk, num_classes, settings)

    @property
    def trunk(self) -> nn.Module:
        return self.detector.backbone.trunk

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses by name in training mode, detections (boxes, labels, scores) per image in eval mode.

        Images are (3, H, W), BGR, 0–255; a target has boxes (M, 4) in x1, y1, x2, y2 pixels and labels (M,)
        from 1.
        """
        return self.detector(images, targets)

    def calibration_pass(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> None:
        """A training pass up to the last BN, without what follows it, mainly the losses.

        Every BN sees what it sees in `forward` in training mode, except for different random proposals.
        Arguments as there. The net is in training mode.
        """
        detector = self.detector
        if self._is_own:  # where its BN layers are is unknown
            detector(images, targets)
            return
        batch, targets = detector.transform(images, targets)
        features = detector.backbone(batch.tensors)
        if not isinstance(detector, FasterRCNN):
            return  # RetinaNet's heads have no BN
        head = _up_to_the_last_norm(detector.roi_heads.box_head)
        if head:
            proposals = _proposals(detector.rpn, batch, list(features.values()))
            proposals = detector.roi_heads.select_training_samples(proposals, targets)[0]
            head(detector.roi_heads.box_roi_pool(features, proposals, batch.image_sizes))


def _up_to_the_last_norm(layers: nn.Sequential) -> nn.Sequential:
    """The layers up to the last BN; empty if there is none."""
    with_norm = [
        number
        for number, layer in enumerate(layers, start=1)
        if any(isinstance(module, _BatchNorm) for module in layer.modules())
    ]
    return nn.Sequential(*list(layers)[: max(with_norm, default=0)])


def _proposals(rpn: RegionProposalNetwork, images: ImageList, features: list[Tensor]) -> list[Tensor]:
    """The boxes that the RPN proposes per image: its forward without the losses."""
    objectness, deltas = rpn.head(features)
    anchors = rpn.anchor_generator(images, features)
    per_level = [level[0].numel() for level in objectness]
    objectness, deltas = concat_box_prediction_layers(objectness, deltas)
    proposals = rpn.box_coder.decode(deltas, anchors).view(len(anchors), -1, 4)
    return rpn.filter_proposals(proposals, objectness, images.image_sizes, per_level)[0]


class TrunkWithFPN(nn.Module):
    """A trunk and the feature pyramid over its last `features` outputs, with BN after every convolution."""

    def __init__(
        self, trunk: nn.Module, features: int, channels: int, extra: nn.Module, norm: type[nn.Module]
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.names = tuple(trunk.out_channels)[-features:]
        self.fpn = FeaturePyramidNetwork(
            [trunk.out_channels[name] for name in self.names], channels, extra_blocks=extra, norm_layer=norm
        )
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Images (N, 3, H, W) to the pyramid's levels by name, each (N, channels, H/s, W/s)."""
        outputs = self.trunk(images)
        return self.fpn(OrderedDict((name, outputs[name]) for name in self.names))


class _PaddedRoIAlign(MultiScaleRoIAlign):
    """torchvision's, but deriving the levels' strides from the padded size of the images.

    torchvision takes the size before padding, and keeps what the first batch gave: a batch of 66
    pixels, padded to 96, makes stride 4 look like stride 2, and a resumed training or a candidate's net,
    which see other images first, pool differently from the supernet.
    """

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        padded = [
            (math.ceil(h / _PADDING) * _PADDING, math.ceil(w / _PADDING) * _PADDING) for h, w in image_shapes
        ]
        return super().forward(x, boxes, padded)


class _RetinaNetFromOne(RetinaNet):
    """torchvision's RetinaNet, whose labels count from 0, with labels from 1 as Faster R-CNN has them.

    The common workaround, an extra class, scores a label 0 that no object has, and may detect it.
    """

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        if targets is not None:
            targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        outputs = super().forward(images, targets)
        return outputs if self.training else [{**o, "labels": o["labels"] + 1} for o in outputs]


def _faster_rcnn(trunk: nn.Module, num_classes: int, settings: cfg.Detector) -> FasterRCNN:
    channels = settings.fpn_channels
    features = len(trunk.out_channels)
    backbone = TrunkWithFPN(trunk, features, channels, LastLevelMaxPool(), nn.BatchNorm2d)
    anchors = _anchors(settings, levels=features + 1, scales=1)  # a pooled level on top
    # The paper's box head: 4conv1fc with BN, which trains from scratch where 2fc does not [R].
    head = FastRCNNConvFCHead(
        (channels, settings.roi_size, settings.roi_size),
        [settings.box_head_channels] * settings.box_head_convs,
        [settings.box_head_width],
        norm_layer=nn.BatchNorm2d,
    )
    return FasterRCNN(
        backbone,
        num_classes=None,  # the predictor says it
        rpn_anchor_generator=anchors,
        box_roi_pool=_PaddedRoIAlign(list(backbone.names), settings.roi_size, settings.roi_sampling),
        box_head=head,
        box_predictor=FastRCNNPredictor(settings.box_head_width, num_classes + 1),
        rpn_pre_nms_top_n_train=settings.rpn_proposals_train,
        rpn_post_nms_top_n_train=settings.rpn_proposals_train,
        rpn_pre_nms_top_n_test=settings.rpn_proposals_test,
        rpn_post_nms_top_n_test=settings.rpn_proposals_test,
        rpn_nms_thresh=settings.rpn_nms,
        rpn_fg_iou_thresh=settings.rpn_fg_iou,
        rpn_bg_iou_thresh=settings.rpn_bg_iou,
        rpn_batch_size_per_image=settings.rpn_samples,
        rpn_positive_fraction=settings.rpn_positives,
        box_fg_iou_thresh=settings.box_fg_iou,
        box_bg_iou_thresh=settings.box_bg_iou,
        box_batch_size_per_image=settings.box_samples,
        box_positive_fraction=settings.box_positives,
        box_score_thresh=settings.score_threshold,
        box_nms_thresh=settings.nms,
        box_detections_per_img=settings.detections_per_image,
        **_image_arguments(settings),
    )


def _retinanet(trunk: nn.Module, num_classes: int, settings: cfg.Detector) -> _RetinaNetFromOne:
    channels = settings.fpn_channels
    extra = LastLevelP6P7(channels, channels)  # equal widths make torchvision build P6 from P5
    backbone = TrunkWithFPN(trunk, _RETINANET_FEATURES, channels, extra, nn.BatchNorm2d)
    levels = len(backbone.names) + 2  # with P6 and P7
    return _RetinaNetFromOne(
        backbone,
        num_classes,
        anchor_generator=_anchors(settings, levels, settings.scales_per_octave),
        fg_iou_thresh=settings.fg_iou,
        bg_iou_thresh=settings.bg_iou,
        topk_candidates=settings.candidates_per_level,
        score_thresh=settings.score_threshold,
        nms_thresh=settings.nms,
        detections_per_img=settings.detections_per_image,
        **_image_arguments(settings),
    )


_BUILD = {"faster_rcnn": _faster_rcnn, "retinanet": _retinanet}


def _own(trunk: nn.Module, num_classes: int, settings: cfg.Detector) -> nn.Module:
    """The detector that the factory in `detector.name` makes around the trunk."""
    detector = load_factory("detector.name", settings.name)(trunk, num_classes, settings)
    if not isinstance(detector, nn.Module):
        raise ConfigError(f"detector.name: {settings.name!r} gave {type(detector).__name__}, no nn.Module")
    if getattr(getattr(detector, "backbone", None), "trunk", None) is not trunk:
        raise ConfigError(
            f"detector.name: the detector of {settings.name!r} has to keep the trunk that it is given in "
            "`backbone.trunk`, where its weights are expected (TrunkWithFPN does)"
        )
    # Under model_context every LayerChoice has become its chosen candidate.
    if current_model() is None and _choices(detector) != _choices(trunk):
        raise ConfigError(
            f"detector.name: the detector of {settings.name!r} has a LayerChoice outside the trunk, "
            "which no search would cover; put choices into the space"
        )
    return detector


def _choices(net: nn.Module) -> int:
    return sum(isinstance(module, LayerChoice) for module in net.modules())


def _anchors(settings: cfg.Detector, levels: int, scales: int) -> AnchorGenerator:
    """Anchors of every ratio for each pyramid level, in `scales` sizes from one octave."""
    if levels > len(settings.anchor_sizes):
        raise ConfigError(
            f"detector.anchor_sizes has {len(settings.anchor_sizes)} sizes, but the trunk gives the "
            f"{settings.name} a pyramid of {levels} levels; use a trunk with fewer features"
        )
    sizes = tuple(
        tuple(int(size * 2 ** (step / scales)) for step in range(scales))
        for size in settings.anchor_sizes[:levels]
    )
    return AnchorGenerator(sizes, (settings.anchor_ratios,) * levels)


def _image_arguments(settings: cfg.Detector) -> dict[str, Any]:
    """Images come as BGR 0–255 and stay so: the reference does not normalise them either."""
    return {
        "min_size": settings.min_size,
        "max_size": settings.max_size,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
    }
