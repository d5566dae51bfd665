"""Whether an exported net computes the same as the net: compared on images, output by output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detnas_nni.errors import EvaluationError
from detnas_nni.finished.nets import FinishedBackbone, FinishedDetector
from detnas_nni.finished.tracing import example, traceable

_log = logging.getLogger(__name__)

BOX_TOLERANCE = 0.1
"""pixels"""
SCORE_TOLERANCE = 1e-3
FEATURE_TOLERANCE = 1e-3
"""share of a feature map's largest value"""


def expect_parity(
    net: FinishedDetector | FinishedBackbone,
    run: Callable[[Tensor], Sequence[Any]],
    images: Sequence[Tensor],
    what: str,
) -> None:
    """Raise EvaluationError unless an exported net computes the same as the net.

    Args:
        net: as it was before, on the CPU.
        run: the exported net: its input to its outputs, tensors or arrays.
        images: RGB uint8 (3, H, W).
        what: the exported net, for messages.
    """
    reference, detections = traceable(net), 0
    for number, image in enumerate(images, start=1):
        given = example(reference, image)
        with torch.no_grad():
            expected = reference(given)
        # On a GPU torch rounds the inputs of convolutions to ten bits (TF32), which exceeds the tolerances.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = tuple(torch.as_tensor(output).cpu() for output in run(given))
        if isinstance(net, FinishedDetector):
            settings = net.description.detector
            detections += len(expected[0])
            difference = compare_detections(
                expected, found, least=settings.score_threshold, most=settings.detections_per_image
            )
        else:
            difference = compare_features(expected, found)
        if difference is not None:
            raise EvaluationError(
                f"{what} does not compute the same as the net, and was not written: on image {number} of "
                f"{len(images)}, {image.shape[2]}x{image.shape[1]} pixels, {difference}"
            )
    if isinstance(net, FinishedDetector) and detections == 0:
        _log.warning(
            "%s: the net detects nothing in %d images, so the check compared no boxes", what, len(images)
        )


def compare_detections(
    expected: tuple[Tensor, Tensor, Tensor], found: tuple[Tensor, Tensor, Tensor], *, least: float, most: int
) -> str | None:
    """What differs between two nets' detections in an image; None if they agree.

    Every detection has to have a counterpart with its label, whose box and score are within the tolerances.
    Only one whose score is within its tolerance of the lowest score kept may be missing.

    Args:
        expected: boxes (M, 4), labels (M,), scores (M,).
        found: of the exported net.
        least: the score below which the nets drop detections.
        most: how many detections per image they keep.
    """
    for first, second, name in ((expected, found, "the exported"), (found, expected, "the")):
        kept = second[2].min().item() if len(second[2]) >= most else least
        paired = _pairs(first, second)
        for box, label, score, has_pair in zip(*first, paired, strict=True):
            if not has_pair and score.item() > kept + SCORE_TOLERANCE:
                return (
                    f"{name} net has no counterpart of the detection with label {label.item()}, score "
                    f"{score.item():.4f}, at {[round(side, 2) for side in box.tolist()]}"
                )
    return None


def _pairs(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> Tensor:
    """Whether each detection of the first (M,) has its own counterpart in the second."""
    boxes = (first[0][:, None] - second[0][None]).abs().amax(dim=2)
    scores = (first[2][:, None] - second[2][None]).abs()
    fits = (first[1][:, None] == second[1][None]) & (boxes <= BOX_TOLERANCE) & (scores <= SCORE_TOLERANCE)
    paired = torch.zeros(len(fits), dtype=torch.bool)
    for row, fitting in enumerate(fits):
        candidates = fitting.nonzero()
        if len(candidates) > 0:
            paired[row] = True
            fits[:, candidates[0]] = False
    return paired


def compare_features(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> str | None:
    """What differs between two nets' feature maps; None if they agree."""
    for level, (first, second) in enumerate(zip(expected, found, strict=True)):
        if first.shape != second.shape:
            return f"feature map {level} is {tuple(second.shape)}, expected {tuple(first.shape)}"
        difference = (first - second).abs().max().item()
        limit = FEATURE_TOLERANCE * first.abs().max().item()
        if not difference <= limit:  # NaN does not agree
            return f"feature map {level} differs by {difference:.3g}, more than {limit:.3g}"
    return None
