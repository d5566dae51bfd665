"""The two detectors around a trunk: losses, detections, the empty case, and BN that is never frozen."""

import pytest
import torch
from nni.nas.space import model_context
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_nni.architecture import Architecture
from detnas_nni.models import DetectorSpace
from search_spaces import CANDIDATES, FIXED, layout
from tests.models.detectors import CLASSES, EMPTY, FULL, LOSSES, both, fixed, images, settings, target


@both
@pytest.mark.parametrize("targets", [FULL, (FULL[0], EMPTY[0]), EMPTY], ids=["boxes", "one empty", "empty"])
def test_training_gives_finite_losses_that_reach_every_parameter(
    name: str, targets: tuple[dict[str, Tensor], ...]
) -> None:
    net = fixed(name).train()
    losses = net(images(), list(targets))
    assert set(losses) == LOSSES[name]
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    missed = [key for key, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missed == []


@both
def test_a_detector_learns_to_find_nothing_in_images_without_boxes(name: str) -> None:
    net = fixed(name).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.002)
    totals = []
    for _ in range(6):
        loss = sum(net(images(), list(EMPTY)).values())
        totals.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert totals[-1] < totals[0]


@both
def test_detections_lie_in_the_image_with_labels_from_1(name: str) -> None:
    net = fixed(name, score_threshold=0.0, detections_per_image=5000).eval()
    with torch.no_grad():
        outputs = net(images())
    assert len(outputs) == 2
    for image, output in zip(images(), outputs, strict=True):
        boxes, scores, labels = (output[key] for key in ("boxes", "scores", "labels"))
        assert 0 < len(boxes) == len(scores) == len(labels)
        assert boxes.min() >= 0
        assert (boxes[:, [0, 2]] <= image.shape[2]).all()
        assert (boxes[:, [1, 3]] <= image.shape[1]).all()
        assert ((scores >= 0) & (scores <= 1)).all()
    # With no threshold every class is detected somewhere, and the background is none.
    assert set(torch.cat([output["labels"] for output in outputs]).tolist()) == set(range(1, CLASSES + 1))


@both
def test_the_label_that_is_learnt_is_the_label_that_is_detected(name: str) -> None:
    net = fixed(name, score_threshold=0.0).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    targets = [target((8, 8, 48, 48), labels=(2,)), target((8, 8, 48, 48), labels=(2,))]
    for _ in range(20):
        optimizer.zero_grad()
        sum(net(images(), targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        outputs = net.eval()(images())
    for output in outputs:
        assert output["labels"][output["scores"].argmax()] == 2


@both
def test_the_targets_are_left_as_they_were(name: str) -> None:
    targets = [{key: value.clone() for key, value in one.items()} for one in FULL]
    fixed(name).train()(images(), targets)
    for before, after in zip(FULL, targets, strict=True):
        assert all(torch.equal(before[key], after[key]) for key in before)


@both
@pytest.mark.parametrize("space", FIXED)
def test_a_resnet_trains_and_detects_in_the_same_detectors(space: str, name: str) -> None:
    torch.manual_seed(0)
    net = DetectorSpace(space, CLASSES, settings(name)).train()
    stages = ("stage1", "stage2", "stage3", "stage4")
    assert net.detector.backbone.names == (stages if name == "faster_rcnn" else stages[1:])
    losses = net(images(), list(FULL))
    assert set(losses) == LOSSES[name]
    sum(losses.values()).backward()
    missed = [key for key, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missed == []
    with torch.no_grad():
        outputs = net.eval()(images())
    assert [set(output) for output in outputs] == [{"boxes", "scores", "labels"}] * 2


@both
def test_images_stay_bgr_0_to_255(name: str) -> None:
    (image, _) = images()
    batch, _ = fixed(name).detector.transform([image])
    assert torch.allclose(batch.tensors[0, :, :64, :80], image, atol=1e-3)


@both
def test_what_a_detector_saw_first_does_not_matter(name: str) -> None:
    generator = torch.Generator().manual_seed(2)
    odd = [torch.rand(3, 66, 64, generator=generator) * 255]  # padded by half of its height, to 96
    fresh, used = (fixed(name, score_threshold=0.0).eval() for _ in range(2))
    with torch.no_grad():
        used(odd)
        outputs = zip(fresh(images()), used(images()), strict=True)
    for first, second in outputs:
        assert all(torch.equal(first[key], second[key]) for key in first)


def pyramid(net: DetectorSpace) -> dict[str, tuple[int, ...]]:
    with torch.no_grad():
        levels = net.detector.backbone.eval()(torch.rand(1, 3, 128, 128))
    return {name: tuple(level.shape[1:]) for name, level in levels.items()}


def test_the_pyramid_of_faster_rcnn_stands_on_all_four_stages() -> None:
    sides = {"stage1": 32, "stage2": 16, "stage3": 8, "stage4": 4, "pool": 2}
    assert pyramid(fixed("faster_rcnn")) == {name: (16, side, side) for name, side in sides.items()}


def test_the_pyramid_of_retinanet_stands_on_the_last_three_stages() -> None:
    sides = {"stage2": 16, "stage3": 8, "stage4": 4, "p6": 2, "p7": 1}
    net = fixed("retinanet")
    assert pyramid(net) == {name: (16, side, side) for name, side in sides.items()}
    # P6 is built from P5, not from the trunk's last feature, which has other channels.
    assert net.detector.backbone.fpn.extra_blocks.use_P5


def norms(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


@both
def test_every_convolution_of_the_pyramid_is_followed_by_batch_normalisation(name: str) -> None:
    fpn = fixed(name).detector.backbone.fpn
    for block in (*fpn.inner_blocks, *fpn.layer_blocks):
        conv, norm = block
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is None
        assert isinstance(norm, nn.BatchNorm2d)


def test_the_box_head_has_batch_normalisation_after_each_of_its_convolutions() -> None:
    head = fixed("faster_rcnn", box_head_convs=4).detector.roi_heads.box_head
    convs = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)]
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert (len(convs), len(norms(head)), len(linear)) == (4, 4, 1)


@both
def test_no_batch_normalisation_is_frozen(name: str) -> None:
    net = fixed(name)
    assert not [layer for layer in net.modules() if "Frozen" in type(layer).__name__]
    before = {key: value.clone() for key, value in net.state_dict().items() if "running_" in key}
    net.train()(images(), list(FULL))
    state = net.state_dict()
    assert [key for key, value in before.items() if torch.equal(state[key], value)] == []
    assert all(layer.weight.requires_grad and layer.bias.requires_grad for layer in norms(net))


@both
def test_a_fixed_net_names_its_parameters_as_the_space_does_less_the_candidates(name: str) -> None:
    space = DetectorSpace("tiny", CLASSES, settings(name)).state_dict()
    with model_context(Architecture("tiny", (1,) * len(layout("tiny"))).choices):
        net = DetectorSpace("tiny", CLASSES, settings(name))
    assert net.trunk is net.detector.backbone.trunk
    others = {CANDIDATES[op] for op in (0, 2, 3)}
    of_path = {key for key in space if not others & set(key.split("."))}
    assert set(net.state_dict()) == {key.replace(f".{CANDIDATES[1]}.", ".") for key in of_path}
    assert all(key.startswith("detector.backbone.trunk.stages.") for key in set(space) - of_path)
    assert len(of_path) < len(space)


@both
def test_a_detector_without_the_last_convolution_and_the_linear_layer_of_the_classifier(name: str) -> None:
    keys = list(fixed(name).trunk.state_dict())
    assert {key.split(".")[0] for key in keys} == {"stem", "stages"}
