"""The walks through the code name what is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

STEPS = re.findall(r"^\| (\d+) \| `(\S+\.py): ([\w.]+)` \|", (ROOT / "docs/developing.md").read_text(), re.M)


@pytest.mark.parametrize(("module", "name"), [step[1:] for step in STEPS])
def test_every_step_of_a_walk_is_defined_where_it_says(module: str, name: str) -> None:
    node: ast.AST = ast.parse((ROOT / "detnas_nni" / module).read_text())
    for part in name.split("."):
        node = next(child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part)


def test_both_walks_take_about_twenty_steps() -> None:
    numbers = [int(number) for number, _, _ in STEPS]
    assert numbers == [*range(1, 21), *range(1, 6), *range(1, 22)]
