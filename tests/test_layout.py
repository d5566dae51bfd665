"""The house stays as it is drawn: small root, no crumbs, one owner of file names, names that mean one thing.

The order of the rooms is import-linter's, in pyproject.toml.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import detnas_nni
from detnas_nni.config import run_folder

PACKAGE = Path(detnas_nni.__file__).parent
TESTS = Path(__file__).parent

MOST_IN_THE_ROOT = 6
SMALL = 60  # lines

EXTENSION_POINTS = {
    "detnas_nni.cli.__main__": "`python -m detnas_nni.cli`, as torchrun starts it",
    "detnas_nni.search.tuner": "search.yaml files name it",
}

# Of search_spaces, and of files by strangers in all rooms.
OF_NO_ROOM = {"search_spaces", "fuzz", "evidence"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def place(file: Path, node: ast.AST) -> str:
    """The offending line, as a compiler names it."""
    line = file.read_text(encoding="utf-8").splitlines()[node.lineno - 1].strip()
    return f"{file.relative_to(PACKAGE.parent)}:{node.lineno}: {line}"


def imported(module: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_root_holds_few_modules():
    assert len(found := sorted(file.name for file in PACKAGE.glob("*.py"))) <= MOST_IN_THE_ROOT, found


def test_a_small_module_has_two_users_or_is_a_documented_extension_point():
    users: dict[str, set[str]] = defaultdict(set)
    known = modules()
    for name, file in known.items():
        for target in imported(parsed(file)):
            users[target if target in known else target.rpartition(".")[0]].add(name)
    crumbs = [
        f"{file.relative_to(PACKAGE.parent)}: {lines} lines, used by {', '.join(users[name]) or 'nobody'}"
        for name, file in known.items()
        if file.name != "__init__.py"
        and (lines := len(file.read_text(encoding="utf-8").splitlines())) < SMALL
        and len(users[name]) < 2
        and name not in EXTENSION_POINTS
    ]
    assert not crumbs, "\n".join(crumbs)


def test_one_module_has_the_names_of_a_runs_files():
    names = {value for value in vars(run_folder).values() if isinstance(value, str) and "." in value}
    names = {name for name in names if Path(name).suffix in (".json", ".jsonl", ".pt", ".ckpt", ".html")}
    assert {"journal.jsonl", "supernet.pt", "results.json"} <= names
    owner = Path(run_folder.__file__)
    others = [
        place(file, node)
        for file in modules().values()
        if file != owner
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not others, "\n".join(others)


def test_no_two_classes_share_a_name():
    places: dict[str, list[str]] = defaultdict(list)
    for file in modules().values():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(place(file, node))
    shared = [line for lines in places.values() if len(lines) > 1 for line in lines]
    assert not shared, "\n".join(shared)


def test_tests_mirror_the_rooms():
    rooms = {
        file.parent.relative_to(PACKAGE) for file in PACKAGE.rglob("__init__.py") if file.parent != PACKAGE
    }
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py") if file.parent != TESTS}
    assert {str(folder) for folder in folders - rooms} == OF_NO_ROOM
    assert not rooms - folders, sorted(map(str, rooms - folders))


def test_test_files_have_names_of_their_own():
    """Without packages, pytest tells them apart by nothing else."""
    files: dict[str, list[str]] = defaultdict(list)
    for file in TESTS.rglob("test_*.py"):
        files[file.name].append(str(file.relative_to(TESTS)))
    shared = [names for names in files.values() if len(names) > 1]
    assert not shared, shared


def test_the_readmes_table_names_every_room_and_nothing_that_is_not_there():
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    [row] = re.findall(r"^\| `detnas_nni/` \|.*$", readme, re.MULTILINE)
    named = {name.rstrip("/") for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)} - {"detnas_nni"}
    assert not [name for name in named if not (PACKAGE / name).exists()]
    rooms = {str(file.parent.relative_to(PACKAGE)) for file in PACKAGE.rglob("__init__.py")} - {"."}
    alone = {file.name for file in PACKAGE.glob("*.py")} - {"__init__.py", "errors.py"}
    assert named == rooms | alone
