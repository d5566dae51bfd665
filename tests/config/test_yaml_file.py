"""A YAML file may start from others: what experiments share is written once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from detnas_nni.config.reading import load_config, override_value, read_extended
from detnas_nni.errors import ConfigError

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("shared/base.yaml", text): the file, under a folder of this test's own."""

    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        read_extended(path)
    return str(raised.value)


def test_a_file_without_bases_is_what_stands_in_it(write: Write) -> None:
    assert read_extended(write("a.yaml", "seed: 1\ndata: {x: [1, 2]}")) == {"seed": 1, "data": {"x": [1, 2]}}


def test_mappings_are_merged_key_by_key_at_any_depth(write: Write) -> None:
    write("base.yaml", "data: {detection: {train: {images: a, annotations: b}, holdout: 5}}\nseed: 1")
    path = write("a.yaml", "extends: base.yaml\ndata: {detection: {train: {images: mine}}, more: 2}")
    assert read_extended(path) == {
        "data": {"detection": {"train": {"images": "mine", "annotations": "b"}, "holdout": 5}, "more": 2},
        "seed": 1,
    }


@pytest.mark.parametrize("value", ["[7]", "7", "null", "text", "[]"])
def test_what_is_no_mapping_is_replaced_as_a_whole(write: Write, value: str) -> None:
    write("base.yaml", "a: {x: 1, y: 2}\nb: [1, 2, 3]\nc: 4")
    path = write("a.yaml", f"extends: base.yaml\na: {value}\nb: {value}\nc: {value}")
    expected = yaml.safe_load(value)
    assert read_extended(path) == {"a": expected, "b": expected, "c": expected}


def test_a_mapping_replaces_what_was_none(write: Write) -> None:
    write("base.yaml", "a: null\nb: [1]")
    assert read_extended(write("a.yaml", "extends: base.yaml\na: {x: 1}\nb: {y: 2}")) == {
        "a": {"x": 1},
        "b": {"y": 2},
    }


def test_a_later_base_wins_over_an_earlier_one_and_the_file_over_both(write: Write) -> None:
    write("first.yaml", "a: 1\nb: 1\nc: 1")
    write("second.yaml", "b: 2\nc: 2")
    path = write("file.yaml", "extends: [first.yaml, second.yaml]\nc: 3")
    assert read_extended(path) == {"a": 1, "b": 2, "c": 3}


def test_a_base_may_extend_another_by_a_path_from_its_own_folder(write: Write) -> None:
    write("shared/deep/root.yaml", "a: 1\nb: 1")
    write("shared/middle.yaml", "extends: deep/root.yaml\nb: 2")
    assert read_extended(write("one/file.yaml", "extends: ../shared/middle.yaml\nc: 3")) == {
        "a": 1,
        "b": 2,
        "c": 3,
    }


def test_two_bases_may_extend_the_same_file(write: Write) -> None:
    write("root.yaml", "a: 0\nb: 0\nc: 0")
    write("left.yaml", "extends: root.yaml\na: 1")
    write("right.yaml", "extends: root.yaml\nb: 2")
    # The later one wins with what it has inherited, too.
    assert read_extended(write("file.yaml", "extends: [left.yaml, right.yaml]")) == {"a": 0, "b": 2, "c": 0}


def test_a_base_of_no_values_is_refused_by_name(write: Write) -> None:
    base = write("base.yaml", "# nothing yet\n")
    path = write("a.yaml", "extends: base.yaml\na: 1")
    assert refused(path) == f"{base}: expected a mapping of sections, got NoneType"


def test_a_circle_is_refused_with_the_file_that_closes_it(write: Write) -> None:
    path = write("a.yaml", "extends: shared/b.yaml\nx: 1")
    closing = write("shared/b.yaml", "extends: [../a.yaml]\ny: 2")
    assert refused(path) == f"{closing}: extends: ../a.yaml extends this file in turn; remove one of the two"


def test_a_file_that_extends_itself_is_refused(write: Write) -> None:
    path = write("a.yaml", "extends: ./a.yaml\nx: 1")
    assert f"{path}: extends: ./a.yaml extends this file" in refused(path)


def test_a_base_that_is_not_there_is_refused_with_where_it_was_looked_for(write: Write) -> None:
    path = write("one/a.yaml", "extends: ../gone.yaml\nx: 1")
    message = refused(path)
    assert message.startswith(
        f"{path}: extends: ../gone.yaml is not a file; the path starts at {path.parent}"
    )
    assert "\n" not in message


@pytest.mark.parametrize("value", ["3", "null", "{a: b}", "[a.yaml, 3]", "''", "[[a.yaml]]"])
def test_an_extends_of_a_wrong_type_is_refused_with_the_value(write: Write, value: str) -> None:
    path = write("a.yaml", f"extends: {value}\nx: 1")
    message = refused(path)
    assert message.startswith(f"{path}: extends: expected the path of a YAML file, or a list of such paths")
    assert message.endswith(f"got {yaml.safe_load(value)!r}")


def test_a_base_that_is_no_yaml_is_the_file_that_the_error_names(write: Write) -> None:
    base = write("base.yaml", "a: [")
    assert refused(write("a.yaml", "extends: base.yaml")).startswith(f"{base}: not valid YAML")


def test_mappings_that_hold_themselves_are_refused(write: Write) -> None:
    write("base.yaml", "a: &a {b: *a}")
    path = write("a.yaml", "extends: base.yaml\na: &a {b: *a}")
    assert refused(path) == f"{path}: a mapping contains itself through a YAML alias; write it out"


def test_overrides_come_last(write: Write) -> None:
    write("base.yaml", "run_dir: run\ndata: {}\nsearch: {population: 20, parents: 4}")
    path = write("a.yaml", "extends: base.yaml\nsearch: {population: 30}")
    config = load_config(path, ["search.population=40", "finetune.lr=1e-3"])
    assert (config.search.population, config.search.parents, config.finetune.lr) == (40, 4, 1e-3)


def test_relative_paths_of_a_base_start_at_the_file_that_is_read(write: Write, tmp_path: Path) -> None:
    write("shared/base.yaml", "run_dir: ../runs/x\ndata: {}")
    path = write("experiments/one/a.yaml", "extends: ../../shared/base.yaml")
    assert load_config(path).run_dir == tmp_path / "experiments/runs/x"


def test_a_wrong_value_of_a_base_is_told_under_the_file_that_is_read(write: Write) -> None:
    write("base.yaml", "run_dir: run\ndata: {}\nseed: -1\nserch: {}")
    path = write("a.yaml", "extends: base.yaml")
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    lines = str(raised.value).splitlines()
    assert lines[0].startswith(f"{path}: seed: Input should be greater than or equal to 0")
    assert lines[1].startswith(f"{path}: serch: unknown key; known here: ")


def test_a_misspelt_extends_is_told_that_there_is_one(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"extend: unknown key; known here: .*, extends$"):
        load_config(write("a.yaml", "run_dir: run\ndata: {}\nextend: base.yaml"))


def test_extends_has_its_place_at_the_top_alone(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"search\.extends: unknown key; known here: (?!.*extends)"):
        load_config(write("a.yaml", "run_dir: run\ndata: {}\nsearch: {extends: base.yaml}"))


def test_an_override_leaves_what_shares_a_mapping_by_an_alias(write: Write) -> None:
    values = read_extended(write("a.yaml", "train: &split {images: a, more: {x: 1}}\ntest: *split"))
    override_value(values, "train.images=b")
    override_value(values, "train.more.x=2")
    assert values == {
        "train": {"images": "b", "more": {"x": 2}},
        "test": {"images": "a", "more": {"x": 1}},
    }
