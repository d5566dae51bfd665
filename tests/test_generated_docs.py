"""The reference pages: in step with the code, complete, and right about defaults."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import yaml

from detnas_nni.cli import data, experiments, measuring, nets, searches, trainings
from detnas_nni.config import Section
from docs import generate

DOCS = Path(generate.__file__).parent
SECTIONS = dict(generate.sections())


def test_the_pages_are_in_step_with_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", generate.generated())
def test_a_page_that_is_out_of_step_is_named_and_written_anew(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for page in generate.generated():
        shutil.copy(DOCS / page, tmp_path)
    page = tmp_path / name
    page.write_text(page.read_text().replace("which", "that"))
    assert generate.main(["--check", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (f"{page} is out of step with the code; run: python -m docs.generate\n")
    assert generate.main(["--folder", str(tmp_path)]) == 0
    assert page.read_bytes() == (DOCS / name).read_bytes()


@pytest.mark.parametrize("path", SECTIONS)
def test_every_key_stands_in_its_section_with_meaning_and_default(path: str) -> None:
    section = SECTIONS[path]
    title = f"\n## {generate._title(path, section)}\n"
    text = generate.generated()["config.md"]
    assert text.count(title) == 1
    rows = [line for line in text.split(title)[1].split("\n## ")[0].splitlines() if line.startswith("| `")]
    assert len(rows) == len(section.model_fields)
    for row, (name, field) in zip(rows, section.model_fields.items(), strict=True):
        key, meaning, kind, default = (
            cell.strip() for cell in row.strip("|").replace("\\|", "/").split(" | ")
        )
        assert key == f"`{name}`" and kind
        assert meaning == " ".join(field.description.split()).replace("|", "/")
        if field.is_required():
            assert default == "**required**"
        elif isinstance(field.default, Section):
            assert default == ""
        else:
            value = yaml.safe_load(default.strip("`"))
            expected = list(field.default) if isinstance(field.default, tuple) else field.default
            assert value == (pytest.approx(expected, abs=1e-4) if name == "warmup_factor" else expected)
            assert type(value) is type(expected)


def test_every_section_can_be_reached_by_a_link() -> None:
    text = generate.generated()["config.md"]
    for path, section in SECTIONS.items():
        assert not path or f"(#{generate._anchor(generate._title(path, section))})" in text


def test_every_command_is_there_with_its_arguments_and_an_example() -> None:
    text = generate.generated()["cli.md"]
    assert [words.split()[-1] for words, _, _ in generate.commands()] == text_order(text)
    assert {words.split()[0] for words, _, _ in generate.commands()} == added()
    for words, _, command in generate.commands():
        part = text.split(f"\n## detnas {words}: ")[1].split("\n## ")[0]
        assert f"\n```sh\ndetnas {words} " in part
        for action in command._actions:
            if "--help" not in action.option_strings:
                name = (action.option_strings or [action.metavar])[0]
                is_there = f"\n| `{name}" in part
                assert is_there == (action.help != argparse.SUPPRESS)
        assert "SUPPRESS" not in part and "('" not in part


def added() -> set[str]:
    """What the groups of commands can add to the parser."""
    functions = [
        f for group in (data, experiments, measuring, nets, searches, trainings) for f in vars(group).items()
    ]
    return {
        name.removeprefix("add_").replace("_", "-")
        for name, value in functions
        if name.startswith("add_") and value.__module__ != "detnas_nni.cli.arguments"
    }


def text_order(text: str) -> list[str]:
    """The last word of each command, as the page has them."""
    headings = [line for line in text.splitlines() if line.startswith("## detnas ")]
    return [heading.partition(":")[0].split()[-1] for heading in headings]
