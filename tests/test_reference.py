"""The authors' weights: their names, their net written out as plain functions, and every way not to fit.

`authors_state` and `authors_logits` know the authors' net from its description alone: nothing here asks our
blocks what they hold.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from nni.nas.space import model_context
from torch import Tensor
from torch.nn import functional as F

from detnas_nni.architecture import Architecture
from detnas_nni.errors import ArchitectureError, CheckpointError, UsageError
from detnas_nni.models import ClassifierSpace
from detnas_nni.reference import import_reference, load_reference_classifier, read_reference_ops
from detnas_nni.supernet.inherit import choice_prefixes, path_state
from detnas_nni.training.tensors import check_fit, fill
from detnas_nni.training.weights import file_hash, load_weights

OPS = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
# Stem, stages, blocks of each stage, last convolution.
WIDTHS = {
    "tiny": (8, (24, 48, 96, 192), (2, 2, 3, 2), 256),
    "small": (16, (64, 160, 320, 640), (4, 4, 8, 4), 1024),
    "large": (48, (96, 240, 480, 960), (8, 8, 16, 8), 1024),
    "3.8g": (72, (172, 432, 864, 1728), (8, 8, 16, 8), 1728),
}
CLASSES = 10
TINY = (0, 1, 2, 3, 3, 2, 1, 0, 1)
SMALL = (2, 1, 2, 0, 2, 1, 1, 2, 3, 3, 1, 3, 0, 0, 3, 1, 3, 1, 3, 2)  # DetNAS-COCO-FPN-300M
PUBLISHED = sorted((Path(__file__).parents[1] / "search_spaces" / "published").glob("detnas-*.json"))

State = dict[str, Tensor]
Draw = Callable[..., Tensor]


def blocks(space: str) -> list[tuple[int, str, int, int, int]]:
    """(index, place, in, out, stride) of every block."""
    channels, stages, counts, _ = WIDTHS[space]
    found = []
    for stage, (out, count) in enumerate(zip(stages, counts, strict=True), 1):
        for block in range(count):
            place = f"{stage}{'abcdefghijklmnop'[block]}"
            found.append((len(found), place, channels, out, 1 if block else 2))
            channels = out
    return found


def units(
    op: str, inner: int, mid: int, out: int, stride: int
) -> list[tuple[str, int | None, int, int, int]]:
    """(letter, depthwise kernel or None, in, out, stride) of every unit of a main branch."""
    kernel = int(op[-1])
    if op.startswith("xception"):
        return [("a", 3, inner, mid, stride), ("b", 3, mid, mid, 1), ("c", 3, mid, out, 1)]
    return [("a", None, inner, mid, 1), ("b", kernel, mid, out, stride)]


def branch_sizes(channels: int, out: int, stride: int) -> tuple[int, int, int]:
    """What a main branch takes in, has in its middle, and gives."""
    return (channels // 2, out // 2, out // 2) if stride == 1 else (channels, out // 2, out - channels)


def random_draw(seed: int) -> Draw:
    """draw(*shape, scale=…, shift=…): normal values, the same for the same seed and calls."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape, scale=1.0, shift=0.0: torch.randn(shape, generator=generator) * scale + shift


def no_draw(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """A tensor of any shape in four bytes, for what is about names and shapes alone."""
    return torch.ones(()).expand(shape)


def authors_state(
    space: str, ops: Sequence[int] | None, draw: Draw | None = None, counts: bool = True
) -> State:
    """A state dict as the authors save it: of the single net of `ops`, or of the supernet."""
    draw = draw or random_draw(seed=1)
    stem, stages, _, last = WIDTHS[space]
    state: State = {}

    def convolution(name: str, out: int, fan_in: int, kernel: int) -> None:
        scale = (2 / (fan_in * kernel**2)) ** 0.5
        state[f"{name}.weight"] = draw(out, fan_in, kernel, kernel, scale=scale)

    def norm(name: str, channels: int) -> None:
        for parameter, scale, shift in (("weight", 0.1, 1), ("bias", 0.2, 0.1), ("running_mean", 0.2, 0)):
            state[f"{name}.{parameter}"] = draw(channels, scale=scale, shift=shift)
        state[f"{name}.running_var"] = draw(channels, scale=0.1, shift=1).abs() + 0.1
        if counts:
            state[f"{name}.num_batches_tracked"] = torch.tensor(300_000)

    def unit(prefix: str, name: str, kernel: int | None, channels: int, out: int) -> None:
        if kernel is not None:
            convolution(f"{prefix}.interstellar{name}_s", channels, 1, kernel)
            norm(f"{prefix}.interstellar{name}_s_bn", channels)
        convolution(f"{prefix}.interstellar{name}", out, channels, 1)
        norm(f"{prefix}.bn{name}", out)

    convolution("first_conv.conv", stem, 3, 3)
    state["first_conv.conv.weight"] = state["first_conv.conv.weight"] / 64  # images are 0–255
    state["first_conv.conv.bias"] = draw(stem, scale=0.1)
    norm("first_conv.bn", stem)
    for index, place, channels, out, stride in blocks(space):
        for op in range(4) if ops is None else [ops[index]]:
            prefix = f"features.{index}" if ops is not None else f"features.{index}.{op}"
            main = units(OPS[op], *branch_sizes(channels, out, stride), stride)
            for number, (letter, kernel, inner, outer, _) in enumerate(main):
                unit(f"{prefix}.conv.{number}", f"{place}_{OPS[op]}_branch2{letter}", kernel, inner, outer)
            if stride == 2:
                unit(f"{prefix}.proj_conv", f"{place}_proj", int(OPS[op][-1]), channels, channels)
    convolution("last_conv.conv", last, stages[-1], 1)
    state["last_conv.conv.bias"] = draw(last, scale=0.1)
    norm("last_conv.bn", last)
    state["fc.fc.weight"] = draw(CLASSES, last, scale=last**-0.5)
    state["fc.fc.bias"] = draw(CLASSES)
    return state


def shuffled(x: Tensor, shuffle: str) -> tuple[Tensor, Tensor]:
    count = x.shape[1]
    if shuffle == "even_odd":
        order = [*range(0, count, 2), *range(1, count, 2)]
    else:
        order = [channel // 2 + channel % 2 * (count // 2) for channel in range(count)]
    return x[:, order[: count // 2]], x[:, order[count // 2 :]]


@torch.no_grad()
def authors_logits(
    state: State, space: str, ops: Sequence[int], images: Tensor, shuffle: str, supernet: bool
) -> Tensor:
    """The authors' net on their own state dict: (N, 3, H, W) to (N, CLASSES)."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, gamma, beta = (
            state[f"{name}.{parameter}"].reshape(1, -1, 1, 1)
            for parameter in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * gamma + beta

    def unit(x: Tensor, prefix: str, name: str, kernel: int | None, stride: int) -> Tensor:
        if kernel is not None:
            weight = state[f"{prefix}.interstellar{name}_s.weight"]
            x = F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=x.shape[1])
            x = norm(x, f"{prefix}.interstellar{name}_s_bn")
        x = F.conv2d(x, state[f"{prefix}.interstellar{name}.weight"])
        return F.relu(norm(x, f"{prefix}.bn{name}"))

    x = F.conv2d(images, state["first_conv.conv.weight"], state["first_conv.conv.bias"], stride=2, padding=1)
    x = F.relu(norm(x, "first_conv.bn"))
    for index, place, channels, out, stride in blocks(space):
        op = OPS[ops[index]]
        prefix = f"features.{index}.{ops[index]}" if supernet else f"features.{index}"
        if stride == 1:
            passed, x = shuffled(x, shuffle)
        else:
            passed = unit(x, f"{prefix}.proj_conv", f"{place}_proj", int(op[-1]), 2)
        for number, (letter, kernel, _, _, unit_stride) in enumerate(
            units(op, *branch_sizes(channels, out, stride), stride)
        ):
            name = f"{place}_{op}_branch2{letter}"
            x = unit(x, f"{prefix}.conv.{number}", name, kernel, unit_stride)
        x = torch.cat((passed, x), dim=1)
    x = F.conv2d(x, state["last_conv.conv.weight"], state["last_conv.conv.bias"])
    x = F.relu(norm(x, "last_conv.bn")).flatten(2).mean(2)
    return x @ state["fc.fc.weight"].T + state["fc.fc.bias"]


def bgr(side: int, seed: int = 7) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(seed)).float()


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two sets of logits, as a share of the largest logit."""
    assert expected.isfinite().all()
    assert 0.1 < expected.abs().max() < 1e4
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="module")
def supernet() -> State:
    return authors_state("tiny", None)


@pytest.fixture(scope="module")
def single() -> State:
    return authors_state("tiny", TINY)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The file that an import writes."""
    return tmp_path / "imported.pt"


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """save(content): a file that torch wrote, in its format of 2019 if `legacy`."""

    def write(content: object, legacy: bool = False) -> Path:
        path = tmp_path / "released.pkl"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        return path

    return write


@pytest.mark.parametrize(
    ("space", "ops", "side"),
    [
        *(("tiny", tuple((op + shift) % 4 for op in TINY), 64) for shift in range(4)),
        ("tiny", TINY, 96),
        ("small", SMALL, 96),
        ("small", SMALL[::-1], 224),
    ],
)
def test_a_single_net_gives_the_authors_logits_with_even_and_odd_channels(space, ops, side) -> None:
    state, images = authors_state(space, ops), bgr(side)
    expected = authors_logits(state, space, ops, images, "even_odd", supernet=False)
    net = load_reference_classifier(state, space=space, ops=ops)
    with torch.no_grad():
        assert difference(net(images), expected) < 1e-4
        other = load_reference_classifier(state, space=space, ops=ops, shuffle="interleave")(images)
    assert difference(other, expected) > 1e-2


@pytest.mark.parametrize(("space", "first", "side"), [("tiny", TINY, 64), ("small", SMALL, 96)])
def test_a_supernet_gives_each_path_its_logits_with_interleaved_channels(space, first, side) -> None:
    state, images = authors_state(space, None), bgr(side)
    second = tuple(3 - op for op in first)
    logits = []
    for ops in (first, second):
        expected = authors_logits(state, space, ops, images, "interleave", supernet=True)
        with torch.no_grad():
            logits.append(load_reference_classifier(state, space=space, ops=ops)(images))
            other = load_reference_classifier(state, space=space, ops=ops, shuffle="even_odd")(images)
        assert difference(logits[-1], expected) < 1e-4
        assert difference(other, expected) > 1e-2
    assert difference(*logits) > 1e-2


@pytest.mark.parametrize("kind", ["single", "supernet"])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_what_training_wraps_around_a_state_dict_is_taken_off(kind, wrapper, prefix, request) -> None:
    bare = request.getfixturevalue(kind)
    state = {f"{prefix}{key}": value for key, value in bare.items()}
    wrapped = state if wrapper is None else {wrapper: state, "optimizer_state_dict": {}, "iteration": 3}
    expected = load_reference_classifier(bare, space="tiny", ops=TINY).state_dict()
    found = load_reference_classifier(wrapped, space="tiny", ops=TINY).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_loaded_net_is_in_eval_mode_and_shares_nothing_with_the_state_dict(single: State) -> None:
    before = {key: value.clone() for key, value in single.items()}
    net = load_reference_classifier(single, space="tiny", ops=TINY)
    assert not any(module.training for module in net.modules())
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(single[key], value) for key, value in before.items())


def test_loading_draws_no_random_numbers(single: State) -> None:
    before = torch.get_rng_state()
    load_reference_classifier(single, space="tiny", ops=TINY)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_without_counts_of_batches_is_taken(single: State) -> None:
    net = load_reference_classifier(authors_state("tiny", TINY, counts=False), space="tiny", ops=TINY)
    counts = [value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counts and all(count == 0 for count in counts)
    with_counts = load_reference_classifier(single, space="tiny", ops=TINY).state_dict()
    assert {int(value) for name, value in with_counts.items() if "num_batches" in name} == {300_000}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_every_published_net_is_told_from_its_keys(path: Path, save: Callable[..., Path], out: Path) -> None:
    published = json.loads(path.read_text())
    state = authors_state(published["space"], published["ops"], no_draw)
    weights = {
        key: value for key, value in state.items() if "running" not in key and "num_batches" not in key
    }
    last = WIDTHS[published["space"]][3]
    params = sum(value.numel() for value in weights.values()) + (1000 - CLASSES) * (last + 1)
    assert params == published["cost"]["classifier_params"]  # so the test's own net is the published one
    assert read_reference_ops(state) == tuple(published["ops"])
    imported = import_reference(save(state), out, space=None)
    assert (imported.info.space, imported.info.ops) == (published["space"], tuple(published["ops"]))


@pytest.mark.parametrize("space", WIDTHS)
def test_the_space_of_a_supernet_is_told_from_its_stem(
    space: str, save: Callable[..., Path], out: Path
) -> None:
    imported = import_reference(save(authors_state(space, None, no_draw)), out)
    assert (imported.info.space, imported.info.ops) == (space, None)


@pytest.mark.parametrize("legacy", [False, True])
def test_an_imported_supernet_is_one_that_a_config_without_options_takes(
    supernet, save, legacy, out: Path
) -> None:
    file = save({"state_dict": supernet}, legacy)
    imported = import_reference(file, out)
    weights = load_weights(out)
    assert weights.info == imported.info
    weights.expect_supernet(kind="classifier", space="tiny", options={})
    assert weights.info.classes == tuple("0123456789")
    assert (weights.info.steps, weights.info.seed, weights.info.trunk_prefix) == (0, 0, "trunk.")
    assert weights.info.fingerprint == f"reference:{file_hash(file)[:16]}"
    space = ClassifierSpace("tiny", CLASSES)
    check_fit(space, weights.state, out, "the supernet")
    with model_context(Architecture("tiny", TINY).choices):
        net = ClassifierSpace("tiny", CLASSES).eval()
    fill(net, path_state(weights.state, choice_prefixes(space), Architecture("tiny", TINY)), out)
    images = bgr(64)
    expected = authors_logits(supernet, "tiny", TINY, images, "interleave", supernet=True)
    with torch.no_grad():
        assert difference(net(images), expected) < 1e-4


@pytest.mark.parametrize("kind", ["single", "supernet"])
def test_an_imported_net_gives_the_authors_logits(kind: str, save, request, out: Path) -> None:
    state, images = request.getfixturevalue(kind), bgr(64)
    shuffle = {"single": "even_odd", "supernet": "interleave"}[kind]
    import_reference(save(state), out, ops=TINY)
    weights = load_weights(out)
    assert weights.info.ops == TINY
    assert weights.info.options == ({} if shuffle == "interleave" else {"shuffle": shuffle})
    with model_context(weights.info.architecture.choices):
        net = ClassifierSpace("tiny", len(weights.info.classes), options=weights.info.options).eval()
    fill(net, weights.state, out)
    expected = authors_logits(state, "tiny", TINY, images, shuffle, supernet=kind == "supernet")
    with torch.no_grad():
        assert difference(net(images), expected) < 1e-4


def test_the_shuffle_of_an_import_can_be_said(supernet: State, single: State, save, out: Path) -> None:
    assert import_reference(save(supernet), out, shuffle="even_odd").info.options == {"shuffle": "even_odd"}
    assert import_reference(save(single), out, shuffle="interleave").info.options == {}


def test_a_single_net_of_other_ops_is_refused_by_the_block(single: State) -> None:
    other = (*TINY[:4], 0, *TINY[5:])
    with pytest.raises(
        CheckpointError, match=r"features\.4 name op 3 \(xception_3x3\), but ops\[4\] is 0 \(sh"
    ):
        load_reference_classifier(single, space="tiny", ops=other)


WEIGHT = "features.5.conv.1.interstellar3b_shufflenet_7x7_branch2b_s.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {**state, "features.5.extra": torch.ones(1)}, r"unknown key features\.5\.extra"),
        (
            lambda state: {**state, "features.9.conv.0.x": torch.ones(1)},
            r"unknown key features\.9\.conv\.0\.x",
        ),
        (lambda state: without(state, WEIGHT), rf"{WEIGHT} is missing"),
        (lambda state: without(state, "fc.fc.weight"), r"fc\.fc\.weight is missing or empty"),
        (lambda state: {**state, "fc.fc.weight": torch.ones(())}, r"fc\.fc\.weight is missing or empty"),
        (lambda state: without(state, "last_conv.bn.running_var"), r"last_conv\.bn\.running_var is missing"),
        (
            lambda state: {**state, WEIGHT: torch.ones(48, 1, 3, 3)},
            r"shape \(48, 1, 3, 3\), not \(48, 1, 7, 7\)",
        ),
        (
            lambda state: {**state, "fc.fc.bias": torch.ones(9)},
            r"fc\.fc\.bias has the shape \(9,\), not \(10,\)",
        ),
        (lambda state: {**state, "epoch": 3}, r"key 'epoch' is int"),
        (lambda state: {**state, 7: torch.ones(1)}, r"key 7 is Tensor"),
        (
            lambda state: {**state, "features.2.3.conv.0.x": torch.ones(1)},
            r"features\.2\.3\.conv\.0\.x is a super",
        ),
        (lambda state: without_block(state, 6), r"no key features\.6\.conv\.… names an op"),
        (lambda state: without_block(state, 8), r"are features\.7, expected features\.8"),
        (lambda state: {"fc.fc.weight": torch.ones(2, 3)}, r"no key features\.0\.conv"),
        (lambda state: {}, r"no key features\.0\.conv"),
        (lambda state: list(state), r"expected a dict of tensors, found list"),
        (lambda state: {"module.x": torch.ones(1), **state}, r"unknown key module\.x"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(
    single: State, save, change, message: str, out: Path
) -> None:
    changed = change(dict(single))
    with pytest.raises(CheckpointError, match=message):
        load_reference_classifier(changed, space="tiny", ops=TINY)
    file = save(changed)
    with pytest.raises(CheckpointError, match=message) as error:
        import_reference(file, out, space="tiny")
    assert str(error.value).startswith(f"{file}: ")
    assert not out.exists()


def without(state: State, key: str) -> State:
    del state[key]
    return state


def without_block(state: State, block: int) -> State:
    return {key: value for key, value in state.items() if not key.startswith(f"features.{block}.")}


def test_a_supernet_lacking_a_candidate_is_refused_even_off_the_path(supernet: State) -> None:
    key = "features.3.2.conv.0.bn2b_shufflenet_7x7_branch2a.bias"
    with pytest.raises(CheckpointError, match=rf"{key} is missing"):
        load_reference_classifier(without(dict(supernet), key), space="tiny", ops=TINY)


@pytest.mark.parametrize("kind", ["single", "supernet"])
def test_weights_of_another_space_are_refused(kind: str, request) -> None:
    state = request.getfixturevalue(kind)
    with pytest.raises(CheckpointError, match=r"space 'small'"):
        load_reference_classifier(state, space="small", ops=SMALL)


def test_a_stem_of_no_space_is_refused(single: State, save, out: Path) -> None:
    file = save({**single, "first_conv.conv.weight": torch.ones(20, 3, 3, 3)})
    with pytest.raises(
        CheckpointError, match=r"first_conv\.conv\.weight has 20 rows, expected one of 8 \(tiny\)"
    ):
        import_reference(file, out)


def test_ops_are_read_from_a_single_net_alone(single: State, supernet: State) -> None:
    assert read_reference_ops({"state_dict": single}) == TINY
    with pytest.raises(CheckpointError, match="supernet's, which has every op"):
        read_reference_ops(supernet)


def test_a_call_that_is_wrong_itself_says_so(single: State, save) -> None:
    with pytest.raises(UsageError, match="space 'medium'"):
        load_reference_classifier(single, space="medium", ops=TINY)
    with pytest.raises(UsageError, match="shuffle 'random'"):
        load_reference_classifier(single, space="tiny", ops=TINY, shuffle="random")
    with pytest.raises(ArchitectureError, match="8 values"):
        load_reference_classifier(single, space="tiny", ops=TINY[1:])
    file = save(single)
    with pytest.raises(UsageError, match="is the checkpoint itself"):
        import_reference(file, file)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_is_no_checkpoint_of_tensors_is_refused(
    save, legacy: bool, single: State, out: Path
) -> None:
    file = save(single, legacy)
    whole = file.read_bytes()
    for content in (b"", b"<html>404</html>", whole[: len(whole) // 2], b"\x80\x02" + bytes(200)):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"released\.pkl: cannot be read as tensors"):
            import_reference(file, out)
    save({"state_dict": single, "model": torch.nn.Linear(1, 1)}, legacy)  # code, which is never run
    with pytest.raises(CheckpointError, match="cannot be read as tensors"):
        import_reference(file, out)
    with pytest.raises(CheckpointError, match="there is no such file"):
        import_reference(file.with_name("absent.pkl"), out)
    assert not out.exists()


def test_our_own_file_is_not_taken_for_the_authors(single: State, save, tmp_path: Path, out: Path) -> None:
    imported = import_reference(save(single), out)
    with pytest.raises(CheckpointError, match="key 'format' is int"):
        import_reference(imported.path, tmp_path / "again.pt")
