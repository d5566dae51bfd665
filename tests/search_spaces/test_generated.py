"""The files that are generated from the spaces are in step with them."""

import json
from pathlib import Path

import pytest

import search_spaces
from search_spaces import FIXED, SEARCHED, SpaceError, layout, search_space_json
from search_spaces.__main__ import generated, main

FOLDER = Path(search_spaces.__file__).parent


@pytest.fixture(scope="module")
def in_step() -> dict[str, str]:
    return generated()


def test_every_generated_file_is_in_step(in_step: dict[str, str]) -> None:
    assert set(in_step) == {*(f"{space}.json" for space in SEARCHED), "costs_224.json"}
    for name, text in in_step.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, f"{name}: run python -m search_spaces"


def test_every_built_in_space_has_its_costs_and_only_what_can_be_searched_a_search_space(
    in_step: dict[str, str],
) -> None:
    assert list(json.loads(in_step["costs_224.json"])) == [*SEARCHED, *FIXED]
    for space in FIXED:
        with pytest.raises(SpaceError, match=f"'{space}' is a fixed net.*can be searched: tiny, small"):
            search_space_json(space)


def test_check_names_the_files_that_are_not_in_step_and_a_second_call_mends_them(
    in_step: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The real texts, profiled once for the whole module.
    monkeypatch.setattr("search_spaces.__main__.generated", lambda: in_step)
    call = ["--folder", str(tmp_path)]
    assert main(call) == 0
    assert main(["--check", *call]) == 0
    (tmp_path / "large.json").write_text("{}")
    (tmp_path / "tiny.json").unlink()
    capsys.readouterr()
    assert main(["--check", *call]) == 1
    complaints = capsys.readouterr().err.splitlines()
    stale = [str(tmp_path / "tiny.json"), str(tmp_path / "large.json")]
    assert [line.split(" ")[0] for line in complaints] == stale
    assert not (tmp_path / "tiny.json").exists()
    assert main(call) == 0
    assert (tmp_path / "large.json").read_text() == in_step["large.json"]


def test_the_search_space_is_one_flat_choice_a_block_in_nnis_format() -> None:
    shipped = json.loads((FOLDER / "tiny.json").read_text())
    assert shipped == {
        choice.label: {"_type": "choice", "_value": list(choice.candidates)} for choice in layout("tiny")
    }
    assert shipped == search_space_json("tiny")


def test_the_space_of_a_trunk_of_ones_own_is_printed_for_nnictl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", "foreign:mobile"]) == 0
    assert json.loads(capsys.readouterr().out) == search_space_json("foreign:mobile")


@pytest.mark.parametrize("space", ["no_such_module:trunk", "resnet50"])
def test_a_space_that_cannot_be_built_or_searched_is_a_wrong_call(
    space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--space", space])
    assert exit_.value.code == 2
    assert space.split(":")[0] in capsys.readouterr().err
