"""Fair sampling: the added gradients of a round of paths are one update, and nothing is saved within it."""

import logging
import re
import signal
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.oneshot.pytorch.base_lightning import BaseSuperNetModule
from nni.nas.strategy import RandomOneShot
from torch import Tensor
from torch.optim import SGD

from detnas_nni.config import Config
from detnas_nni.config.fast_dev_run import fast_dev_run
from detnas_nni.config.updates import passes_per_update
from detnas_nni.errors import ConfigError
from detnas_nni.supernet.paths import BalancedPathSampler, activate
from detnas_nni.supernet.steps import pretrain
from detnas_nni.training.distributed import World
from detnas_nni.training.jobs import ClassificationJob, DetectionJob, Job
from detnas_nni.training.weights import load_weights
from detnas_nni.util.seeding import derive_seed
from search_spaces import CANDIDATES
from tests.training.two_ranks import recording
from tests.trainings import checkpoints, newest_checkpoint

PASSES = len(CANDIDATES)
FAIR = {"sampling": "fair", "steps": 2 * PASSES, "checkpoint_every": 3}


def by_hand(job: Job, config: Config, share: float = 1.0) -> dict[str, Tensor]:
    """The parameters after a fair training, by a loop that says what one is.

    Args:
        job: the training.
        config: its config.
        share: of each pass's gradient that goes into the update.
    """
    settings = job.settings
    torch.manual_seed(derive_seed(config.seed, "initial weights"))
    supernet = RandomOneShot().mutate_model(job.build()).train()
    layers = [module for module in supernet.modules() if isinstance(module, BaseSuperNetModule)]
    parameters = dict(supernet.named_parameters())
    optimizer = SGD(job.parameter_groups(supernet), lr=settings.lr, momentum=settings.momentum)
    rates = [group["lr"] for group in optimizer.param_groups]
    sampler = BalancedPathSampler(config.space.name, config.seed)
    batches = list(job.loader(0, World()))
    for first in range(0, settings.steps, PASSES):
        last = first + PASSES - 1
        gradients = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        for step in range(first, last + 1):
            activate(layers, sampler.path(step))
            torch.manual_seed(derive_seed(config.seed, "step", step))
            with torch.autocast("cpu", torch.bfloat16, enabled=config.hardware.precision == "bf16"):
                loss = sum(job.losses(supernet, batches[step]).values())
            of_path = torch.autograd.grad(loss, parameters.values(), allow_unused=True)
            for name, gradient in zip(parameters, of_path, strict=True):
                if gradient is not None:
                    gradients[name] += share * gradient
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        if settings.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * job.lr_factor(last)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


@pytest.fixture
def job(step: str) -> Callable[[Config], Job]:
    """job(config): the step's training."""
    kind = ClassificationJob if step == "pretrain" else DetectionJob
    return lambda config: kind(config, getattr(config, step))


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The greatest difference between two nets' parameters, against the greatest of the parameter."""
    return max(
        ((first[name] - second[name]).abs().max() / first[name].abs().max().clamp(min=1e-3)).item()
        for name in first
    )


@pytest.mark.parametrize(("max_grad_norm", "precision"), [(None, "fp32"), (0.5, "fp32"), (None, "bf16")])
def test_an_update_is_by_the_sum_of_its_paths_gradients(
    max_grad_norm: float | None,
    precision: str,
    step: str,
    train: Callable[..., Path],
    job: Callable[[Config], Job],
    scratch: Callable[..., Config],
) -> None:
    settings = {**FAIR, "max_grad_norm": max_grad_norm, "weight_decay": 0.01}
    # At 64 pixels P6 would be 1 by 1, of which torch's bf16 convolution on a CPU gives no valid gradient.
    sizes = {"min_size": 128, "max_size": 192}
    config = scratch(hardware={"precision": precision}, detector=sizes, **{step: settings})
    trained = load_weights(train(config)).state
    expected = by_hand(job(config), config)
    assert distance(expected, {name: trained[name] for name in expected}) < 1e-3
    if max_grad_norm is None:  # clipped, a sum and a mean are the same
        assert distance(expected, by_hand(job(config), config, share=1 / PASSES)) > 1e-2


def test_every_candidate_is_moved_by_every_update_and_by_nothing_between_two(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], searched_blocks: list[str]
) -> None:
    with recording() as record:
        train(scratch(**{step: FAIR}))
    assert record.steps == list(range(2 * PASSES))
    for number in range(2 * PASSES):
        before, after = record.parameters[number : number + 2]
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        if (number + 1) % PASSES:
            assert not moved
        else:
            for block, op in product(searched_blocks, CANDIDATES):
                # Of convolutions: a BN's weight of 1 may take a step that is lost in rounding.
                weights = {
                    name
                    for name, value in before.items()
                    if f".{block}.{op}." in name and name.endswith("weight") and value.ndim == 4
                }
                assert weights and weights <= moved


@pytest.mark.parametrize(("cut", "saved"), [(PASSES + 1, PASSES), (PASSES - 1, 0)])
def test_a_fair_training_is_gone_on_with_from_an_update_and_ends_as_if_it_had_never_stopped(
    cut: int,
    saved: int,
    step: str,
    train: Callable[..., Path],
    scratch: Callable[..., Config],
    cut_at: Callable[..., Any],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    config = scratch(**{step: FAIR})
    whole = state_of(train(config))
    with cut_at(cut):
        train(config, fresh=True)
    assert list(map(int, re.findall(r"step_(\d+)", str(checkpoints(config.run_dir / step))))) == (
        [saved] if saved else []
    )
    torch.manual_seed(99)
    with recording() as record:
        again = state_of(train(config))
    assert record.steps == list(range(saved, 2 * PASSES))
    assert differing(whole, again) == []


def test_sigterm_saves_after_the_update_that_runs(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = scratch(**{step: {**FAIR, "checkpoint_every": 100}})

    def terminate(number: int) -> None:
        if number == 1:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as exit_, recording(terminate), caplog.at_level(logging.INFO):
        train(config)
    assert exit_.value.code == 128 + signal.SIGTERM
    assert f"SIGTERM: saved at step {PASSES}; run the same command again" in caplog.text
    saved = torch.load(newest_checkpoint(config.run_dir / step), weights_only=True)
    assert saved["global_step"] == PASSES


@pytest.mark.parametrize(("every", "saved"), [(2, [4, 8, 12, 16, 20]), (7, [8, 16]), (8, [8, 16])])
def test_a_checkpoint_that_is_due_within_an_update_is_saved_at_its_end(
    every: int,
    saved: list[int],
    scratch: Callable[..., Config],
    cut_at: Callable[..., Any],
) -> None:
    settings = {**FAIR, "steps": 24, "checkpoint_every": every, "keep_checkpoints": 9}
    config = scratch(pretrain=settings)
    with cut_at(21):
        pretrain(config)
    found = checkpoints(config.run_dir / "pretrain")
    assert sorted(int(file.name[5:13]) for file in found) == saved


def test_steps_that_are_no_whole_number_of_updates_are_refused_before_anything_is_written(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config]
) -> None:
    config = scratch(**{step: {**FAIR, "steps": 9}})
    message = (
        rf"^{step}\.steps is 9; with {step}\.sampling fair it has to be a multiple of the 4 passes of an "
        r"update, such as 12$"
    )
    with pytest.raises(ConfigError, match=message):
        train(config)
    assert not config.run_dir.exists()
    with pytest.raises(ConfigError, match=message):  # and not found out only after a fast dev run
        fast_dev_run(config, on_gpu=False)


def test_blocks_of_unequal_numbers_of_candidates_have_no_fair_paths(
    step: str, scratch: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "search_spaces"))
    config = scratch(space={"name": "foreign:mobile"}, **{step: FAIR})
    with pytest.raises(
        ConfigError, match=rf"^{step}\.sampling is fair, .*foreign:mobile have 2, 3; use balanced$"
    ):
        passes_per_update(config, step)


def test_a_fast_dev_run_of_a_fair_training_is_one_update(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config]
) -> None:
    config = fast_dev_run(scratch(**{step: {**FAIR, "steps": 1_000_000}}), on_gpu=False)
    assert load_weights(train(config)).info.steps == PASSES
