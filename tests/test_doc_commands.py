"""What README and docs tell a reader to type can be typed, and what they link to is there."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from nni.experiment.config import ExperimentConfig

from detnas_nni.cli import parser
from detnas_nni.config.reading import load_config
from docs import generate
from docs.generate import _anchor

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

# Folders that every reader has. What lies elsewhere is the reader's own, or comes from an earlier command.
OURS = ("experiments", "search_spaces", "detnas_nni", "benchmarks", "docs", "tests")
MINE = ("experiments/mine", "experiments/NAME")

# Programs that are not ours to check, and shell builtins.
OTHERS = ("ssh", "ss", "export", "tensorboard", "pip", "cd", "kubectl", "torchrun", "sbatch")

# Of detnas.
TAKES_A_FILE = ("--weights", "--arch", "--out")
WITHOUT_CONFIG = (
    "quickstart",
    "init",
    "data",
    "follow",
    "import-reference",
    "reproduce",
    "doctor",
    "count",
    "latency",
    "predict",
)

CHEAP = ("detnas count", "detnas reproduce --list", "python -m search_spaces --space small")


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line in a shell block, and of inline code that starts with one of ours."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found += [(page, line) for line in block.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        inline = (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))
        found += [
            (page, code)
            for code in inline
            if re.match(r"(detnas|nnictl|make|pytest|python(?= -m| benchmarks)) \S", code)
            and not re.search(r"…|COMMAND|NAME", code)
        ]
    split = [(page, shlex.split(line, comments=True)) for page, line in found]
    unique = dict.fromkeys((page.name, shlex.join(words)) for page, words in split if words)
    return list(unique)


NAMES = {words.split()[-1] for words, *_ in generate.commands()}
COMMANDS = commands()


def words_of(command: str) -> list[str]:
    """The words, without variables that are set for it and without what comes behind a `>`."""
    words = shlex.split(command)
    words = words[: words.index(">")] if ">" in words else words
    while re.match(r"\w+=", words[0]):
        words = words[1:]
    return words


def test_there_is_something_to_check() -> None:
    assert {page for page, _ in COMMANDS} >= {"README.md", "cli.md", "experiments.md", "security.md"}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_parses_and_names_files_that_are_there(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = words_of(command)
    assert program in ("detnas", "nnictl", "make", "python", "pytest", *OTHERS), command
    if program in OTHERS:
        return
    for word in arguments:
        is_ours = word.partition("/")[0] in OURS and "/" in word and not word.startswith(MINE)
        assert not is_ours or (ROOT / word).exists(), f"{word} is not there"
    if program == "detnas":
        check_detnas(arguments, monkeypatch)
    elif program == "nnictl":
        check_nnictl(arguments)
    elif program == "make":
        targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
        assert all(word in targets for word in arguments if "=" not in word)
    elif program == "python":
        check_python(arguments)


def check_detnas(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if arguments[-1] in ("--help", "--version"):
        arguments = arguments[:-1]
        assert not arguments or arguments[0] in parser().format_help()
        return
    # A command that is spoken of, without its arguments.
    if re.fullmatch(r"data (shapes|crops)|[a-z-]+", " ".join(arguments)):
        assert arguments[-1] in (*NAMES, "data")
        return
    # A sentence leaves out what every call has, as in `detnas evaluate --weights`.
    value = ["FILE"] if arguments[-1] in TAKES_A_FILE else []
    has_config = {"-c", "--config"} & set(arguments) or arguments[0] in WITHOUT_CONFIG
    config = [] if has_config else ["-c", "experiments/quickstart/detnas.yaml"]
    options = parser().parse_args([*arguments, *value, *config])
    assert callable(options.action)
    config = getattr(options, "config", None)
    if config is not None and config.startswith(OURS) and not config.startswith(MINE):
        for name in ("IMAGENET", "COCO", "VOC", "DETNAS_REAL_DATA"):
            monkeypatch.setenv(name, "/data")
        load_config(ROOT / config, getattr(options, "overrides", []))


def check_nnictl(arguments: list[str]) -> None:
    assert arguments[0] in ("create", "resume", "view", "stop", "experiment", "trial", "update")
    if "--config" in arguments[:-1]:
        file = arguments[arguments.index("--config") + 1]
        if "/" in file and not file.startswith(MINE):
            config, folder = ExperimentConfig.load(ROOT / file), (ROOT / file).parent
            assert (folder / config.search_space_file).is_file()
            assert config.trial_command.startswith("detnas trial -c ")


def check_python(arguments: list[str]) -> None:
    if arguments[:2] == ["-m", "pip"]:
        return
    if arguments[0] == "-m":
        name, flags = arguments[1], arguments[2:]
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"there is no module {name}"
        if spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
        source = Path(spec.origin).read_text()
    else:
        source, flags = (ROOT / arguments[0]).read_text(), arguments[1:]
    for flag in flags:
        assert not flag.startswith("--") or f'"{flag}"' in source, f"{arguments[0]} has no {flag}"


@pytest.mark.parametrize(
    "command", [command for _, command in COMMANDS if command.startswith(CHEAP) and "…" not in command]
)
def test_what_is_cheap_runs(command: str) -> None:
    program, *arguments = words_of(command)
    start = ["-m", "detnas_nni.cli"] if program == "detnas" else []
    ended = subprocess.run(
        [sys.executable, *start, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor and there.suffix == ".jsonl":
            number = int(anchor.removeprefix("L"))
            assert number <= len(there.read_text(encoding="utf-8").splitlines())
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [_anchor(heading) for heading in headings], f"{page.name} links to {target}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text()
    for page in PAGES[1:]:
        assert page.name == "index.md" or f"[{page.name}]({page.name})" in index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_in_prose_are_there(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(OURS)})/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not name.startswith(MINE) and not (ROOT / name).exists()] == []
