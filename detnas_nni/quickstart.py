"""`detnas quickstart`: the whole pipeline on generated images, on a CPU, each step a command that it prints.

The experiment is `experiments/quickstart` in the working folder, written there if it is missing.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from detnas_nni.config.shipped import FOLDER, lay_out
from detnas_nni.reproduce import StepError
from detnas_nni.search.nnictl.loopback import node_option

_NAME = "quickstart"
_CONFIG = FOLDER / _NAME / "detnas.yaml"
_DATA = Path("runs", _NAME, "data")


def quickstart(port: int | None = None, threads: int | None = None) -> None:
    """Run the pipeline in the working folder. Finished steps are left as they are.

    The same number of threads gives the same results again.

    Args:
        port: of NNI's web UI; a free one by default.
        threads: per training, as `hardware.threads`; by default the config's.

    Raises:
        StepError: a step has failed; later ones were not started.
    """
    lay_out(Path(), _NAME)
    port = port or _free_port()
    config = ["-c", str(_CONFIG)]
    # A training has the machine to itself; the search's trials share it, with the config's one thread each.
    training = config if threads is None else [*config, f"--set=hardware.threads={threads}"]
    search = ["--config", str(_CONFIG.with_name("search.yaml")), "--port", str(port)]
    _step(
        "1/5 Draw images of shapes, for classification and for detection",
        ["detnas", "data", "shapes", "--out", str(_DATA)],
    )
    _step("2/5 Train the supernet as a classifier", ["detnas", "pretrain", *training])
    _step("3/5 Continue training it in the detector", ["detnas", "finetune", *training])
    _step("4/5 Search: trials in NNI's training service", ["nnictl", "create", *search])
    _step(
        "    Watch the search; the web UI is open until it ends",
        ["detnas", "follow", "--port", str(port), "--stop"],
    )
    _step("5/5 The best architecture", ["detnas", "export", *config])


def _step(title: str, command: Sequence[str]) -> None:
    """Run a command of this environment, whatever is on the path."""
    print(f"\n== {title}\n   $ {shlex.join(command)}", flush=True)
    bin_folder = Path(sys.executable).parent
    program, *arguments = command
    # -P: this folder has a search_spaces, which an editable install's module of that name would lose to.
    start = (
        [sys.executable, "-P", "-m", "detnas_nni.cli"] if program == "detnas" else [str(bin_folder / program)]
    )
    env = {
        **os.environ,
        # The trials are started as `detnas trial`.
        "PATH": os.pathsep.join([str(bin_folder), os.environ.get("PATH", os.defpath)]),
        # NNI's server listens on every interface; this limits it to 127.0.0.1, even in an environment that
        # was not closed by `detnas doctor --close-nni` (docs/security.md).
        "NODE_OPTIONS": " ".join([node_option(), os.environ.get("NODE_OPTIONS", "")]).rstrip(),
        # On a busy machine threads that spin while they wait for one without a core slow a step tenfold.
        "OMP_WAIT_POLICY": "PASSIVE",
        # nnictl imports pkg_resources, which warns at each call that it is deprecated.
        "PYTHONWARNINGS": "ignore:pkg_resources is deprecated:UserWarning",
    }
    status = subprocess.run([*start, *arguments], env=env, check=False).returncode
    if status:
        raise StepError(arguments[0] if program == "detnas" else shlex.join(command[:2]), _CONFIG, status)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
