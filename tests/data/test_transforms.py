"""What the nets see: BGR, 0 to 255, boxes that follow the image."""

import pytest
import torch
from torchvision import tv_tensors

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
