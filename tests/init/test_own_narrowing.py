"""The published net narrowed to a share of its MACs, and where `init` searches near it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cost.table import cost_table
from detnas_nni.init.derived import Derived, Machine
from detnas_nni.init.narrowing import HALF, narrowed, published_macs
from detnas_nni.init.plan import make_plan
from detnas_nni.init.pretraining import IMAGENET_SPACE, Pretraining
from detnas_nni.init.values import settings
from search_spaces import LITE
from tests.init.own_data import look_at


def macs(space: str, ops: tuple[int, ...]) -> int:
    return cost_table(space).cost(Architecture(space, ops)).macs


@pytest.mark.parametrize("space", LITE)
@pytest.mark.parametrize("share", [0.95, 0.75, 0.6])
def test_a_narrowed_net_is_the_published_one_with_as_few_halves_as_its_share_takes(
    space: str, share: float
) -> None:
    published = LITE[space].published_ops
    assert published_macs(space) == macs(space, published)
    limit = int(share * published_macs(space))
    ops = narrowed(space, limit)
    assert macs(space, ops) <= limit
    halved = [block for block, (new, old) in enumerate(zip(ops, published, strict=True)) if new != old]
    assert halved and all(ops[block] == HALF for block in halved)

    def saved(block: int) -> int:
        return macs(space, published) - macs(space, (*published[:block], HALF, *published[block + 1 :]))

    # Those that save most, and not one more than it takes.
    others = [block for block in range(len(ops)) if block not in halved]
    assert min(map(saved, halved)) >= max(map(saved, others))
    assert macs(space, ops) + min(map(saved, halved)) > limit


def test_a_limit_that_halves_cannot_reach_halves_every_block_and_the_nets_own_none() -> None:
    assert narrowed("lite0", 1) == (HALF,) * len(LITE["lite0"].published_ops)
    assert narrowed("lite0", published_macs("lite0")) == LITE["lite0"].published_ops


def test_minutes_on_a_cpu_are_spent_near_three_quarters_of_the_net_and_days_on_gpus_on_the_whole_space(
    shapes: Path,
) -> None:
    trained = Pretraining("imagenet", "asked for", space=IMAGENET_SPACE)
    derived, whole = Derived(look_at(shapes), Machine(cores=2), trained), published_macs(IMAGENET_SPACE)
    on_gpus = replace(derived, machine=Machine(cores=16, gpus=1, gpu_name="a GPU", gpu_memory=80.0))
    for plan, share in (
        (derived, 0.75),
        (replace(derived, share=0.5), 0.5),
        (on_gpus, None),
        (replace(derived, search=False), None),
    ):
        tree = settings(plan, plan.schedule(), {}, "run", None)
        limit = whole if share is None else int(share * whole)
        assert tree["search"]["constraint"]["max_macs"].value == limit
        for section in (tree["search"], tree["finetune"]):
            assert ("around" in section) is (share is not None)
            assert share is None or section["around"].value == narrowed(IMAGENET_SPACE, limit)


def test_few_images_leave_the_supernet_the_least_that_is_of_use(shapes: Path) -> None:
    trained = Pretraining("imagenet", "asked for", space=IMAGENET_SPACE)
    derived = Derived(look_at(shapes), Machine(cores=2), trained)
    schedule = derived.schedule()
    assert (schedule.finetune, schedule.retrain) == (100, 500)
    assert schedule.cut(0.0).finetune == 100
    on_gpus = replace(derived, machine=Machine(cores=16, gpus=1, gpu_name="a GPU", gpu_memory=80.0))
    schedule = on_gpus.schedule()
    assert schedule.finetune == (schedule.finetune + schedule.retrain) // 4


def test_the_published_net_alone_has_its_first_stages_frozen_where_images_are_few(shapes: Path) -> None:
    """And nothing else: a narrowed net has lost half of its first blocks' channels."""
    trained = Pretraining("imagenet", "asked for", space=IMAGENET_SPACE)
    search = Derived(look_at(shapes), Machine(cores=2), trained)
    assert len(search.found.train) < 150
    alone = replace(search, search=False)
    on_gpus = replace(alone, machine=Machine(cores=16, gpus=1, gpu_name="a GPU", gpu_memory=80.0))
    train = alone.found.train
    enough = replace(train, records=(train.records * 150)[:150])
    many = replace(alone, found=replace(alone.found, splits={**alone.found.splits, "train": enough}))
    for plan, stages in ((alone, 2), (search, None), (on_gpus, None), (many, None)):
        freeze = settings(plan, search.schedule(), {}, "run", None)["finetune"].get("freeze")
        assert (freeze and freeze.value) == stages

    def commands(plan: Derived) -> list[str]:
        lines = make_plan(plan, plan.schedule(), "e/detnas.yaml", "run", None, []).lines()
        found = re.findall(r"detnas retrain .*?--init imagenet[^`]*", "\n".join(lines))
        return [
            re.sub(r"detnas .*/(\w+)_net.json --init imagenet", r"\1", line).split("  ")[0] for line in found
        ]

    assert commands(search) == ["published --set finetune.freeze=2", "narrowed"]
    assert commands(alone) == ["published", "narrowed --set finetune.freeze=0"]
