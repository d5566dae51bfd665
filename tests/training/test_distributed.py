"""A training in two real processes is the training in one; and whatever ends one of them ends all."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.strategy import RandomOneShot
from pytorch_lightning.plugins import TorchSyncBatchNorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.data.loaders import TrainBatches
from detnas_nni.data.splits import open_classification
from detnas_nni.errors import ConfigError
from detnas_nni.models import ClassifierSpace, DetectorSpace
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.training.distributed import World, joined, start_processes, world
from detnas_nni.training.jobs import ClassificationJob, DetectionJob, Job
from search_spaces import CANDIDATES, layout
from tests.training.command import START, Command
from tests.training.two_ranks import INTERRUPTED, pretrain_with_fixed_statistics, recording
from tests.trainings import TRAININGS, checkpoints, newest_checkpoint
from tests.varied import SEED

REPOSITORY = Path(__file__).parents[2]
STEPS = 5
BATCH = {"pretrain": 8, "finetune": 4}
SETTINGS = {"steps": STEPS, "checkpoint_every": 1, "weight_decay": 0.01}


@dataclass(frozen=True)
class Ranks:
    """What the two processes of a training recorded; see `two_ranks.Record`."""

    first: dict[str, Any]
    second: dict[str, Any]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter((self.first, self.second))


def train_in_two_processes(folder: Path, **configs: Path) -> dict[str, Ranks]:
    """Run `two_ranks` with a config for each of its trainings; gives the records by training."""
    folder.mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    trainings = [f"{name}={config}" for name, config in configs.items()]
    subprocess.run(
        [*torchrun, "-m", "tests.training.two_ranks", str(folder), *trainings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY,
        check=True,
        timeout=START,
    )
    return {name: Ranks(*(torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1))) for name in configs}


@pytest.fixture(scope="module")
def configs(write_config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The config of each of `two_ranks`' trainings, with a run folder of its own."""
    folder = tmp_path_factory.mktemp("two")
    sections: dict[str, dict[str, Any]] = {
        "pretrain": {"pretrain": {**SETTINGS, "batch_size": BATCH["pretrain"]}},
        "pretrain_with_fixed_statistics": {
            "pretrain": {"dropout": 0.0, "steps": 3, "batch_size": BATCH["pretrain"]}
        },
        "fair_with_fixed_statistics": {
            "pretrain": {"dropout": 0.0, "steps": 8, "batch_size": BATCH["pretrain"], "sampling": "fair"}
        },
        "finetune": {"finetune": {**SETTINGS, "batch_size": BATCH["finetune"], "init": "scratch"}},
        "retrain_faster_rcnn": {"finetune": {"steps": 2}, "retrain": {"init": "scratch"}},
        "retrain_retinanet": {
            "pretrain": {"steps": 2},
            "finetune": {"steps": 2},
            "detector": {"name": "retinanet"},
        },
    }
    architecture = Architecture("tiny", (1,) * len(layout("tiny")))
    paths = {}
    for name, changes in sections.items():
        paths[name] = write_config(
            folder / f"{name}.yaml", run_dir=str(folder / name), hardware={"devices": 2}, **changes
        )
        architecture.save(folder / name / "random.json")
    return paths


@pytest.fixture(scope="module")
def trained(configs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ranks]:
    """Every training of `configs`, in two processes."""
    return train_in_two_processes(tmp_path_factory.mktemp("records") / "whole", **configs)


@pytest.fixture
def ranks(step: str, trained: dict[str, Ranks]) -> Ranks:
    """The step's records."""
    return trained[step]


def candidates(names: set[str]) -> set[tuple[str, str]]:
    """The blocks and candidates that tensors or modules of a supernet belong to."""
    pattern = re.compile(rf"trunk\.stages\.(stage\d\.\d+)\.({'|'.join(CANDIDATES)})\.")
    return {(match[1], match[2]) for match in map(pattern.search, names) if match}


def path(step: int, searched_blocks: list[str]) -> set[tuple[str, str]]:
    """The blocks and candidates of a step's path, with the seed of all tests' configs."""
    ops = PathSampler("tiny", SEED).path(step).ops
    return {(block, CANDIDATES[op]) for block, op in zip(searched_blocks, ops, strict=True)}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


def job(step: str, config: Config) -> Job:
    return (ClassificationJob if step == "pretrain" else DetectionJob)(config, getattr(config, step))


def test_both_processes_draw_the_same_path_at_each_step(ranks: Ranks, searched_blocks: list[str]) -> None:
    for rank in ranks:
        assert rank["steps"] == list(range(STEPS))
        assert [candidates(ran) for ran in rank["ran"]] == [
            path(step, searched_blocks) for step in range(STEPS)
        ]


def test_the_processes_share_the_images_of_one_process(
    step: str, ranks: Ranks, configs: dict[str, Path]
) -> None:
    joint = [list(images) for images, _ in job(step, load_config(configs[step])).loader(0, World())]
    for whole, first, second in zip(joint, ranks.first["images"], ranks.second["images"], strict=True):
        assert len(first) == len(second) == BATCH[step] / 2
        assert all(torch.equal(a, b) for a, b in zip(whole, [*first, *second], strict=True))


def test_both_processes_come_to_the_same_weights(trained: dict[str, Ranks]) -> None:
    for name, ranks in trained.items():
        first, second = (rank["parameters"][-1] for rank in ranks)
        assert first.keys() == second.keys()
        assert changed(first, second) == set(), name
        assert changed(ranks.first["parameters"][0], first), name


def test_the_main_process_writes_what_it_came_to(
    step: str, ranks: Ranks, configs: dict[str, Path], state_of: Callable[[Path], dict[str, Tensor]]
) -> None:
    folder = load_config(configs[step]).run_dir / step
    assert changed(state_of(folder / "supernet.pt"), ranks.first["state"]) == set()
    assert {file.name for file in folder.iterdir()} == {"supernet.pt", "tensorboard", "training.json"}
    assert len(list((folder / "tensorboard").glob("*tfevents*"))) == 1


@pytest.mark.parametrize("name", ["pretrain_with_fixed_statistics", "fair_with_fixed_statistics"])
@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_two_processes_come_to_the_weights_of_one_with_the_joint_batch(
    name: str, trained: dict[str, Ranks], configs: dict[str, Path], tmp_path: Path
) -> None:
    def weights_of_one(lr: float) -> dict[str, Tensor]:
        config = load_config(
            configs[name],
            [f"run_dir={tmp_path}/{lr}", "hardware.devices=1", f"pretrain.lr={lr}"],
        )
        with recording() as record:
            pretrain_with_fixed_statistics(config)
        return record.parameters[-1]

    def agree(one: dict[str, Tensor]) -> bool:
        return all(torch.allclose(two[name], one[name], rtol=1e-4, atol=1e-6) for name in two)

    two = trained[name].first["parameters"][-1]
    assert agree(weights_of_one(lr=0.05))
    # Gradients that were added up, not averaged, or a learning rate by the number of processes would show.
    assert not agree(weights_of_one(lr=0.1))


def test_a_candidate_that_is_not_drawn_has_no_gradient_and_stays_as_it_is(
    ranks: Ranks, searched_blocks: list[str]
) -> None:
    for rank in ranks:
        for step in range(STEPS):
            drawn = path(step, searched_blocks)
            assert candidates(rank["gradients"][step]) == drawn
            before, after = rank["parameters"][step : step + 2]
            assert candidates(changed(before, after)) == drawn
            before, after = rank["momentum"][step : step + 2]
            assert candidates(changed(before, after)) == drawn
        # Some were drawn before, with a momentum and a weight decay that could have moved them.
        assert candidates(set(rank["momentum"][STEPS - 1])) - path(STEPS - 1, searched_blocks)


@pytest.mark.parametrize(("name", "nets"), [("retrain_faster_rcnn", 1), ("retrain_retinanet", 2)])
def test_single_nets_are_trained_in_two_processes_and_measured_once(
    name: str, nets: int, configs: dict[str, Path], trained: dict[str, Ranks]
) -> None:
    folder = load_config(configs[name]).run_dir / "retrain"
    assert len(list(folder.rglob("results.json"))) == 1
    assert len(list(folder.rglob("net.pt"))) == nets  # the detector, and the classifier that it starts from
    assert len(list(folder.rglob("*tfevents*"))) == nets


@pytest.fixture
def interrupted(configs: dict[str, Path], trained: dict[str, Ranks], tmp_path: Path) -> Callable[[str], Path]:
    """interrupted(step): a config whose run's folder is as two processes leave it that end after step 3."""

    def copy(step: str) -> Path:
        run_dir = str(load_config(configs[step]).run_dir)
        shutil.copytree(f"{run_dir}-interrupted", tmp_path / step)
        config = tmp_path / f"{step}.yaml"
        config.write_text(configs[step].read_text().replace(run_dir, str(tmp_path / step)))
        return config

    return copy


def test_one_process_goes_on_where_two_were_stopped(
    step: str,
    train: Callable[..., Path],
    ranks: Ranks,
    interrupted: Callable[[str], Path],
    searched_blocks: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO), recording() as record:
        train(load_config(interrupted(step), ["hardware.devices=1"]))
    assert f"resuming at step {INTERRUPTED} of {STEPS}" in caplog.text
    assert record.steps == [3, 4]
    assert changed(record.parameters[0], ranks.first["parameters"][INTERRUPTED]) == set()
    assert changed(record.momentum[0], ranks.first["momentum"][INTERRUPTED]) == set()
    for number, ran, images in zip(record.steps, record.ran, record.images, strict=True):
        assert candidates(ran) == path(number, searched_blocks)
        joint = [*ranks.first["images"][number], *ranks.second["images"][number]]
        assert all(torch.equal(a, b) for a, b in zip(images, joint, strict=True))


@pytest.mark.slow
def test_two_processes_go_on_as_if_they_had_never_stopped(
    trained: dict[str, Ranks], interrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    configs = {step: interrupted(step) for step in TRAININGS}
    for step, ranks in train_in_two_processes(tmp_path / "again", **configs).items():
        assert ranks.first["steps"] == ranks.second["steps"] == [3, 4]
        assert changed(trained[step].first["state"], ranks.first["state"]) == set()
        assert changed(trained[step].second["parameters"][-1], ranks.second["parameters"][-1]) == set()


@pytest.fixture
def command(write_config: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """command("pretrain", pretrain={…}, …): starts `detnas pretrain` in two processes on such a config."""
    started = []

    def start(*arguments: str, **sections: Any) -> Command:
        hardware = {"devices": 2, "workers": 1}
        config = write_config(tmp_path / "detnas.yaml", **{"hardware": hardware, **sections})
        started.append(Command(config, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        # As test_sigterm_to_any_process_saves_once_and_ends_all, but in the middle of a checkpoint.
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, [], marks=pytest.mark.slow),
        (signal.SIGINT, 130, ["detnas: interrupted; run the same command again to resume"]),
    ],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_to_the_command_ends_every_process(
    number: int, status: int, told: list[str], command: Callable[..., Command], tmp_path: Path
) -> None:
    training = command("pretrain", pretrain={"steps": 100_000, "checkpoint_every": 1})
    training.wait_for(tmp_path / "run/pretrain/checkpoints")
    assert training.addresses == {"127.0.0.1"}  # whoever reached torchrun's store could run code
    training.send_signal(number)
    assert training.end(seconds=30) == status
    assert training.told == told


@pytest.mark.parametrize("whom", ["the command", "one of its processes"])
def test_sigterm_to_any_process_saves_once_and_ends_all(
    whom: str, command: Callable[..., Command], tmp_path: Path
) -> None:
    training = command("pretrain", pretrain={"steps": 100_000, "checkpoint_every": 100_000})
    training.wait_to_say("steps/s")
    process = training if whom == "the command" else training.workers[1]
    process.send_signal(signal.SIGTERM)
    assert training.end(seconds=30) == 128 + signal.SIGTERM
    assert training.told == []
    [step] = re.findall(r"SIGTERM: saved at step (\d+)", training.errors.read_text())
    [checkpoint] = checkpoints(tmp_path / "run/pretrain")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == int(step)


def test_a_process_that_is_killed_ends_the_others_and_one_process_can_go_on(
    command: Callable[..., Command],
    cut_at: Callable[..., Any],
    searched_blocks: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    training = command("pretrain", pretrain={"steps": 100_000, "checkpoint_every": 1})
    training.wait_for(tmp_path / "run/pretrain/checkpoints")
    training.workers[0].kill()
    assert training.end(seconds=30) == 1
    assert training.told[-1] == (
        "detnas: error: process 0 of 2 was ended by SIGKILL; run the same command again to resume"
    )
    step = torch.load(newest_checkpoint(tmp_path / "run/pretrain"), weights_only=True)["global_step"]
    config = load_config(tmp_path / "detnas.yaml", ["hardware.devices=1", "hardware.workers=0"])
    with caplog.at_level(logging.INFO), recording() as record, cut_at(step + 1):
        TRAININGS["pretrain"](config)
    assert f"resuming at step {step} of 100000" in caplog.text
    assert record.steps == [step]
    assert candidates(record.ran[0]) == path(step, searched_blocks)


def test_an_error_in_one_process_is_told_in_one_line_and_ends_all(
    command: Callable[..., Command], shapes: Path, tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    data = shutil.copytree(shapes, tmp_path / "data")
    config = make_config(tmp_path / "run", data_dir=data)
    train = open_classification(config.data.classification, config.seed).train
    second = list(TrainBatches(len(train.files), 4, 4, config.seed, rank=1, world_size=2))
    bad = train.files[second[1][0][0]]  # the second process meets it at its second step
    bad.write_bytes(bad.read_bytes()[:200])
    training = command("pretrain", data_dir=data, data={"max_bad_images": 0})
    assert training.end(START) == 1
    (error,) = training.told
    assert error.startswith(f"detnas: error: {bad}: ")
    assert "1 bad image(s)" in error


def test_a_batch_that_the_processes_cannot_share_is_refused_once_and_deletes_nothing(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    before = tmp_path / "run/pretrain/supernet.pt"
    before.parent.mkdir(parents=True)
    before.touch()
    training = command("pretrain", "--fresh", pretrain={"batch_size": 7})
    assert training.end(START) == 2
    assert training.told == [
        "detnas: error: batch_size is 7, images over all devices; it has to be a multiple of the 2 processes"
    ]
    assert before.exists()


def test_several_devices_need_processes_that_the_python_api_does_not_start(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config]
) -> None:
    config = scratch(hardware={"devices": 2})
    with pytest.raises(ConfigError, match=r"hardware\.devices is 2; call `detnas`, which starts .*torchrun"):
        train(config)
    assert not config.run_dir.exists()


def test_one_device_needs_no_other_process(make_config: Callable[..., Config], tmp_path: Path) -> None:
    hardware = make_config(tmp_path).hardware
    start_processes(hardware, ["pretrain"])
    with joined(hardware) as here:
        assert here == World() == world()
    assert here.is_main


def test_processes_on_a_cpu_load_their_images_themselves(
    step: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    # A process that is forked beside gloo's threads may hang.
    training = job(step, make_config(tmp_path, hardware={"workers": 1}))
    assert training.loader(0, World(size=2)).num_workers == 0
    assert training.loader(0, World()).num_workers == 1


def test_a_process_knows_its_place_from_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"RANK": "11", "WORLD_SIZE": "16", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8"}
    for name, value in {**places, "TORCHELASTIC_RUN_ID": "run"}.items():
        monkeypatch.setenv(name, value)
    assert world() == World(rank=11, size=16, local_rank=3, local_size=8)
    assert not world().is_main
    assert world().share(64, "batch_size") == 4
    with pytest.raises(ConfigError, match=r"batch_size is 40, .*a multiple of the 16 processes"):
        world().share(40, "batch_size")


def test_every_batch_normalisation_of_a_supernet_can_be_synchronised(
    step: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path)
    space = ClassifierSpace("tiny", 6) if step == "pretrain" else DetectorSpace("tiny", 6, config.detector)
    supernet = RandomOneShot().mutate_model(space)
    names = list(supernet.state_dict())
    parameters = dict(supernet.named_parameters())

    def norms(module: nn.Module) -> dict[str, type[nn.Module]]:
        return {name: type(layer) for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)}

    before = norms(supernet)
    assert len(before) > 100
    assert TorchSyncBatchNorm().apply(supernet) is supernet  # as Lightning does on GPUs
    assert norms(supernet) == dict.fromkeys(before, nn.SyncBatchNorm)
    assert list(supernet.state_dict()) == names
    assert all(parameter is parameters[name] for name, parameter in supernet.named_parameters())
    assert norms(TorchSyncBatchNorm().revert(supernet)).keys() == before.keys()
    assert list(supernet.state_dict()) == names
