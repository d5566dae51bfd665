"""The ResNets to compare with: torchvision's nets as trunks, and spaces in which nothing is chosen."""

import subprocess
import sys

import pytest
import torch
import torchvision
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import model_context
from torch import nn

from search_spaces import FIXED, SEARCHED, SpaceError, build_trunk, is_fixed, layout
from search_spaces.resnet import ResNetTrunk
from search_spaces.trunk import TrunkSpace, throwaway

ON_META = torch.device("meta")


@pytest.mark.parametrize("space", FIXED)
def test_a_fixed_net_is_a_space_with_nothing_to_choose(space: str) -> None:
    assert is_fixed(space)
    assert layout(space) == ()
    with throwaway(space) as trunk_space:
        assert isinstance(trunk_space, ModelSpace)
        assert trunk_space.simplify() == {}


def test_what_can_be_searched_is_not_fixed() -> None:
    assert not any(map(is_fixed, (*SEARCHED, "foreign:mobile")))


@pytest.mark.parametrize("space", FIXED)
def test_the_features_are_c2_to_c5(space: str) -> None:
    with throwaway(space) as trunk_space:
        features = trunk_space(torch.empty(2, 3, 96, 70, device="meta"))
    channels = {"stage1": 256, "stage2": 512, "stage3": 1024, "stage4": 2048}
    assert dict(trunk_space.trunk.out_channels) == channels
    assert list(features) == list(channels)
    assert [tuple(x.shape[1:]) for x in features.values()] == [
        (256, 24, 18),
        (512, 12, 9),
        (1024, 6, 5),
        (2048, 3, 3),
    ]


@pytest.mark.parametrize("space", FIXED)
def test_the_state_dict_is_torchvisions_less_the_classifier(space: str) -> None:
    with ON_META:
        theirs = getattr(torchvision.models, space)(weights=None).state_dict()
        ours = build_trunk(space).state_dict()
    expected = {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("fc.")}
    assert {name: tensor.shape for name, tensor in ours.items()} == expected
    assert list(ours) == list(expected)


def test_weights_and_features_are_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(weights=None).eval()
    torch.manual_seed(0)
    ours = build_trunk("resnet50").eval()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
    image = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        logits = theirs.fc(ours(image)["stage4"].mean((2, 3)))
        torch.testing.assert_close(logits, theirs(image))


def test_no_batch_normalisation_is_frozen() -> None:
    with ON_META:
        trunk = build_trunk("resnet50")
    norms = [layer for layer in trunk.modules() if isinstance(layer, nn.BatchNorm2d)]
    convolutions = [layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d)]
    assert len(norms) == len(convolutions) == 53
    assert all(norm.weight.requires_grad and norm.track_running_stats for norm in norms)


def test_a_choice_of_nothing_gives_the_same_net() -> None:
    with ON_META:
        space = TrunkSpace("resnet50")
        with model_context({}):
            fixed = TrunkSpace("resnet50")
    assert list(fixed.state_dict()) == list(space.state_dict())


def test_an_unknown_resnet_is_refused() -> None:
    with pytest.raises(SpaceError, match="unknown ResNet 'resnet9'; known: resnet50, resnet101"):
        ResNetTrunk("resnet9")


def test_layout_and_costs_of_a_fixed_net_need_no_torch() -> None:
    code = (
        "import sys, search_spaces as s; s.layout('resnet50'), s.costs('resnet50'); "
        "sys.exit({'torch', 'nni'} & set(sys.modules) != set())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
