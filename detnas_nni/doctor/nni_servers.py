"""NNI's servers: who could reach them, which are running, and whether trials swap parameters."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from detnas_nni.doctor.finding import Finding, ask, pip_install
from detnas_nni.doctor.sockets import arguments, family, is_local, listeners, owner
from detnas_nni.search.nnictl.loopback import is_installed

VERIFIED_NNI = "3.0"
"""The version in whose local service `search/nnictl/trial.py` was seen to keep parameters from swapping."""

_NNI = f"nni=={VERIFIED_NNI}"
_CLOSE = "detnas doctor --close-nni"
_EXPERIMENTS = "NNI's experiments"
_GPUS = Path("/proc/driver/nvidia/gpus")

# A server like the manager's, under a name that loopback.js takes for NNI's, started from a fresh Python: the
# check is what site-packages do to node's options.
_SERVER = """
const server = require('http').createServer();
server.listen(0, () => { console.log(server.address().address); process.exit(); });
"""
_RUN = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


def manager_address() -> list[Finding]:
    """The address that NNI's manager would listen on, found by briefly starting such a server."""
    name = "NNI's server"
    found = importlib.util.find_spec("nni_node")
    if found is None or not found.submodule_search_locations:
        return [Finding(name, "problem", "NNI's node is not installed", pip_install(_NNI))]
    node = Path(found.submodule_search_locations[0]) / "node"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "nni_node" / "main.js"
        script.parent.mkdir()
        script.write_text(_SERVER)
        answer = ask([sys.executable, "-c", _RUN, str(node), str(script)])
    if answer.status != 0 or not answer.lines:
        text = f"NNI's node does not start: {answer.error}"
        return [Finding(name, "problem", text, f"{pip_install('--force-reinstall', _NNI)} && {_CLOSE}")]
    address = answer.lines[-1]
    if not is_local(address):
        text = f"would listen on every interface ({address}), without a password"
        return [Finding(name, "warning", text, _CLOSE)]
    how = "by a line in site-packages" if is_installed() else "as NODE_OPTIONS says"
    return [Finding(name, "ok", f"listens only on {address}, {how}")]


def gpu_trials(folder: Path, gpus: Path = _GPUS) -> list[Finding]:
    """Whether experiment files next to a config want all GPUs for each trial: then NNI starts none.

    Args:
        folder: the config's.
        gpus: has an entry for each of this machine's GPUs.
    """
    count = len(list(gpus.iterdir())) if gpus.is_dir() else 0
    findings = []
    for file, values, service in _experiment_files(folder):
        asked = values.get("trialGpuNumber") or 0
        if service.get("platform") != "local" or not isinstance(asked, int) or not 0 < count <= asked:
            continue
        text = f"trialGpuNumber is {asked}, of {count} GPUs: NNI 3.0 needs one GPU more, and starts no trial"
        remedy = "remove trialGpuNumber, and set trialConcurrency to what fits on the GPU (docs/clusters.md)"
        findings.append(Finding(file.name, "problem", text, remedy))
    return findings


def _experiment_files(folder: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """The files for nnictl in a folder, with their values and those of their trainingService."""
    import yaml

    for file in sorted(folder.glob("search*.yaml")):
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        service = values.get("trainingService") if isinstance(values, dict) else None
        if isinstance(service, dict):
            yield file, values, service


def remote_trials(folder: Path) -> list[Finding]:
    """Whether experiment files next to a config send trials to machines that cannot reach the manager."""
    findings = []
    for file, values, service in _experiment_files(folder):
        if service.get("platform") != "remote":
            continue
        address = service.get("nniManagerIp", values.get("nniManagerIp"))
        text = f"trials on remote machines call NNI's manager back at {address or 'its address'}"
        if address in ("127.0.0.1", "localhost"):
            findings.append(Finding(file.name, "ok", f"{text}: an SSH tunnel has to lead here"))
            continue
        text += ", where it does not listen once access is closed"
        remedy = (
            "nniManagerIp: 127.0.0.1   # and ssh -N -R PORT:127.0.0.1:PORT USER@MACHINE (docs/security.md)"
        )
        findings.append(Finding(file.name, "warning", text, remedy))
    return findings


def swap_cure() -> list[Finding]:
    """Whether trials that run at the same time evaluate their own parameters."""
    name = "concurrent trials"
    try:
        version = metadata.version("nni")
    except metadata.PackageNotFoundError:
        return []
    if version == VERIFIED_NNI:
        text = f"NNI {version} swaps their parameters; each looks up its own (local service)"
        return [Finding(name, "ok", text)]
    text = f"may swap parameters: the fix was verified with NNI {VERIFIED_NNI}, this is {version}"
    return [Finding(name, "warning", text, f"{pip_install(_NNI)}   # or trialConcurrency: 1")]


@dataclass(frozen=True)
class Manager:
    """A node process that serves an experiment."""

    pid: int
    experiment: str
    port: str


def experiments(home: Path | None = None) -> list[Finding]:
    """This user's experiments: servers that were left behind, are lost, or can be reached by others.

    Args:
        home: the folder of NNI's list; by default `~/nni-experiments`.
    """
    import psutil

    listed = _listed((home or Path.home() / "nni-experiments") / ".experiment")
    running = [manager for manager in map(_manager, psutil.pids()) if manager is not None]
    findings = [finding for manager in running for finding in _examine(manager, listed)]
    served = {manager.experiment for manager in running}
    for experiment, entry in listed.items():
        if experiment not in served and entry.get("status") != "STOPPED":
            text = f"{experiment} is listed as {entry.get('status')}, but its server is gone"
            # This checks each process and corrects the list.
            findings.append(Finding(_EXPERIMENTS, "warning", text, "nnictl experiment list --all"))
    return findings or [Finding(_EXPERIMENTS, "ok", "none is left behind")]


def _examine(manager: Manager, listed: dict[str, Any]) -> list[Finding]:
    findings = []
    what = f"{manager.experiment} (process {manager.pid}, port {manager.port})"
    stop = f"nnictl stop {manager.experiment}"
    status = listed.get(manager.experiment, {}).get("status")
    if status in (None, "STOPPED"):
        stop = f"kill -INT {manager.pid}"  # nnictl only stops what it lists as running
        where = "is not on this home folder's list" if status is None else "is listed as stopped"
        text = f"{what} {where}, but its server is running"
        findings.append(Finding(_EXPERIMENTS, "warning", text, stop))
    elif status in ("DONE", "ERROR"):
        text = f"{what} is {status}, but its server is still running"
        findings.append(Finding(_EXPERIMENTS, "warning", text, stop))
    else:
        findings.append(Finding(_EXPERIMENTS, "ok", f"{what} is {status}"))
    public = [listener for listener in listeners(family(manager.pid)) if not is_local(listener.address)]
    if public:
        where = ", ".join(f"{listener.address} port {listener.port}" for listener in public)
        text = f"{what} listens on {where}: others can reach it, without a password"
        findings.append(Finding(_EXPERIMENTS, "warning", text, f"{stop}; {_CLOSE}"))
    return findings


def _listed(file: Path) -> dict[str, Any]:
    """NNI's list of experiments. NNI's own reader would create the folder."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    entries = content if isinstance(content, dict) else {}
    return {experiment: entry for experiment, entry in entries.items() if isinstance(entry, dict)}


def _manager(pid: int) -> Manager | None:
    """The process as a manager of this user, if it is one."""
    if owner(pid) != os.getuid():
        return None
    given = arguments(pid)
    if not any(Path(argument).parts[-2:] == ("nni_node", "main.js") for argument in given):
        return None
    return Manager(pid, _option(given, "--experiment-id"), _option(given, "--port"))


def _option(given: Sequence[str], name: str) -> str:
    place = given.index(name) + 1 if name in given else len(given)
    return given[place] if place < len(given) else "unknown"
