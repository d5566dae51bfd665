"""NNI's servers kept on this machine, whoever starts them: `detnas doctor --close-nni` and `--open-nni`.

NNI's manager is a Node.js process that nnictl starts, and Node.js loads what the environment variable
NODE_OPTIONS names. So a line in a `.pth` file in site-packages, which every Python of the environment runs at
startup, adds `loopback.js` to that variable: plain `nnictl create`, `resume` and `view`, and NNI's Python
API, pass it on to their manager. The script is copied beside that file, so that both survive a move of this
package; without the script the manager does not start, rather than listen to everybody.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from detnas_nni.errors import DetNASError
from detnas_nni.util.files import write_text

SCRIPT = Path(__file__).with_name("loopback.js")
"""The script for Node.js to load."""

_NAME = "detnas_nni_loopback"


def node_option(script: Path = SCRIPT) -> str:
    """What NODE_OPTIONS has to contain for Node.js to load the script."""
    quoted = str(script).replace("\\", "\\\\").replace('"', '\\"')
    return f'--require "{quoted}"'


def site_packages() -> Path:
    """Where this environment's Python looks for packages and for `.pth` files."""
    return Path(sysconfig.get_path("purelib"))


def close_nni(folder: Path | None = None) -> Path:
    """Make every NNI server of this environment listen on 127.0.0.1 only, from its next start on.

    Args:
        folder: the environment's site-packages; by default this Python's.

    Returns:
        The `.pth` file.

    Raises:
        DetNASError: the folder cannot be written to.
    """
    pth, script = _files(folder)
    try:
        write_text(script, SCRIPT.read_text(encoding="utf-8"))
        write_text(pth, _pth(script))
    except OSError as error:
        raise DetNASError(
            f"{pth}: cannot be written ({error.strerror}); install this package into a virtual environment "
            f"of your own, or set NODE_OPTIONS='{node_option()}' before each nnictl"
        ) from None
    return pth


def open_nni(folder: Path | None = None) -> bool:
    """Undo `close_nni`; returns whether there was anything to undo. A running server stays as it is.

    Raises:
        DetNASError: the files cannot be removed.
    """
    found = [file for file in _files(folder) if file.exists()]
    try:
        for file in found:  # the .pth file first: it names the script
            file.unlink()
    except OSError as error:
        raise DetNASError(f"{error.filename}: cannot be removed ({error.strerror})") from None
    return bool(found)


def is_installed(folder: Path | None = None) -> bool:
    """Whether both files are there as `close_nni` of this version writes them."""
    pth, script = _files(folder)
    try:
        return pth.read_text(encoding="utf-8") == _pth(script) and script.read_bytes() == SCRIPT.read_bytes()
    except (OSError, ValueError):
        return False


def _files(folder: Path | None) -> tuple[Path, Path]:
    folder = folder or site_packages()
    return folder / f"{_NAME}.pth", folder / f"{_NAME}.js"


def _pth(script: Path) -> str:
    # Python runs a line that begins with `import` in the middle of its own startup, so it must not cost time
    # or raise; and ASCII only, since the file is read in the locale's encoding.
    return (
        "# By `detnas doctor --close-nni`: NNI's servers listen on 127.0.0.1 alone (--open-nni undoes it).\n"
        "import os; options = os.environ.get('NODE_OPTIONS', ''); "
        f"option = {node_option(script)!a}; "
        "option in options or os.environ.update(NODE_OPTIONS=f'{option} {options}'.rstrip())\n"
    )
