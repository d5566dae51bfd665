"""The two supernet trainings side by side, and a way to end them in their middle."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detnas_nni.config import Config
from detnas_nni.models import ClassifierSpace
from detnas_nni.supernet.steps import finetune, pretrain
from detnas_nni.training.progress import Checkpoints
from detnas_nni.training.runs import CheckpointFolder
from search_spaces import CANDIDATES, layout

TRAININGS: dict[str, Callable[..., Path]] = {"pretrain": pretrain, "finetune": finetune}


def checkpoints(training: Path) -> list[Path]:
    """What the training in a folder can be gone on with, the newest first."""
    return list(CheckpointFolder(training / "checkpoints").files())


def newest_checkpoint(training: Path) -> Path:
    return checkpoints(training)[0]


class PowerCutError(Exception):
    """What ends a training in its middle."""


@pytest.fixture(params=TRAININGS)
def step(request: pytest.FixtureRequest) -> str:
    """`pretrain`, then `finetune`."""
    return request.param


@pytest.fixture
def train(step: str) -> Callable[..., Path]:
    """The step's function."""
    return TRAININGS[step]


@pytest.fixture
def cut_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """with cut_at(k): a training ends with an exception after its step k, when what is due is saved."""

    @contextmanager
    def cut(step: int, error: type[BaseException] = PowerCutError) -> Iterator[None]:
        save = Checkpoints.on_train_batch_end

        def save_and_end(self: Checkpoints, trainer: Any, *args: Any) -> None:
            save(self, trainer, *args)
            if trainer.global_step == step:
                raise error

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "on_train_batch_end", save_and_end)
            with pytest.raises(error):
                yield

    return cut


@pytest.fixture(scope="session")
def state_of() -> Callable[[Path], dict[str, Tensor]]:
    """The weights in a supernet's checkpoint, read by Python's pickle: torch's safe one takes far longer."""
    return lambda path: torch.load(path, weights_only=False)["state"]


@pytest.fixture(scope="session")
def differing() -> Callable[[dict[str, Tensor], dict[str, Tensor]], list[str]]:
    """The names of the tensors in which two states differ by a bit."""

    def names(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
        assert list(first) == list(second)
        return [name for name in first if not torch.equal(first[name], second[name])]

    return names


@pytest.fixture(scope="session")
def searched_blocks() -> list[str]:
    """The blocks of tiny that are searched, such as `stage1.1`, in the order of an architecture's ops."""
    pattern = re.compile(rf"\.(stage\d\.\d+)\.(?:{'|'.join(CANDIDATES)})\.")
    matches = map(pattern.search, ClassifierSpace("tiny", 2).state_dict())
    blocks = list(dict.fromkeys(match[1] for match in matches if match))
    assert len(blocks) == len(layout("tiny"))
    return blocks


@pytest.fixture
def scratch(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """scratch(pretrain={…}, …): a config whose two trainings need nothing of each other."""

    def make(**sections: Any) -> Config:
        finetune = {"init": "scratch", **sections.pop("finetune", {})}
        return make_config(tmp_path / "run", finetune=finetune, **sections)

    return make
