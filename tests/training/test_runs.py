"""A run's folder belongs to one config: gone on with, left as it is, refused, or cleared on demand."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError, ConfigError, DataError
from detnas_nni.evaluation.tasks import open_task
from detnas_nni.training.distributed import World
from detnas_nni.training.runs import (
    TrainingRun,
    TrainingRunsError,
    finetune_run,
    pretrain_run,
    supernet_weights,
)
from detnas_nni.training.weights import load_weights
from tests.search.searching import tiny
from tests.trainings import TRAININGS, checkpoints

OTHER = {"pretrain": {"lr": 0.04}, "finetune": {"lr": 0.02}}


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder, its size and when it was written."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def change_a_byte(file: Path) -> None:
    """As a bad disk does, in the middle of a tensor: torch loads such a file without a word."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def test_a_finished_training_is_left_as_it_is(
    step: str, train: Callable[..., Path], trained_run: Path, make_config: Callable[..., Config]
) -> None:
    before = files(trained_run)
    assert train(make_config(trained_run)) == trained_run / step / "supernet.pt"
    assert files(trained_run) == before


def test_a_finished_training_needs_its_data_no_more(
    step: str, train: Callable[..., Path], supernets: Path, tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    # What the run depends on is where its data is said to be, not that it is still there.
    config = make_config(supernets)
    moved = Path(str(config.data.classification.train)).parents[1]
    hidden = moved.rename(tmp_path / "hidden")
    try:
        assert train(config).exists()
    finally:
        hidden.rename(moved)


def test_what_a_training_does_not_depend_on_may_change(
    train: Callable[..., Path], trained_run: Path, make_config: Callable[..., Config]
) -> None:
    before = files(trained_run)
    train(
        make_config(
            trained_run, search={"population": 3}, evaluation={"batch_size": 2}, hardware={"workers": 1}
        )
    )
    assert files(trained_run) == before


def test_a_supernet_of_another_config_is_refused_and_stays(
    step: str, train: Callable[..., Path], trained_run: Path, make_config: Callable[..., Config]
) -> None:
    before = files(trained_run)
    around = [{"finetune": {"around": tiny(1).ops}}] if step == "finetune" else []
    for sections in ({step: OTHER[step]}, {"seed": 1}, *around):
        with pytest.raises(CheckpointError, match=rf"{step}/supernet\.pt: of another config .*--fresh"):
            train(make_config(trained_run, **sections))
    assert files(trained_run) == before


def test_an_interrupted_training_of_another_config_is_refused_and_can_be_gone_on_with(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], cut_at: Callable[..., Any]
) -> None:
    with cut_at(2):
        train(scratch())
    with pytest.raises(CheckpointError, match=rf"{step}/checkpoints: of another config .*--fresh"):
        train(scratch(seed=1))
    assert train(scratch()).exists()


def test_fresh_starts_over(
    step: str,
    train: Callable[..., Path],
    trained_run: Path,
    make_config: Callable[..., Config],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
) -> None:
    before = state_of(trained_run / step / "supernet.pt")
    path = train(make_config(trained_run, **{step: OTHER[step]}), fresh=True)
    assert differing(state_of(path), before)
    assert (
        load_weights(path).info.fingerprint
        != load_weights(
            trained_run / ("finetune" if step == "pretrain" else "pretrain") / "supernet.pt"
        ).info.fingerprint
    )
    events = [name for name in files(trained_run / step) if "tfevents" in name]
    assert len(events) == 1


def test_fresh_deletes_nothing_when_the_new_training_cannot_start(
    step: str,
    train: Callable[..., Path],
    trained_run: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
) -> None:
    before = files(trained_run)
    gone = {
        "classification": {"train": f"{tmp_path}/gone"},
        "detection": {"train": {"images": f"{tmp_path}/gone"}},
    }
    with pytest.raises(DataError):
        train(make_config(trained_run, data=gone), fresh=True)
    assert files(trained_run) == before


@pytest.mark.parametrize("damage", [cut_short, change_a_byte, empty], ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_warning(
    step: str,
    train: Callable[..., Path],
    damage: Callable[[Path], None],
    make_config: Callable[..., Config],
    supernets: Path,
    trained_run: Path,
    cut_at: Callable[..., Any],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config(trained_run, **{step: {"checkpoint_every": 1}})
    with cut_at(3):
        train(config, fresh=True)
    third, second = checkpoints(trained_run / step)
    damage(third)
    with caplog.at_level(logging.INFO):
        path = train(config)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{third}: damaged (its content does not hash to its name); taking the one before"
    ]
    assert f"resuming at step 2 of 4 from {second}" in caplog.text
    assert differing(state_of(supernets / step / "supernet.pt"), state_of(path)) == []


def test_a_training_of_which_every_checkpoint_is_damaged_is_not_started_over_in_silence(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], cut_at: Callable[..., Any]
) -> None:
    with cut_at(2):
        train(scratch())
    for checkpoint in checkpoints(scratch().run_dir / step):
        cut_short(checkpoint)
    with pytest.raises(CheckpointError, match=rf"{step}/checkpoints: every checkpoint in it is .*--fresh"):
        train(scratch())
    assert train(scratch(), fresh=True).exists()


def test_the_newest_checkpoints_are_kept_and_leftovers_of_a_kill_are_cleared(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], cut_at: Callable[..., Any]
) -> None:
    config = scratch(**{step: {"steps": 8, "checkpoint_every": 1, "keep_checkpoints": 3}})
    folder = config.run_dir / step / "checkpoints"
    with cut_at(6):
        train(config)
    assert [file.name[:13] for file in checkpoints(folder.parent)] == [f"step_0000000{n}" for n in (6, 5, 4)]
    (folder / ".unnamed.ckpt.4711.tmp").write_bytes(b"torn")
    (folder / "unnamed.ckpt").write_bytes(b"whole, and killed before it got its name")
    with cut_at(7):
        train(config)
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        file.name for file in checkpoints(folder.parent)
    )
    assert [file.name[:13] for file in checkpoints(folder.parent)] == [f"step_0000000{n}" for n in (7, 6, 5)]
    train(config)
    assert not folder.exists()


def test_the_supernet_of_a_search_is_that_of_its_task(
    supernets: Path, make_config: Callable[..., Config]
) -> None:
    assert supernet_weights(make_config(supernets)) == supernets / "finetune/supernet.pt"
    classification = make_config(supernets, evaluation={"task": "classification"})
    assert supernet_weights(classification) == supernets / "pretrain/supernet.pt"


def test_a_trained_supernet_does_without_the_published_weights_that_it_started_from(
    supernets: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    gone = {"init": "imagenet", "weights": str(tmp_path / "gone.pth")}
    config = make_config(supernets, space={"name": "lite0"}, finetune=gone)
    assert supernet_weights(config) == supernets / "finetune/supernet.pt"
    assert open_task(config).checkpoint == supernets / "finetune/supernet.pt"
    with pytest.raises(CheckpointError, match=r"gone\.pth: there is no such file"):
        finetune_run(config)


def test_a_supernet_that_is_not_trained_yet_says_which_step_to_run(
    trained_run: Path, make_config: Callable[..., Config]
) -> None:
    for folder, task in (("finetune", "detection"), ("pretrain", "classification")):
        shutil.rmtree(trained_run / folder)
        with pytest.raises(
            CheckpointError, match=rf"{folder}/supernet\.pt: there is no .*run `detnas {folder}`"
        ):
            supernet_weights(make_config(trained_run, evaluation={"task": task}))


def test_a_run_needs_its_section_of_the_data(make_config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.classification"):
        pretrain_run(make_config(tmp_path, data={"classification": None}))
    with pytest.raises(ConfigError, match=r"data\.detection"):
        finetune_run(make_config(tmp_path, data={"detection": None}))


def test_a_training_goes_to_the_run_unless_a_folder_of_its_own_is_given(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    inside = make_config(tmp_path / "run")
    assert pretrain_run(inside).folder == tmp_path / "run/pretrain"
    assert finetune_run(inside).folder == tmp_path / "run/finetune"
    shared = make_config(
        tmp_path / "run", pretrain_dir=str(tmp_path / "shared"), finetune_dir=str(tmp_path / "tuned")
    )
    assert pretrain_run(shared).folder == tmp_path / "shared"
    assert finetune_run(shared).folder == tmp_path / "tuned"
    assert pretrain_run(shared).fingerprint == pretrain_run(inside).fingerprint


def test_experiments_share_a_pretraining(
    trained_run: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    shared = trained_run / "pretrain"
    before = files(shared)
    config = make_config(tmp_path / "other", pretrain_dir=str(shared), detector={"name": "retinanet"})
    assert TRAININGS["pretrain"](config) == shared / "supernet.pt"
    assert TRAININGS["finetune"](config) == tmp_path / "other/finetune/supernet.pt"
    assert files(shared) == before
    assert not (tmp_path / "other/pretrain").exists()
    assert supernet_weights(config) == tmp_path / "other/finetune/supernet.pt"


def test_of_several_processes_the_main_one_alone_claims_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/old").touch()
    run = TrainingRun(tmp_path / "run", "0123456789abcdef")
    with run.claimed(fresh=True, world=World(rank=1, size=2)):
        pass
    assert set(files(tmp_path / "run")) == {"old"}
    with run.claimed(fresh=True, world=World(rank=0, size=2)):
        assert set(files(tmp_path / "run")) == {"training.json"}


HOLD = """
import sys, time
from pathlib import Path
from detnas_nni.util.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
assert lock.acquire()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def held(folder: Path, seconds: float) -> Iterator[None]:
    """Another process that trains in a folder for so long."""
    arguments = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        yield
        other.kill()


def test_a_second_training_in_a_folder_is_refused_and_touches_nothing(
    step: str,
    train: Callable[..., Path],
    trained_run: Path,
    make_config: Callable[..., Config],
    monkeypatch: Any,
) -> None:
    before = files(trained_run / step)
    monkeypatch.setattr("detnas_nni.training.runs._PATIENCE", 0.5)
    with held(trained_run / step, 60), pytest.raises(TrainingRunsError, match=rf"{step}: another process"):
        train(make_config(trained_run, **{step: OTHER[step]}), fresh=True)
    assert files(trained_run / step) == before


def test_a_training_that_saves_itself_at_its_end_is_waited_for(
    step: str, train: Callable[..., Path], scratch: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = scratch()
    with held(config.run_dir / step, 2), caplog.at_level(logging.INFO):
        assert train(config).exists()
    assert f"{step}: another process trains here; waiting for it to end" in caplog.text


def test_a_fingerprint_depends_on_whatever_counts_besides_the_config(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path)
    prints = [
        config.fingerprint("seed", "space"),
        config.fingerprint("seed", "space", ops=(0, 1)),
        config.fingerprint("seed", "space", ops=(1, 0)),
        config.fingerprint("seed", "space", ops=(0, 1), start="0123456789abcdef"),
        config.fingerprint("seed", "space", data=config.data.detection),
        config.fingerprint("seed", "space", data=config.data.classification),
    ]
    assert len(set(prints)) == len(prints)
    assert config.fingerprint("seed", "space", start=None, ops=(0, 1)) == config.fingerprint(
        "space", "seed", ops=(0, 1), start=None
    )


def test_a_training_on_part_of_the_images_is_another(
    step: str, train: Callable[..., Path], trained_run: Path, make_config: Callable[..., Config]
) -> None:
    with pytest.raises(CheckpointError, match=rf"{step}/supernet\.pt: of another config"):
        train(make_config(trained_run, data={"max_images": 20}))
