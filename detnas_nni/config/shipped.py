"""The experiments that come with the package, copied to the user's folder as they are in the repository.

In a checkout they are its folder `experiments`; an installed package contains a copy of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from detnas_nni.util.files import write_text

FOLDER = Path("experiments")
"""Where they are, relative to the working folder."""

_PACKAGE = Path(__file__).parents[1]
_ROOT = _PACKAGE.parent  # of a checkout, or site-packages; both contain search_spaces

# What an experiment's files refer to outside `experiments`, other than results of a run.
_SPACE_FILE = re.compile(r"\.\./\.\./(search_spaces/[\w./-]+\.json)")


def shipped_experiments() -> Path:
    """The folder of the experiments that come with the package."""
    checkout = _ROOT / FOLDER
    return checkout if (_ROOT / "pyproject.toml").is_file() else _PACKAGE / FOLDER


def lay_out(into: Path, names: str = "*") -> list[Path]:
    """Copy shipped experiments to `experiments` in a folder, and the search-space files that they name.

    A file that exists is left as it is, even if it differs.

    Args:
        into: the folder to work in.
        names: a pattern of the experiments' names.

    Returns:
        The files that were written.
    """
    shipped = shipped_experiments()
    written = []
    for file in sorted(file for folder in shipped.glob(names) for file in folder.rglob("*")):
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        written += _copy(text, into / FOLDER / file.relative_to(shipped))
        for name in _spaces(text):
            written += _copy((_ROOT / name).read_text(encoding="utf-8"), into / name)
    return written


def _spaces(text: str) -> Iterator[str]:
    yield from (name for name in dict.fromkeys(_SPACE_FILE.findall(text)) if (_ROOT / name).is_file())


def _copy(text: str, target: Path) -> list[Path]:
    if target.exists():
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, text)
    return [target]
