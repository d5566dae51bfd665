"""A calibration pass gives BN what a training step gives it, and computes no more than that needs."""

import pytest
import torch
from nni.nas.space import model_context
from torch import Tensor, nn

from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.models import ClassifierSpace
from tests.models.detectors import CLASSES, EMPTY, FULL, PATH, both, fixed, images

# Every proposal is sampled, so that none is drawn.
ALL = {"box_samples": 10_000, "box_positives": 1.0}


def statistics(net: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in net.state_dict().items() if "running" in name}


@both
@pytest.mark.parametrize("targets", [FULL, (FULL[0], EMPTY[0]), EMPTY], ids=["boxes", "one empty", "empty"])
@pytest.mark.parametrize("convs", [0, 2])
def test_a_detectors_statistics_are_those_of_its_training_step(
    name: str, targets: tuple[dict[str, Tensor], ...], convs: int
) -> None:
    by_loss, by_pass = (fixed(name, **ALL, box_head_convs=convs) for _ in range(2))
    batches = [(images(), list(targets))] * 2
    recalibrate(by_loss, batches, lambda net, batch: net(*batch))
    recalibrate(by_pass, batches, lambda net, batch: net.calibration_pass(*batch))
    expected, found = statistics(by_loss), statistics(by_pass)
    assert any(".box_head." in key for key in expected) == (name == "faster_rcnn" and convs > 0)
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def test_a_classifiers_statistics_are_those_of_its_training_step() -> None:
    def build() -> ClassifierSpace:
        torch.manual_seed(0)
        with model_context(PATH.choices):
            return ClassifierSpace("tiny", CLASSES)

    by_loss, by_pass = build(), build()
    batches = [torch.rand(4, 3, 48, 48) * 255 for _ in range(2)]
    recalibrate(by_loss, batches, lambda net, batch: net(batch))
    recalibrate(by_pass, batches, lambda net, batch: net.calibration_pass(batch))
    expected, found = statistics(by_loss), statistics(by_pass)
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


@both
def test_nothing_runs_behind_the_last_norm(name: str) -> None:
    net = fixed(name).train()
    ran = set()
    for key, layer in net.named_modules():
        layer.register_forward_hook(lambda module, *_, key=key: ran.add(key))
    net.calibration_pass(images(), list(FULL))
    behind = {
        key for key in dict(net.named_modules()) if "box_predictor" in key or key.endswith("box_head.3")
    }
    behind |= {key for key in dict(net.named_modules()) if ".head." in key and name == "retinanet"}
    assert behind and not behind & ran
