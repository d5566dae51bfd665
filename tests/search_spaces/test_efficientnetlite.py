"""What the trunks of EfficientNet-Lite are built of."""

import pytest
import torch
import torch.nn.functional as F

from search_spaces.efficientnetlite import SamePad


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_a_traced_padding_is_that_of_each_image_and_not_of_the_one_it_was_traced_with(kernel: int) -> None:
    pad, weight = SamePad(kernel), torch.randn(1, 1, kernel, kernel)
    traced = torch.jit.trace(pad, torch.randn(1, 1, 8, 8))
    for height, width in [(8, 8), (9, 8), (8, 9), (9, 9)]:
        image = torch.randn(1, 1, height, width)
        # TensorFlow's definition: as much as ceil(side / 2) outputs need, the odd row behind.
        sides = []
        for side in (width, height):
            total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
            sides += [total // 2, total - total // 2]
        expected = F.conv2d(F.pad(image, sides), weight, stride=2)
        for given in (pad, traced):
            torch.testing.assert_close(F.conv2d(given(image), weight, stride=2), expected)
