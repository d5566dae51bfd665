"""`make` finds a Python that NNI 3.0 runs on, or says why it has none."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD = "#!/bin/sh\nexit 1\n"  # what every check of a version ends with in a Python that it refuses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder to be the whole search path, with what a Makefile needs and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "make"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def make(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [path / "make", "--silent", "-C", ROOT, "python", *arguments]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False)


def put(path: Path, name: str, script: str | None = None) -> Path:
    """A Python of this version under a name, or what a script makes of it."""
    file = path / name
    file.write_text(script or f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    file.chmod(0o755)
    return file


def test_it_takes_python3_where_that_will_do(path: Path) -> None:
    python = put(path, "python3")
    put(path, "python3.13")
    assert make(path).stdout.strip() == str(python)


def test_it_takes_the_newest_that_will_do_where_python3_is_another_one(path: Path) -> None:
    put(path, "python3", OLD)
    put(path, "python3.11")
    python = put(path, "python3.12")
    assert make(path).stdout.strip() == str(python)


def test_it_takes_the_one_that_is_named(path: Path) -> None:
    put(path, "python3")
    python = put(path, "mine")
    assert make(path, f"PYTHON={python}").stdout.strip() == str(python)


def test_it_says_what_it_looked_for_and_why_3_14_is_none(path: Path) -> None:
    put(path, "python3", OLD)
    done = make(path)
    assert done.returncode != 0 and done.stdout == ""
    assert "3.11, 3.12 or 3.13 is needed" in done.stderr
    assert "3.14 cannot run NNI 3.0" in done.stderr and "make PYTHON=" in done.stderr


@pytest.mark.parametrize(
    ("version", "runs"),
    [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), True), ((3, 14), False)],
)
def test_its_versions_are_the_packages(version: tuple[int, int], runs: bool, path: Path) -> None:
    """The line that make asks a Python, asked of each version."""
    program = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    put(path, "python3", f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$2"\n')
    assert (make(path).returncode == 0) is runs
