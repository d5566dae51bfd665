"""The published net narrowed to a share of its MACs, and where `init` searches near it."""

from dataclasses import replace
from pathlib import Path

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cost.table import cost_table
from detnas_nni.init.derived import Derived, Machine
from detnas_nni.init.narrowing import HALF, narrowed
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
    ops, limit = narrowed(space, share)
    assert limit == int(share * macs(space, published))
    assert macs(space, ops) <= limit
    halved = [block for block, (new, old) in enumerate(zip(ops, published, strict=True)) if new != old]
    assert halved and all(ops[block] == HALF for block in halved)

    def saved(block: int) -> int:
        return macs(space, published) - macs(space, (*published[:block], HALF, *published[block + 1 :]))

    # Those that save most, and not one more than it takes.
    others = [block for block in range(len(ops)) if block not in halved]
    assert min(map(saved, halved)) >= max(map(saved, others))
    assert macs(space, ops) + min(map(saved, halved)) > limit


def test_a_share_that_halves_cannot_reach_halves_every_block_and_the_whole_share_none() -> None:
    assert narrowed("lite0", 0.3)[0] == (HALF,) * len(LITE["lite0"].published_ops)
    assert narrowed("lite0", 1.0)[0] == LITE["lite0"].published_ops


def test_minutes_on_a_cpu_are_spent_near_three_quarters_of_the_net_and_days_on_gpus_within_the_whole(
    shapes: Path,
) -> None:
    trained = Pretraining("imagenet", "asked for", space=IMAGENET_SPACE)
    derived = Derived(look_at(shapes), Machine(cores=2), trained)
    on_gpus = replace(derived, machine=Machine(cores=16, gpus=1, gpu_name="a GPU", gpu_memory=80.0))
    for plan, share, has_near_paths in (
        (derived, 0.75, True),
        (replace(derived, share=0.5), 0.5, True),
        (on_gpus, 1.0, False),
    ):
        tree = settings(plan, plan.schedule(), {}, "run", None)
        net, limit = narrowed(IMAGENET_SPACE, share)
        assert tree["search"]["around"].value == net
        assert tree["search"]["constraint"]["max_macs"].value == limit
        assert ("around" in tree["finetune"]) is has_near_paths
    assert (
        "around"
        not in settings(replace(derived, search=False), derived.schedule(), {}, "run", None)["finetune"]
    )
