"""Frozen stages of a trunk alone: which modules they are, and what a BN in them computes."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_nni.errors import ConfigError
from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.models import check_freeze, freeze, set_bn_momentum
from detnas_nni.models.batchnorm import fold_batch_norm
from detnas_nni.models.freezing import FrozenBatchNorm
from search_spaces.trunk import TrunkSpace

# The children of the trunk that run up to the end of the second stage.
FROZEN = {
    "tiny": ("stem.", "stages.stage1.", "stages.stage2."),
    "lite0": ("stem.", "first.", "stages.stage1.", "stages.stage2."),
    "resnet50": ("conv1.", "bn1.", "layer1.", "layer2."),
}


@pytest.mark.parametrize("space", FROZEN)
def test_the_stem_and_the_first_stages_with_all_candidates_are_frozen(space: str) -> None:
    with torch.device("meta"):
        trunk = TrunkSpace(space).trunk
    names = list(trunk.state_dict())
    freeze(trunk, 2, space=space)
    assert list(trunk.state_dict()) == names
    trained = {name: parameter.requires_grad for name, parameter in trunk.named_parameters()}
    assert trained == {name: not name.startswith(FROZEN[space]) for name in trained}
    norms = {
        f"{name}.": isinstance(module, FrozenBatchNorm)
        for name, module in trunk.named_modules()
        if isinstance(module, FrozenBatchNorm | _BatchNorm)
    }
    assert norms == {name: name.startswith(FROZEN[space]) for name in norms}


def frozen_pair() -> tuple[nn.Sequential, FrozenBatchNorm]:
    """A convolution and a frozen BN whose tensors are unlike fresh ones; and the latter alone."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, eps=0.01)
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    frozen = FrozenBatchNorm(norm)
    return nn.Sequential(nn.Conv2d(3, 4, 3), frozen), frozen


@torch.no_grad()
def test_a_frozen_bn_computes_what_a_bn_does_in_eval_mode_and_never_changes() -> None:
    net, frozen = frozen_pair()
    plain = nn.BatchNorm2d(4, eps=0.01).eval()
    plain.load_state_dict(frozen.state_dict())
    set_bn_momentum(net, 1.0)
    batch = torch.rand(2, 3, 8, 8)
    recalibrate(net, [batch, batch], lambda net, batch: net(batch))
    assert all(torch.equal(frozen.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())
    features = net[0](batch)
    assert torch.equal(net.train()[1](features), plain(features))


@torch.no_grad()
def test_a_frozen_bn_is_folded_as_any_other() -> None:
    net, _ = frozen_pair()
    batch = torch.rand(2, 3, 8, 8)
    expected = net.eval()(batch)
    assert fold_batch_norm(net) == 1
    torch.testing.assert_close(net(batch), expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_frozen_is_told_with_what_can() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^finetune\.freeze is 5, but the trunk of 'lite0' has 4 stages; expected 0 "
        r"\(nothing is frozen\) or 1 \(the stem and the first stage\) to 4 \(the whole trunk\)$",
    ):
        check_freeze("lite0", 5, "finetune.freeze")
    with pytest.raises(
        ConfigError,
        match=r"^retrain\.finetune\.freeze is 1, but the trunk of 'tests\.search_spaces\.foreign:mobile' "
        r"does not say what its stages are; give it a method first_stages\(n\) .* or set 0",
    ):
        check_freeze("tests.search_spaces.foreign:mobile", 1, "retrain.finetune.freeze")
    check_freeze("tests.search_spaces.foreign:mobile", 0, "finetune.freeze")
