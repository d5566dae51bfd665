"""The choice blocks against the paper's description, computed here in plain torch."""

import itertools

import pytest
import torch
from authors import split as reference_split
from torch import nn

from search_spaces import CANDIDATES, SpaceError
from search_spaces.blocks import SHUFFLES, ChoiceBlock, make_block


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("channels", [2, 6, 8, 86 * 2])
def test_a_shuffle_gives_the_channels_that_the_reference_gives(shuffle: str, channels: int) -> None:
    x = torch.randn(2, channels, 3, 5)
    for ours, reference in zip(SHUFFLES[shuffle](x), reference_split(x, shuffle), strict=True):
        assert torch.equal(ours, reference)


def test_the_two_shuffles_split_eight_channels_differently() -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    first = {name: split(x)[0].flatten().tolist() for name, split in SHUFFLES.items()}
    assert first == {"interleave": [0, 4, 1, 5], "even_odd": [0, 2, 4, 6]}


def convolutions(module: nn.Module) -> list[tuple[int, int, int, int, int]]:
    """(in, out, kernel, stride, groups) of each convolution, in the order in which they run."""
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.groups)
        for m in module.modules()
        if isinstance(m, nn.Conv2d)
    ]


@pytest.mark.parametrize(("candidate", "kernel"), list(zip(CANDIDATES[:3], (3, 5, 7), strict=True)))
def test_a_shufflenet_block_has_the_papers_convolutions(candidate: str, kernel: int) -> None:
    keep = make_block(candidate, 64, 64, stride=1)
    assert keep.projection is None
    assert convolutions(keep.main) == [(32, 32, 1, 1, 1), (32, 32, kernel, 1, 32), (32, 32, 1, 1, 1)]
    reduce = make_block(candidate, 16, 64, stride=2)
    assert convolutions(reduce.projection) == [(16, 16, kernel, 2, 16), (16, 16, 1, 1, 1)]
    assert convolutions(reduce.main) == [(16, 32, 1, 1, 1), (32, 32, kernel, 2, 32), (32, 48, 1, 1, 1)]


def test_the_xception_block_has_the_papers_convolutions() -> None:
    reduce = make_block("xception_3x3", 64, 160, stride=2)
    assert convolutions(reduce.projection) == [(64, 64, 3, 2, 64), (64, 64, 1, 1, 1)]
    assert convolutions(reduce.main) == [
        (64, 64, 3, 2, 64),
        (64, 80, 1, 1, 1),
        (80, 80, 3, 1, 80),
        (80, 80, 1, 1, 1),
        (80, 80, 3, 1, 80),
        (80, 96, 1, 1, 1),
    ]
    keep = make_block("xception_3x3", 160, 160, stride=1)
    assert [row[:2] for row in convolutions(keep.main)] == [(80, 80)] * 6


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("stride", [1, 2])
def test_each_convolution_is_followed_by_its_normalisation_and_has_no_bias(
    candidate: str, stride: int
) -> None:
    block = make_block(candidate, 8, 8 * stride, stride)
    for branch in filter(None, (block.projection, block.main)):
        layers = list(branch)
        assert isinstance(layers[-1], nn.ReLU)
        for layer, following in itertools.pairwise(layers):
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is None
                assert isinstance(following, nn.BatchNorm2d)
            # A ReLU follows pointwise convolutions alone.
            if isinstance(following, nn.ReLU):
                assert isinstance(layer, nn.BatchNorm2d)
        relus = sum(isinstance(layer, nn.ReLU) for layer in layers)
        assert relus == sum(isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) for m in layers)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_stride_1_passes_the_first_half_unchanged(candidate: str, shuffle: str) -> None:
    block = make_block(candidate, 12, 12, 1, shuffle).eval()
    x = torch.randn(2, 12, 7, 9)
    passed, rest = reference_split(x, shuffle)
    y = block(x)
    assert y.shape == x.shape
    assert torch.equal(y[:, :6], passed)
    torch.testing.assert_close(y[:, 6:], block.main(rest))


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_stride_2_shows_both_branches_the_whole_input(candidate: str) -> None:
    block = make_block(candidate, 8, 20, 2).eval()
    x = torch.randn(2, 8, 7, 10)
    y = block(x)
    assert y.shape == (2, 20, 4, 5)
    torch.testing.assert_close(y[:, :8], block.projection(x))
    torch.testing.assert_close(y[:, 8:], block.main(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv_9x9", 8, 8, 1), "unknown candidate 'conv_9x9'; known: shufflenet_3x3"),
        (("xception_3x3", 8, 8, 1, "transpose"), "unknown channel shuffle 'transpose'; known: interleave"),
        (("xception_3x3", 8, 8, 3), "stride 3"),
        (("xception_3x3", 8, 16, 1), "8 -> 16"),
        (("xception_3x3", 8, 8, 2), "has to add channels"),
    ],
)
def test_a_block_that_cannot_be_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        ChoiceBlock(*arguments)
