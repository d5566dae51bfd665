"""What the nets see: BGR, 0 to 255, boxes that follow the image."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from detnas_nni.data import transforms


def image(height: int = 30, width: int = 40) -> tv_tensors.Image:
    pixels = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0))
    return tv_tensors.Image(pixels.to(torch.uint8))


def target() -> dict:
    boxes = tv_tensors.BoundingBoxes([[1.0, 2.0, 11.0, 22.0]], format="XYXY", canvas_size=(30, 40))
    return {"boxes": boxes, "labels": torch.tensor([2])}


def test_the_order_is_blue_green_red_and_the_range_is_kept():
    source = image()
    out, boxes = transforms.detection_eval()(source, target())
    assert type(out) is torch.Tensor and out.dtype == torch.float32
    assert torch.equal(out[0], source[2].float()) and torch.equal(out[2], source[0].float())
    assert torch.equal(boxes["boxes"], target()["boxes"])


def test_a_flip_moves_the_boxes_along():
    out, boxes = transforms.detection_train(flip=1.0)(image(), target())
    assert torch.equal(out, image().flip(0).flip(2).float())
    assert boxes["boxes"].tolist() == [[29, 2, 39, 22]]
    assert boxes["labels"].tolist() == [2]
    same, _ = transforms.detection_train(flip=0.0)(image(), target())
    assert torch.equal(same, image().flip(0).float())


def test_a_flip_takes_images_without_boxes():
    empty = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(30, 40))
    _, found = transforms.detection_train(flip=1.0)(
        image(), {"boxes": empty, "labels": torch.zeros(0).long()}
    )
    assert found["boxes"].shape == (0, 4)


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_classification_gives_squares_with_values_in_range(jitter):
    out, label = transforms.classification_train(16, color_jitter=jitter)(image(), 3)
    assert out.shape == (3, 16, 16) and out.dtype == torch.float32 and label == 3
    assert out.min() >= 0 and out.max() <= 255 and out.max() > 1


def test_classification_evaluation_is_the_centre_of_the_resized_image():
    out, _ = transforms.classification_eval(28)(image(32, 48), 0)
    # The shorter side is 28 / 0.875 = 32 already, so this is a plain crop.
    assert torch.equal(out, image(32, 48)[:, 2:30, 10:38].flip(0).float())


FLIP = v2.RandomHorizontalFlip()
CROP = v2.RandomResizedCrop(16, scale=(0.08, 1.0), antialias=True)


@pytest.mark.parametrize(
    ("ours", "steps"),
    [
        (transforms.classification_train(16), [CROP, v2.ColorJitter(0.4, 0.4, 0.4), FLIP]),
        (transforms.classification_train(16, 0.0), [CROP, FLIP]),
        (transforms.classification_eval(16), [v2.Resize(18, antialias=True), v2.CenterCrop(16)]),
        (transforms.detection_train(), [FLIP]),
        (transforms.detection_eval(), [v2.Identity()]),
    ],
    ids=["train", "train without jitter", "eval", "detector train", "detector eval"],
)
@pytest.mark.parametrize("planes", ["side by side", "apart"])
def test_a_pipeline_draws_and_gives_what_torchvisions_compose_does(ours, steps, planes):
    source = image()
    if planes == "side by side":  # as decoders give them
        source = tv_tensors.Image(source.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    detector = FLIP in steps[:1] or isinstance(steps[0], v2.Identity)
    for seed in range(20):
        torch.manual_seed(seed)
        expected, expected_target = v2.Compose(steps)(source, target() if detector else 3)
        after = torch.rand(1)
        torch.manual_seed(seed)
        found, found_target = ours(source, target() if detector else 3)
        expected = expected.as_subclass(torch.Tensor).flip(0).float()
        assert torch.equal(found, expected) and found.stride() == expected.stride()
        assert torch.equal(after, torch.rand(1))
        if detector:
            assert torch.equal(found_target["boxes"], expected_target["boxes"])
            assert torch.equal(found_target["labels"], expected_target["labels"])
        else:
            assert found_target == 3


def test_an_image_is_not_written_to():
    source = image()
    before = source.clone()
    for pipeline in (transforms.detection_eval(), transforms.detection_train(1.0)):
        pipeline(source, target())
    assert torch.equal(source, before)
