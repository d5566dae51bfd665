"""Our nets compute what the authors' do, layer for layer: the published ones, in both channel shuffles."""

from pathlib import Path

import pytest
import torch
from authors import trunk
from nni.nas.space import model_context
from torch import nn

import search_spaces
from detnas_nni.architecture import Architecture
from search_spaces import CANDIDATES, SIZES, build_trunk, layout
from search_spaces.blocks import SHUFFLES

PUBLISHED = {
    path.stem: Architecture.from_json(path)
    for path in sorted((Path(search_spaces.__file__).parent / "published").glob("*.json"))
}
NETS = {name: arch for name, arch in PUBLISHED.items() if arch.space in SIZES} | {
    f"small of {candidate}": Architecture("small", (op,) * len(layout("small")))
    for op, candidate in enumerate(CANDIDATES)
}


def fixed_net(arch: Architecture, shuffle: str) -> nn.Module:
    """The net in eval mode, its batch normalisations with statistics and parameters that do something."""
    torch.manual_seed(0)
    with model_context(arch.choices):
        net = build_trunk(arch.space, shuffle=shuffle)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.uniform_(tensor, -1, 1)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("name", NETS)
def test_a_net_gives_the_features_of_the_authors(name: str, shuffle: str) -> None:
    arch = NETS[name]
    net = fixed_net(arch, shuffle)
    image = torch.randn(1, 3, 64, 50)
    theirs = trunk(net.state_dict(), arch.space, arch.ops, image, shuffle)
    ours = net(image)
    assert list(ours) == ["stage1", "stage2", "stage3", "stage4"]
    for feature, reference in zip(ours.values(), theirs, strict=True):
        assert reference.std() > 0
        torch.testing.assert_close(feature, reference, rtol=1e-3, atol=1e-4 * reference.abs().max().item())


def test_the_other_shuffle_would_be_noticed() -> None:
    arch = NETS["detnas-coco-fpn-300m"]
    net, image = fixed_net(arch, "interleave"), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        theirs = trunk(net.state_dict(), arch.space, arch.ops, image, "even_odd")[0]
        assert (net(image)["stage1"] - theirs).abs().max() > 0.1 * theirs.abs().max()
