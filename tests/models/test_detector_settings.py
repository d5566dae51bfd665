"""Every value of the config's detector section reaches torchvision's detector."""

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import nn
from torchvision.models.detection._utils import Matcher

from detnas_nni.config import Detector
from detnas_nni.errors import ConfigError
from detnas_nni.models import DetectorSpace
from tests.models.detectors import CLASSES, FULL, both, fixed, images, settings


def matched(matcher: Matcher) -> tuple[float, float]:
    return matcher.low_threshold, matcher.high_threshold


def sampled(part: nn.Module) -> tuple[int, float]:
    return part.fg_bg_sampler.batch_size_per_image, part.fg_bg_sampler.positive_fraction


Found = Callable[[nn.Module], object]
# By subject: settings, what a detector that was built from them is asked for, and its answer.
OF_FASTER_RCNN: dict[str, tuple[dict[str, object], Found, object]] = {
    "anchors": (
        {"anchor_ratios": (0.25, 1.0), "anchor_sizes": (8, 16, 32, 64, 128)},
        lambda net: (net.rpn.anchor_generator.sizes, net.rpn.anchor_generator.aspect_ratios),
        (((8,), (16,), (32,), (64,), (128,)), ((0.25, 1.0),) * 5),
    ),
    "rpn matching": (
        {"rpn_bg_iou": 0.2, "rpn_fg_iou": 0.6},
        lambda net: matched(net.rpn.proposal_matcher),
        (0.2, 0.6),
    ),
    "rpn sampling": ({"rpn_samples": 64, "rpn_positives": 0.3}, lambda net: sampled(net.rpn), (64, 0.3)),
    "rpn nms": ({"rpn_nms": 0.65}, lambda net: net.rpn.nms_thresh, 0.65),
    "proposals in training": (
        {"rpn_proposals_train": 40},
        lambda net: (net.rpn.train().pre_nms_top_n(), net.rpn.post_nms_top_n()),
        (40, 40),
    ),
    "proposals in evaluation": (
        {"rpn_proposals_test": 30},
        lambda net: (net.rpn.eval().pre_nms_top_n(), net.rpn.post_nms_top_n()),
        (30, 30),
    ),
    "pooling": (
        {"roi_size": 5, "roi_sampling": 3},
        lambda net: (net.roi_heads.box_roi_pool.output_size, net.roi_heads.box_roi_pool.sampling_ratio),
        ((5, 5), 3),
    ),
    "box head": (
        {"box_head_convs": 3, "box_head_channels": 24, "box_head_width": 40, "roi_size": 6},
        lambda net: [tuple(p.shape) for p in net.roi_heads.box_head.parameters() if p.dim() > 1],
        [(24, 16, 3, 3), (24, 24, 3, 3), (24, 24, 3, 3), (40, 24 * 6 * 6)],
    ),
    "matching": (
        {"box_bg_iou": 0.4, "box_fg_iou": 0.45},
        lambda net: matched(net.roi_heads.proposal_matcher),
        (0.4, 0.45),
    ),
    "sampling": ({"box_samples": 24, "box_positives": 0.2}, lambda net: sampled(net.roi_heads), (24, 0.2)),
    "nms": ({"nms": 0.6}, lambda net: net.roi_heads.nms_thresh, 0.6),
}
OF_RETINANET: dict[str, tuple[dict[str, object], Found, object]] = {
    "anchors": (
        {"anchor_ratios": (0.25, 1.0), "scales_per_octave": 2, "anchor_sizes": (10, 20, 40, 80, 160)},
        lambda net: (net.anchor_generator.sizes, net.anchor_generator.aspect_ratios),
        (((10, 14), (20, 28), (40, 56), (80, 113), (160, 226)), ((0.25, 1.0),) * 5),
    ),
    "matching": ({"bg_iou": 0.3, "fg_iou": 0.6}, lambda net: matched(net.proposal_matcher), (0.3, 0.6)),
    "candidates": ({"candidates_per_level": 77}, lambda net: net.topk_candidates, 77),
    "nms": ({"nms": 0.4}, lambda net: net.nms_thresh, 0.4),
}
# Seen by what the detectors do, here and in test_detector.py.
SEEN_OTHERWISE = {"name", "min_size", "max_size", "fpn_channels", "score_threshold", "detections_per_image"}


@pytest.mark.parametrize(
    ("name", "subject"),
    [*(("faster_rcnn", key) for key in OF_FASTER_RCNN), *(("retinanet", key) for key in OF_RETINANET)],
)
def test_a_setting_reaches_its_part_of_the_detector(name: str, subject: str) -> None:
    changes, found, expected = (OF_FASTER_RCNN if name == "faster_rcnn" else OF_RETINANET)[subject]
    assert found(fixed(name, **changes).detector) == expected


def test_every_setting_of_the_config_is_seen_to_reach_a_detector() -> None:
    tested = {key for changes, _, _ in (*OF_FASTER_RCNN.values(), *OF_RETINANET.values()) for key in changes}
    assert tested | SEEN_OTHERWISE == set(Detector.model_fields)


@both
def test_image_sizes_score_threshold_and_number_of_detections_reach_the_detector(name: str) -> None:
    with torch.no_grad():
        few = fixed(name, score_threshold=0.0, detections_per_image=3).eval()(images())
        none = fixed(name, score_threshold=1.0).eval()(images())
    assert [len(output["boxes"]) for output in few] == [3, 3]
    assert [len(output["boxes"]) for output in none] == [0, 0]
    resized, _ = fixed(name, min_size=32, max_size=64).detector.transform(images())
    assert resized.image_sizes == [(32, 40), (36, 32)]


@both
def test_the_heads_follow_the_number_of_anchors_and_of_cells(name: str) -> None:
    net = fixed(name, anchor_ratios=(0.5, 1.0), scales_per_octave=2, roi_size=5)
    if name == "faster_rcnn":
        assert net.detector.rpn.head.cls_logits.out_channels == 2
    else:
        assert net.detector.head.classification_head.cls_logits.out_channels == 2 * 2 * CLASSES
        assert net.detector.head.regression_head.bbox_reg.out_channels == 2 * 2 * 4
    losses = net.train()(images(), list(FULL))
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.no_grad():
        assert len(net.eval()(images())) == 2


class FiveFeatures(nn.Module):
    """A trunk with one feature more than ours have."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = dict.fromkeys("abcde", 3)
        self.choice = LayerChoice([nn.Identity(), nn.Identity()], label="choice")


def test_a_trunk_of_more_features_than_anchor_sizes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("five_features")
    module.trunk = FiveFeatures
    monkeypatch.setitem(sys.modules, "five_features", module)
    DetectorSpace("five_features:trunk", CLASSES, settings("retinanet"))
    with pytest.raises(
        ConfigError, match=r"detector\.anchor_sizes has 5 sizes, .* faster_rcnn a pyramid of 6"
    ):
        DetectorSpace("five_features:trunk", CLASSES, settings("faster_rcnn"))
