"""Random architectures to be trained one by one: by the seed, within the limits, none twice."""

from pathlib import Path

import pytest

from detnas_nni.architecture import Architecture, read_document
from detnas_nni.cost.table import cost_table
from detnas_nni.errors import ConstraintError, UsageError
from detnas_nni.search.best import sample
from tests.search.searching import limit_for


@pytest.fixture
def config(make_config, tmp_path):
    """config(…): of a run that holds nothing."""
    return lambda **sections: make_config(tmp_path / "run", **sections)


def drawn(paths: list[Path]) -> list[tuple[int, ...]]:
    return [Architecture.from_json(path).ops for path in paths]


def test_so_many_different_architectures_are_written(config, tmp_path):
    paths = sample(config(), 12)
    assert paths == [tmp_path / "run/samples" / f"random_{number:02}.json" for number in range(12)]
    assert len(set(drawn(paths))) == 12
    assert all(Architecture.from_json(path).space == "tiny" for path in paths)


def test_a_file_says_what_it_costs_and_where_it_comes_from(config):
    settings = {"seed": 7, "constraint": {"resolution": 96}}
    (path,) = sample(config(search=settings), 1)
    document = read_document(path)
    cost = cost_table("tiny", 96).cost(document["ops"])
    assert document["cost"] == {"macs": cost.macs, "params": cost.params, "resolution": 96}
    assert document["provenance"] == {"origin": "random", "seed": 7}
    assert document["metrics"] == {}


def test_the_seed_says_which(config):
    first = drawn(sample(config(), 5))
    assert drawn(sample(config(), 5)) == first
    assert drawn(sample(config(seed=1), 5)) != first
    # The search's seed goes before the main one.
    assert drawn(sample(config(seed=1, search={"seed": config().seed}), 5)) == first


def test_more_of_them_begin_with_the_same(config):
    few = drawn(sample(config(), 3))
    assert drawn(sample(config(), 8))[:3] == few


def test_all_are_within_the_limits(config):
    limit = limit_for(1000)
    paths = sample(config(search={"constraint": {"max_macs": limit}}), 50)
    assert all(cost_table("tiny").cost(ops).macs <= limit for ops in drawn(paths))


def test_every_block_gets_every_candidate(config):
    for ops in zip(*drawn(sample(config(), 60)), strict=True):
        assert set(ops) == {0, 1, 2, 3}


def test_more_than_there_are_is_an_error_and_writes_none(config, tmp_path):
    limit = limit_for(3)
    small = config(search={"constraint": {"max_macs": limit}})
    enough = [ops for ops in drawn(sample(small, 3)) if cost_table("tiny").cost(ops).macs <= limit]
    assert len(set(enough)) == 3
    before = sorted((tmp_path / "run/samples").iterdir())
    with pytest.raises(ConstraintError, match=rf"1000 random .* tiny has only \d+ with MACs <= {limit:,}$"):
        sample(small, 1000)
    assert sorted((tmp_path / "run/samples").iterdir()) == before


def test_limits_that_nothing_keeps_are_an_error(config, tmp_path):
    with pytest.raises(ConstraintError, match="meets MACs <= 1: the lowest MACs are"):
        sample(config(search={"constraint": {"max_macs": 1}}), 1)
    assert not (tmp_path / "run").exists()


def test_of_a_fixed_net_there_is_nothing_to_draw(config):
    with pytest.raises(UsageError, match=r"space\.name is resnet50, a fixed net.*published/resnet50\.json"):
        sample(config(space={"name": "resnet50"}), 1)
