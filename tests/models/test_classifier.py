"""The classifier around a trunk: what it gives, what is random in it, and the names of its parameters."""

import pytest
import torch
import torchvision
from nni.nas.space import model_context
from torch import nn

from detnas_nni.architecture import Architecture
from detnas_nni.models import ClassifierSpace
from search_spaces import CANDIDATES, SIZES, layout

PATH = Architecture("tiny", tuple((2, 1, 0, 3, 1)[index % 5] for index in range(len(layout("tiny")))))


def fixed(num_classes: int = 5, dropout: float = 0.2) -> ClassifierSpace:
    torch.manual_seed(0)
    with model_context(PATH.choices):
        return ClassifierSpace("tiny", num_classes, dropout)


@pytest.mark.parametrize("size", [32, 48])
def test_images_of_any_size_become_one_logit_a_class(size: int) -> None:
    net, images = fixed(num_classes=7), torch.rand(3, 3, size, size) * 255
    assert net.train()(images).shape == (3, 7)
    assert net.eval()(images).shape == (3, 7)


def test_dropout_leaves_out_whole_channels_in_training_alone() -> None:
    net, images = fixed(dropout=0.5), torch.rand(4, 3, 64, 64) * 255
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = net.dropout.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    assert not torch.equal(net.train()(images), net(images))
    hook.remove()
    for before, after in seen:
        left_out = (after == 0).all(dim=3, keepdim=True).all(dim=2, keepdim=True)
        assert 0.3 < left_out.float().mean() < 0.9  # dropped, or off after the ReLU
        assert torch.equal(after, torch.where(left_out, 0, before * 2))
    assert torch.equal(net.eval()(images), net(images))


def test_an_image_is_judged_alone_in_eval_mode() -> None:
    net, images = fixed().eval(), torch.rand(4, 3, 32, 32) * 255
    assert torch.allclose(net(images)[:2], net(images[:2]), atol=1e-5)


def test_every_parameter_of_a_fixed_net_is_trained() -> None:
    net = fixed()
    net(torch.rand(4, 3, 32, 32) * 255).logsumexp(1).sum().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_the_head_is_the_authors() -> None:
    net = fixed()
    conv, norm, relu = net.last_conv
    widths = SIZES["tiny"]
    assert (conv.in_channels, conv.out_channels) == (widths.channels[-1], widths.classifier)
    assert conv.kernel_size == (1, 1)
    assert torch.all(conv.bias == 0)
    assert conv.weight.std().item() == pytest.approx(1 / widths.channels[-1], rel=0.05)
    assert torch.all(norm.bias == 1e-4)
    assert isinstance(relu, nn.ReLU)
    assert net.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert torch.all(net.fc.bias == 0)


def test_the_stem_the_last_convolution_and_the_linear_layer_alone_have_a_bias() -> None:
    layers = fixed().named_modules()
    with_bias = [name for name, m in layers if isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None]
    assert with_bias == ["trunk.stem.conv", "last_conv.0", "fc"]


def test_a_resnet_is_torchvisions_classifier_without_dropout() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(num_classes=7)
    ours = ClassifierSpace("resnet50", num_classes=7, dropout=0.9)
    assert ours.fc.weight.abs().max() <= 2048**-0.5  # uniform, as torch draws a linear layer
    assert ours.fc.weight.std().item() == pytest.approx((3 * 2048) ** -0.5, rel=0.05)
    ours.load_state_dict(
        {name if name.startswith("fc.") else f"trunk.{name}": t for name, t in theirs.state_dict().items()}
    )
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.train()(images), theirs.train()(images))
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_a_fixed_net_names_its_parameters_as_the_space_does_less_the_candidates() -> None:
    space = ClassifierSpace("tiny", 5).state_dict()
    with model_context(Architecture("tiny", (1,) * len(layout("tiny"))).choices):
        net = ClassifierSpace("tiny", 5).state_dict()
    others = {CANDIDATES[op] for op in (0, 2, 3)}
    of_path = {name for name in space if not others & set(name.split("."))}
    assert set(net) == {name.replace(f".{CANDIDATES[1]}.", ".") for name in of_path}
    assert len(of_path) < len(space)


def test_options_reach_the_trunk() -> None:
    images = torch.rand(1, 3, 32, 32)
    first = fixed().eval()
    with model_context(PATH.choices):
        second = ClassifierSpace("tiny", 5, options={"shuffle": "even_odd"}).eval()
    second.load_state_dict(first.state_dict())
    assert not torch.equal(first.trunk(images)["stage1"], second.trunk(images)["stage1"])
