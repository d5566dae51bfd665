"""What both trainings promise: one path a step, equal runs, resume to the bit, and an end that says why."""

import logging
import re
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from detnas_nni.config import Config
from detnas_nni.errors import ConfigError, EvaluationError
from detnas_nni.models import ClassifierSpace, DetectorSpace
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.training import loop
from detnas_nni.training.jobs import linear_factor, step_factor
from detnas_nni.training.weights import load_weights
from search_spaces import CANDIDATES
from tests.training.two_ranks import recording
from tests.trainings import newest_checkpoint

CLASSES = 6


def parameters(step: str, config: Config) -> dict[str, Tensor]:
    """The names and shapes of the supernet's parameters, in its order."""
    if step == "pretrain":
        return dict(ClassifierSpace("tiny", CLASSES).named_parameters())
    return dict(DetectorSpace("tiny", CLASSES, config.detector).named_parameters())


def momentum(step: str, config: Config, training: dict[str, Any]) -> dict[str, Tensor]:
    """SGD's momentum buffers in a training's checkpoint by the names of their parameters."""
    optimizer = training["optimizer_states"][0]
    names = [name for name, _ in grouped(step, config)]
    ids = [number for group in optimizer["param_groups"] for number in group["params"]]
    return {
        name: optimizer["state"][number]["momentum_buffer"]
        for name, number in zip(names, ids, strict=True)
        if number in optimizer["state"]
    }


def grouped(step: str, config: Config) -> list[tuple[str, int]]:
    """Every parameter and its group: pre-training parts by dimensions, fine-tuning by name [R]."""
    in_second = {
        name: parameter.dim() <= 1 if step == "pretrain" else name.endswith("bias")
        for name, parameter in parameters(step, config).items()
    }
    return sorted(in_second.items(), key=lambda item: item[1])


def candidate(name: str) -> tuple[str, str] | None:
    """The block and the candidate that a tensor of a supernet belongs to; None outside of every choice."""
    match = re.search(rf"trunk\.stages\.(stage\d\.\d+)\.({'|'.join(CANDIDATES)})\.", name)
    return (match[1], match[2]) if match else None


def test_a_step_makes_the_calls_that_the_loop_opens_with_in_their_order(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config]
) -> None:
    documented = [
        name
        for line in re.findall(r"^ ?\d+\. .*$", loop.__doc__, re.MULTILINE)
        for name in re.findall(r"`(\w+\.\w+|activate)`", line)
    ]
    called: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_qualname in documented:
            called.append(frame.f_code.co_qualname)

    config = scratch(**{step: {"average_last": 10, "max_grad_norm": 1.0}})
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        train(config)
    finally:
        sys.setprofile(before)
    begins = [place for place, name in enumerate(called) if name == documented[0]]
    assert len(begins) == getattr(config, step).steps
    for begin, end in pairwise(begins):
        assert called[begin:end] == documented


def test_a_step_changes_the_path_that_it_draws_and_nothing_of_any_other(
    step: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    cut_at: Callable[..., Any],
    searched_blocks: list[str],
) -> None:
    config = scratch(**{step: {"checkpoint_every": 1}})
    trainings = []
    for number in (2, 3):
        with cut_at(number):
            train(config)
        trainings.append(torch.load(newest_checkpoint(config.run_dir / step), weights_only=True))
    ops = PathSampler("tiny", config.seed).path(2).ops
    path = {(block, CANDIDATES[op]) for block, op in zip(searched_blocks, ops, strict=True)}

    # Lightning prefixes the supernet's names with those of the modules around it.
    before, after = (training["state_dict"] for training in trainings)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {candidate(name) for name in changed} - {None} == path
    for block, op in path:
        weights = [n for n in before if candidate(n) == (block, op) and n.endswith("weight")]
        assert weights
        assert changed.issuperset(weights)
    assert any(candidate(name) is None for name in changed)

    earlier, later = (momentum(step, config, training) for training in trainings)
    moved = {name for name in later if name not in earlier or not torch.equal(earlier[name], later[name])}
    assert {candidate(name) for name in moved} - {None} == path
    assert {name for name in earlier if candidate(name) not in path | {None}}


def test_the_same_config_and_seed_give_the_same_supernet(
    step: str,
    train: Callable[..., Path],
    make_config: Callable[..., Config],
    supernets: Path,
    trained_run: Path,
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    torch.rand(3)  # whatever was drawn before does not matter
    again = state_of(train(make_config(trained_run), fresh=True))
    assert differing(state_of(supernets / step / "supernet.pt"), again) == []
    other = state_of(train(make_config(trained_run, seed=1, finetune={"init": "scratch"}), fresh=True))
    assert len(differing(other, again)) > len(again) / 4


@pytest.mark.parametrize("cut", [2, 3])
def test_a_training_that_is_gone_on_with_ends_as_if_it_had_never_stopped(
    step: str,
    train: Callable[..., Path],
    cut: int,
    make_config: Callable[..., Config],
    supernets: Path,
    trained_run: Path,
    cut_at: Callable[..., Any],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config(trained_run)
    with cut_at(cut):
        train(config, fresh=True)
    assert not (trained_run / step / "supernet.pt").exists()
    torch.manual_seed(99)
    with caplog.at_level(logging.INFO):
        path = train(config)
    assert "resuming at step 2 of 4" in caplog.text
    assert differing(state_of(supernets / step / "supernet.pt"), state_of(path)) == []
    assert not (trained_run / step / "checkpoints").exists()


def test_ctrl_c_is_a_keyboard_interrupt_and_the_training_can_be_gone_on_with(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], cut_at: Callable[..., Any]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with cut_at(3, KeyboardInterrupt):
        train(scratch())
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_weights(train(scratch())).info.steps == 4


def test_a_loss_that_is_not_finite_ends_the_training_by_step_and_path(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config]
) -> None:
    config = scratch(pretrain={"lr": 1e35}, finetune={"lr": 1e35})
    with pytest.raises(EvaluationError) as raised:
        train(config)
    match = re.search(r"not finite at step (\d) \((.*)\), on the path ([\d,]+); lower lr", str(raised.value))
    assert match[3] == str(PathSampler("tiny", config.seed).path(int(match[1])))
    assert re.search(r"\w+ (nan|inf)", match[2])
    assert not (config.run_dir / step / "supernet.pt").exists()


def test_a_gradient_is_clipped_to_the_norm_that_the_config_sets(
    step: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    state_of: Callable[[Path], dict[str, Tensor]],
) -> None:
    settings = {"steps": 1, "warmup_steps": 0, "weight_decay": 0.0}
    states = {}
    for norm in (1e-6, None):
        states[norm] = state_of(train(scratch(**{step: {**settings, "max_grad_norm": norm}}), fresh=True))
    torch.manual_seed(0)
    started = state_of(train(scratch(**{step: {**settings, "lr": 1e-30}}), fresh=True))
    names = list(parameters(step, scratch()))

    def way(state: dict[str, Tensor]) -> float:
        return sum(((state[name] - started[name]) ** 2).sum().item() for name in names) ** 0.5

    assert 0 < way(states[1e-6]) < 1e-6
    assert way(states[None]) > 1e-4


def test_bn_statistics_move_by_the_momentum_that_the_config_sets(
    step: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    state_of: Callable[[Path], dict[str, Tensor]],
) -> None:
    # One step from mean 0: the running mean is the batch's times the momentum.
    means = {}
    for momentum in (0.1, 0.4):
        config = scratch(**{step: {"steps": 1, "bn_momentum": momentum}})
        state = state_of(train(config, fresh=True))
        means[momentum] = {
            name: mean for name, mean in state.items() if name.endswith("running_mean") and mean.any()
        }
    assert len(means[0.1]) > 10
    assert all(torch.allclose(4 * mean, means[0.4][name], rtol=1e-5) for name, mean in means[0.1].items())


@pytest.mark.parametrize(
    ("step", "detector"),
    [("pretrain", "faster_rcnn"), ("finetune", "faster_rcnn"), ("finetune", "retinanet")],
    indirect=["step"],
)
def test_a_training_in_bf16_computes_in_it_and_keeps_its_weights_in_fp32(
    step: str,
    detector: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    state_of: Callable[[Path], dict[str, Tensor]],
) -> None:
    # At 64 pixels P6 would be 1 by 1, of which torch's bf16 convolution on a CPU gives no valid gradient.
    sizes = {"min_size": 128, "max_size": 192}
    config = scratch(
        hardware={"precision": "bf16"}, detector={"name": detector, **sizes}, **{step: {"steps": 2}}
    )
    computed = set()
    hook = register_module_forward_hook(
        lambda module, _, output: computed.add(output.dtype) if isinstance(module, nn.Conv2d) else None
    )
    try:
        state = state_of(train(config))
    finally:
        hook.remove()
    assert computed == {torch.bfloat16}
    weights = [tensor for tensor in state.values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in weights} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in weights)


def test_fp16_without_a_gpu_is_refused_and_deletes_nothing(
    step: str, train: Callable[..., Path], trained_run: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(trained_run, hardware={"precision": "fp16"})
    with pytest.raises(
        ConfigError, match=r"hardware\.precision is fp16, which needs a GPU; use bf16 or fp32"
    ):
        train(config, fresh=True)
    assert (trained_run / step / "supernet.pt").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_missed_before_anything_is_deleted(
    step: str, train: Callable[..., Path], trained_run: Path, make_config: Callable[..., Config]
) -> None:
    with pytest.raises(ConfigError, match=r"hardware\.device is cuda, but torch finds no GPU"):
        train(make_config(trained_run, hardware={"device": "cuda"}), fresh=True)
    assert (trained_run / step / "supernet.pt").exists()


def test_sigterm_saves_after_the_step_that_runs_and_a_second_one_means_what_it_meant_before(
    step: str,
    train: Callable[..., Path],
    make_config: Callable[..., Config],
    supernets: Path,
    trained_run: Path,
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    meanwhile = []

    def terminate(number: int) -> None:
        if number == 2:  # of 0 to 3: in the third step
            signal.raise_signal(signal.SIGTERM)
            meanwhile.append(signal.getsignal(signal.SIGTERM))

    config = make_config(trained_run, **{step: {"checkpoint_every": 100}})
    with pytest.raises(SystemExit) as exit_, recording(terminate), caplog.at_level(logging.INFO):
        train(config, fresh=True)
    assert exit_.value.code == 128 + signal.SIGTERM
    assert "SIGTERM: saved at step 3; run the same command again to resume" in caplog.text
    assert meanwhile == [before] and signal.getsignal(signal.SIGTERM) is before
    with recording() as record, caplog.at_level(logging.INFO):
        path = train(config)
    assert "resuming at step 3 of 4" in caplog.text and record.steps == [3]
    assert differing(state_of(supernets / step / "supernet.pt"), state_of(path)) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_training_is_told_in_log_lines_and_in_tensorboard(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = scratch()
    with caplog.at_level(logging.INFO):
        train(config)
    lines = [line for line in caplog.messages if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["2/4", "4/4"]
    assert all(re.search(r"loss \d+\.\d+  lr [\d.e-]+  [\d.]+ steps/s", line) for line in lines)
    events = EventAccumulator(str(config.run_dir / step / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4]
    assert {"lr", "steps_per_second"} < set(events.Tags()["scalars"])


@pytest.mark.parametrize(
    ("step", "settings", "expected"),
    [
        (
            "pretrain",
            {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.25},
            [(0.5, 0.8, 0.25), (0.5, 0.8, 0.0)],
        ),
        (
            "finetune",
            {"lr": 0.02, "weight_decay": 0.25, "bias_lr_factor": 3.0, "bias_weight_decay": 0.125},
            [(0.02, 0.9, 0.25), (0.06, 0.9, 0.125)],
        ),
    ],
    indirect=["step"],
)
def test_each_kind_of_parameter_has_its_learning_rate_and_decay(
    step: str,
    train: Callable[..., Path],
    settings: dict[str, float],
    expected: list[tuple[float, float, float]],
    scratch: Callable[..., Config],
    cut_at: Callable[..., Any],
) -> None:
    config = scratch(**{step: {**settings, "checkpoint_every": 1}})
    with cut_at(1):
        train(config)
    checkpoint = torch.load(newest_checkpoint(config.run_dir / step), weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    groups = optimizer["param_groups"]
    found = [(group["initial_lr"], group["momentum"], group["weight_decay"]) for group in groups]
    assert found == [pytest.approx(values) for values in expected]
    second = [is_second for _, is_second in grouped(step, config)]
    assert [len(group["params"]) for group in groups] == [second.count(False), second.count(True)]


def test_pretrainings_learning_rate_falls_in_a_line_to_0() -> None:
    assert [linear_factor(step, 4, 0) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert [linear_factor(step, 8, 2) for step in range(3)] == [0.5, 0.875, 0.75]


def test_finetunings_learning_rate_warms_up_and_falls_at_the_milestones() -> None:
    def factor(step: int) -> float:
        return step_factor(step, milestones=(60, 80), gamma=0.1, warmup_steps=30, warmup_factor=1 / 3)

    assert [factor(step) for step in (0, 15, 30, 59)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert [factor(step) for step in (60, 79, 80, 10_000)] == pytest.approx([0.1, 0.1, 0.01, 0.01])
