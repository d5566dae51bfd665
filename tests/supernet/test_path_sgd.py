"""SGD over a path comes to what torch's over everything comes to, and looks at nothing else."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from detnas_nni.supernet.paths import PathSGD

CANDIDATES = 3
PATHS = [(0, 1), (2, 1), (0, 0), (1, 2), (2, 1), (0, 1)]


class Supernet(nn.Module):
    """Two blocks of candidates around a layer that is always there, one of the candidates a shared one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (
            nn.ModuleList(nn.Linear(4, 4) for _ in range(CANDIDATES)) for _ in range(2)
        )
        self.always = nn.Linear(4, 4)
        self.second[2] = self.always

    def forward(self, x: Tensor, path: tuple[int, int]) -> Tensor:
        first, second = path
        return self.second[second](self.always(self.first[first](x)).relu())


@pytest.fixture
def supernet() -> Supernet:
    return Supernet()


def optimizer(kind: type[SGD], model: nn.Module) -> SGD:
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "lr": 0.2}]
    return kind(groups, lr=0.1, momentum=0.9)


def closure(model: Supernet, sgd: SGD, number: int) -> Callable[[], Tensor]:
    """Lightning's order: forward, zero_grad, backward."""

    def run() -> Tensor:
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(number))
        loss = model(x, PATHS[number]).square().mean()
        sgd.zero_grad()
        loss.backward()
        return loss

    return run


def state(model: Supernet, sgd: SGD) -> tuple[dict[str, Tensor], list[Any], list[Any]]:
    """Weights, the momentum of each parameter that has some, and the groups."""
    saved = sgd.state_dict()
    momentum = [(number, saved["state"][number]["momentum_buffer"]) for number in sorted(saved["state"])]
    return model.state_dict(), momentum, saved["param_groups"]


def same(first: Any, second: Any) -> bool:
    (weights, momentum, groups), (others, other_momentum, other_groups) = first, second
    return (
        all(torch.equal(weights[name], others[name]) for name in weights)
        and [number for number, _ in momentum] == [number for number, _ in other_momentum]
        and all(torch.equal(a, b) for (_, a), (_, b) in zip(momentum, other_momentum, strict=True))
        and groups == other_groups
    )


@pytest.mark.parametrize("by_closure", [True, False], ids=["step(closure)", "step()"])
def test_it_comes_to_the_same_as_torchs_to_the_bit(by_closure: bool, supernet: Supernet) -> None:
    torchs = copy.deepcopy(supernet)
    ours, theirs = optimizer(PathSGD, supernet), optimizer(SGD, torchs)
    for number in range(len(PATHS)):
        losses = []
        for model, sgd in ((supernet, ours), (torchs, theirs)):
            run = closure(model, sgd, number)
            if by_closure:
                losses.append(sgd.step(run))
            else:
                losses.append(run())
                sgd.step()
        assert torch.equal(*losses)
        assert same(state(supernet, ours), state(torchs, theirs))
        gradients = [
            [name for name, parameter in model.named_parameters() if parameter.grad is not None]
            for model in (supernet, torchs)
        ]
        assert gradients[0] == gradients[1]


def test_it_goes_on_from_a_state_that_was_saved(supernet: Supernet) -> None:
    sgd = optimizer(PathSGD, supernet)
    for number in range(3):
        sgd.step(closure(supernet, sgd, number))
    resumed = copy.deepcopy(supernet)
    other = optimizer(PathSGD, resumed)
    other.load_state_dict(copy.deepcopy(sgd.state_dict()))
    for number in range(3, len(PATHS)):
        sgd.step(closure(supernet, sgd, number))
        other.step(closure(resumed, other, number))
    assert same(state(supernet, sgd), state(resumed, other))


def test_a_step_visits_the_path_and_its_groups_hold_everything_before_and_after(
    supernet: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sgd = optimizer(PathSGD, supernet)
    everything = [list(group["params"]) for group in sgd.param_groups]
    visited: list[set[Tensor]] = []

    def visit(self: SGD, *_: Any) -> None:
        visited.append({parameter for group in self.param_groups for parameter in group["params"]})

    monkeypatch.setattr(SGD, "step", visit)
    monkeypatch.setattr(SGD, "zero_grad", visit)
    for number in range(2):
        sgd.step(closure(supernet, sgd, number))
        sgd.zero_grad()
    paths = [
        {*supernet.first[first].parameters(), *supernet.second[second].parameters()}
        | set(supernet.always.parameters())
        for first, second in PATHS[:2]
    ]
    # Each in zero_grad before the backward pass, in the step, and in zero_grad once more.
    assert visited == [set(), paths[0], paths[0], set(), paths[1], paths[1]]
    assert all(group["params"] == params for group, params in zip(sgd.param_groups, everything, strict=True))


def test_its_groups_hold_everything_after_a_step_that_failed(
    supernet: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sgd = optimizer(PathSGD, supernet)
    lengths = [len(group["params"]) for group in sgd.param_groups]

    def fail(self: SGD, *_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(SGD, "step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        sgd.step(closure(supernet, sgd, 0))
    assert [len(group["params"]) for group in sgd.param_groups] == lengths


def test_gradients_of_two_passes_add_up_and_are_stepped_on_once(supernet: Supernet) -> None:
    torchs = copy.deepcopy(supernet)
    ours, theirs = optimizer(PathSGD, supernet), optimizer(SGD, torchs)
    for model, sgd in ((supernet, ours), (torchs, theirs)):
        for path in PATHS[:2]:
            model(torch.ones(2, 4), path).sum().backward()
        sgd.step()
        sgd.zero_grad(set_to_none=False)
        sgd.step()  # on zeros: momentum and decay alone
    assert same(state(supernet, ours), state(torchs, theirs))


def test_what_takes_no_gradient_is_left_alone(supernet: Supernet) -> None:
    supernet.always.weight.requires_grad_(False)
    before = supernet.always.weight.clone()
    sgd = optimizer(PathSGD, supernet)
    sgd.step(closure(supernet, sgd, 0))
    assert torch.equal(supernet.always.weight, before)
    assert not torch.equal(supernet.always.bias, Supernet().always.bias)
