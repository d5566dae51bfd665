"""A space, a strategy and a detector of one's own: the examples of docs/extending.md, run as they stand."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.strategy import Random as NNIRandom

from detnas_nni.architecture import read_document
from detnas_nni.config import Config
from detnas_nni.errors import CheckpointError, ConfigError, ConstraintError
from detnas_nni.finished.retrain import retrain
from detnas_nni.models import DetectorSpace
from detnas_nni.search.evaluator import DetNASEvaluator
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.session import CandidateEvaluation, SearchSession, search_in_process
from detnas_nni.supernet.steps import finetune
from detnas_nni.training.weights import load_weights
from search_spaces import SpaceError, build_trunk, layout

PAGE = Path(__file__).parents[1] / "docs/extending.md"
EXAMPLES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
SETTINGS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]

# Faulty parts, to see what is said of them.
FAULTY = """
from nni.nas.nn.pytorch import LayerChoice
from nni.nas.strategy import Random
from torch import nn
from torchvision.models.detection import RetinaNet

number = 3

def no_strategy(proposer, search):
    return "random"

def nni_random(proposer, search):
    return Random()

def no_detector(trunk, num_classes, settings):
    return "retinanet"

def elsewhere(trunk, num_classes, settings):
    return nn.ModuleDict({"trunk": trunk})

def with_a_choice(trunk, num_classes, settings):
    detector = nn.Module()
    detector.backbone = nn.ModuleDict({"trunk": trunk})
    detector.head = LayerChoice([nn.Identity(), nn.Identity()], label="head")
    return detector
"""


@pytest.fixture(autouse=True)
def on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples, as files in a folder on the path."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in {**EXAMPLES, "faulty.py": FAULTY}.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    yield
    for name in ("faulty", *(Path(name).stem for name in EXAMPLES)):
        sys.modules.pop(name, None)


@pytest.fixture
def make(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    def make(**sections: Any) -> Config:
        return make_config(tmp_path / "run", **sections)

    return make


def setting(section: str, module: str = "") -> dict[str, Any]:
    """The section of an example, of the one that names the module, as the page gives it."""
    [found] = [block[section] for block in SETTINGS if section in block and module in str(block[section])]
    return found


def searched(config: Config) -> list[tuple[int, ...]]:
    """Search to the end; what was evaluated, none of it a failure."""
    best = read_document(search_in_process(config))
    journal = Journal(journal_path(config.search_dir))
    assert journal.errors == [] and len(journal) == config.search.evaluations
    assert best["metrics"]["default"] == max(entry.fitness for entry in journal.evaluations)
    return [entry.ops for entry in journal.evaluations]


def test_the_examples_are_short_and_the_page_says_how_to_name_them() -> None:
    assert list(EXAMPLES) == ["mobile_space.py", "resnet_space.py", "hill_climbing.py", "fcos_detector.py"]
    assert all(text.count("\n") < 60 for text in EXAMPLES.values())
    spaces = [setting("space", module)["name"] for module in ("mobile", "resnet")]
    named = [*spaces, setting("search")["strategy"], setting("detector")["name"]]
    assert [f"{name.partition(':')[0]}.py" for name in named] == list(EXAMPLES)


def test_a_space_is_trained_searched_and_retrained(make: Callable[..., Config]) -> None:
    config = make(
        space=setting("space", "mobile"), finetune={"init": "scratch"}, retrain={"init": "supernet"}
    )
    assert [len(choice.candidates) for choice in layout(config.space.name)] == [4] * 6
    finetune(config)
    assert load_weights(config.run_dir / "finetune/supernet.pt").info.space == "mobile_space:mobile"
    searched(config)
    [results] = retrain(config, [config.search_dir / "best_architecture.json"])
    assert 0 <= read_document(results)["detection"]["default"] <= 1


def test_a_trained_net_of_torchvision_is_searched_from_its_weights(make: Callable[..., Config]) -> None:
    """Here from random ones, which are to be had without a download."""
    space = setting("space", "resnet")
    assert space.pop("options") == {"pretrained": True}
    finetuning = {**setting("finetune"), "steps": 2, "lr": 1e-30, "weight_decay": 0.0}
    config = make(
        space=space,
        finetune=finetuning,
        retrain={**setting("retrain"), "finetune": {"steps": 1}},
        search={"population": 2, "generations": 1, "mutations": 0, "crossovers": 0},
    )
    assert [len(choice.candidates) for choice in layout(space["name"])] == [3, 3, 2, 3, 2, 3, 2, 3]
    trunk = load_weights(finetune(config)).trunk_state
    # The narrower candidate is made of the trained one, and nothing was put over it.
    kept, whole = (
        trunk[f"stages.c2.0.{name}.conv1.weight"].flatten(1).tolist() for name in ("narrower", "trained")
    )
    assert len(kept) == 32 and all(row in whole for row in kept)
    searched(config)
    [results] = retrain(config, [config.search_dir / "best_architecture.json"])
    assert 0 <= read_document(results)["detection"]["default"] <= 1


def test_a_strategy_searches_to_its_end_and_goes_on_where_it_stood(
    make: Callable[..., Config], trained_run: Path
) -> None:
    mine = {**setting("search"), "population": 4, "generations": 3}
    config = make(search=mine)
    first = searched(config)
    journal = journal_path(config.search_dir)
    origins = [entry.origin for entry in Journal(journal).evaluations]
    assert origins == ["random"] * 4 + ["neighbour"] * 8
    # One block differs from one that was there before.
    for number, ops in enumerate(first[4:], start=4):
        assert min(sum(a != b for a, b in zip(ops, other, strict=True)) for other in first[:number]) == 1
    journal.write_text("".join(line + "\n" for line in journal.read_text().splitlines()[:6]))
    assert searched(config) == first
    with pytest.raises(CheckpointError, match="holds a search with another config"):
        search_in_process(make(search={**mine, "strategy": "random"}))


def test_a_detector_is_trained_searched_and_told_from_others(make: Callable[..., Config]) -> None:
    mine = {**setting("detector"), "fpn_channels": 32}
    config = make(detector=mine, finetune={"init": "scratch"}, retrain={"init": "supernet"})
    finetune(config)
    assert load_weights(config.run_dir / "finetune/supernet.pt").info.kind == "fcos_detector:fcos"
    searched(config)
    [results] = retrain(config, [config.search_dir / "best_architecture.json"])
    assert 0 <= read_document(results)["detection"]["default"] <= 1
    with pytest.raises(
        CheckpointError, match="kind is 'fcos_detector:fcos', but the config says 'retinanet'"
    ):
        SearchSession(make(detector={**mine, "name": "retinanet"}, search={"name": "other"}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone:part", "search.strategy: cannot import 'gone' of 'gone:part' .*is it on PYTHONPATH"),
        ("faulty:gone", "search.strategy: the module 'faulty' has no callable 'gone'"),
        ("faulty:number", "search.strategy: the module 'faulty' has no callable 'number'"),
        ("faulty:no_strategy", "search.strategy: 'faulty:no_strategy' returned str, not an NNI Strategy"),
    ],
)
def test_a_strategy_that_is_none_is_named_and_leaves_no_folder(
    name: str, message: str, make: Callable[..., Config], trained_run: Path
) -> None:
    config = make(search={"strategy": name})
    with pytest.raises(ConfigError, match=message):
        SearchSession(config)
    assert not config.search_dir.exists()


def test_a_strategy_of_nnis_own_is_taken_and_held_to_the_constraint(
    make: Callable[..., Config], trained_run: Path
) -> None:
    """NNI's strategies know neither ops nor constraints nor an end."""
    limits = {"max_macs": 20_000_000}
    config = make(search={"strategy": "faulty:nni_random", "constraint": limits})
    with SearchSession(config) as session:
        assert isinstance(session.strategy, NNIRandom)
        evaluator = DetNASEvaluator(CandidateEvaluation(config))
        with pytest.raises(ConstraintError, match="which breaks MACs <= 20,000,000; propose through"):
            session.run(SequentialExecutionEngine(), evaluator)
        assert all(session.feasible.contains(entry.ops) for entry in session.journal.evaluations)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone:part", "detector.name: cannot import 'gone'"),
        ("faulty:no_detector", "detector.name: 'faulty:no_detector' gave str, no nn.Module"),
        ("faulty:elsewhere", "has to keep the trunk that it is given in `backbone.trunk`"),
        ("faulty:with_a_choice", "has a LayerChoice outside the trunk"),
    ],
)
def test_a_detector_that_is_none_is_named(name: str, message: str, make: Callable[..., Config]) -> None:
    config = make(detector={"name": name})
    with pytest.raises(ConfigError, match=message):
        DetectorSpace("tiny", 3, config.detector)


@pytest.mark.parametrize("name", ["fcos", "fcos_detector:", ":fcos", "a b:fcos", "a.b:f(x)", "../a:fcos"])
@pytest.mark.parametrize(("section", "key"), [("detector", "name"), ("search", "strategy")])
def test_a_name_that_can_be_none_is_refused_with_those_that_can(
    section: str, key: str, name: str, make: Callable[..., Config]
) -> None:
    with pytest.raises(ConfigError, match=rf"{section}.{key}: expected .*, or package.module:factory"):
        make(**{section: {key: name}})


def test_racing_is_refused_where_any_candidate_may_breed(make: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match="racing needs strategy detnas or random"):
        make(search={**setting("search"), "racing": 0.1})


def test_a_space_that_is_none_is_named() -> None:
    with pytest.raises(SpaceError, match="cannot import 'gone'"):
        build_trunk("gone:trunk")
