"""Python and its packages: the versions, whether torch and torchvision really work together, nnictl."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnas_nni.doctor.finding import Answer, Finding, ask, pip_install

if TYPE_CHECKING:  # it needs pydantic, which may be missing
    from detnas_nni.config import Hardware

PYTHONS = ((3, 11), (3, 12), (3, 13))

# torchvision's compiled operators only work with the torch of the same release.
TORCHVISION_OF = {"2.11": "0.26", "2.12": "0.27", "2.13": "0.28", "2.14": "0.29", "2.15": "0.29"}

VERIFIED = ("torch==2.14.1", "torchvision==0.29.1")
"""The pair that requirements.txt installs."""

_NNI = "nni==3.0"

# Each part prints a line, so that a crash keeps what was found before it.
_ASK_TORCH = """
import json
import torch
print(json.dumps({"version": torch.__version__}), flush=True)
gpus = []
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        gpus.append({"name": gpu.name, "bytes": gpu.total_memory})
print(json.dumps({"gpus": gpus, "cuda": torch.version.cuda}), flush=True)
import torchvision
boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 8.0, 9.0]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist()
print(json.dumps({"version": torchvision.__version__, "kept": kept}), flush=True)
"""


def python_version() -> list[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in PYTHONS:
        return [Finding("Python", "ok", found)]
    text = f"{found}; 3.11, 3.12 or 3.13 is needed, with which NNI 3.0 and torch were tested"
    remedy = "python3.13 -m venv .venv && .venv/bin/pip install -r requirements.txt -e ."
    return [Finding("Python", "problem", text, remedy)]


def packages() -> list[Finding]:
    """The versions of this package's requirements, from its metadata, without importing any.

    Requirements of an extra may be missing (commands that need them say so), but not of another version.
    """
    everything = pip_install("-r", "requirements.txt", "-e", ".")
    try:
        required = metadata.requires("detnas-nni") or []
    except metadata.PackageNotFoundError:
        text = f"detnas-nni is not installed in this environment ({sys.prefix})"
        return [Finding("packages", "problem", text, everything)]
    try:
        from packaging.requirements import Requirement
    except ImportError:
        text = f"none are installed in this environment ({sys.prefix}), not even `packaging`"
        return [Finding("packages", "problem", text, everything)]

    wrong, right = [], []
    for requirement in map(Requirement, required):
        plain = f"{requirement.name}{requirement.specifier}"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            text = f"is not installed; {plain} is needed"
        else:
            if requirement.specifier.contains(version, prereleases=True):
                right.append(f"{requirement.name} {version}")
                continue
            text = f"{version} is installed; {plain} is needed"
        wrong.append(Finding(requirement.name, "problem", text, pip_install(plain)))
    return wrong or [Finding("packages", "ok", ", ".join(right))]


def torch_works(hardware: Hardware | None = None) -> list[Finding]:
    """torch, torchvision with one of its compiled operators, and GPUs, compared with the config."""
    answer = ask([sys.executable, "-P", "-c", _ASK_TORCH])
    said = [json.loads(line) for line in answer.lines if line.startswith("{")]
    if not said:
        return [Finding("torch", "problem", f"cannot be imported: {answer.error}", pip_install(*VERIFIED))]
    findings = [
        Finding("torch", "ok", said[0]["version"]),
        _torchvision(said[0]["version"], said[2] if len(said) > 2 else None, answer),
    ]
    if len(said) > 1:
        findings.append(_gpus(said[1]["gpus"], said[1]["cuda"], hardware))
    return findings


def _torchvision(torch_version: str, found: dict[str, Any] | None, answer: Answer) -> Finding:
    expected = TORCHVISION_OF.get(_release(torch_version))
    pair = f"torch {torch_version}" + (f" goes with torchvision {expected}" if expected else " is beside it")
    if found is None:
        text = f"does not work: {answer.error}; {pair}"
    elif expected is not None and _release(found["version"]) != expected:
        text = f"{found['version']}, but {pair}"
    elif found["kept"] != [0]:
        text = f"{found['version']}: its nms gives a wrong result; {pair}"
    else:
        return Finding("torchvision", "ok", f"{found['version']}, its compiled nms works")
    return Finding("torchvision", "problem", text, pip_install("--force-reinstall", *VERIFIED))


def _release(version: str) -> str:
    return ".".join(re.findall(r"\d+", version)[:2])


def _gpus(gpus: list[dict[str, Any]], cuda: str | None, hardware: Hardware | None) -> Finding:
    asked, devices = (hardware.device, hardware.devices) if hardware else ("auto", 1)
    if asked == "cpu":
        return Finding("GPUs", "ok", "not used, as the config says (hardware.device: cpu)")
    if gpus:
        text = f"{len(gpus)}: " + ", ".join(f"{gpu['name']} {gpu['bytes'] / 2**30:.0f} GiB" for gpu in gpus)
        if devices <= len(gpus):
            return Finding("GPUs", "ok", text)
        text += f"; the config asks for {devices} (hardware.devices)"
        return Finding("GPUs", "problem", text, f"--set hardware.devices={len(gpus)}")
    none = "torch finds none" + ("" if cuda else ", since it is a build without CUDA")
    if asked == "cuda":
        text = f"{none}, but the config asks for one (hardware.device: cuda)"
        return Finding("GPUs", "problem", text, "--set hardware.device=auto   # or see what nvidia-smi says")
    if Path("/proc/driver/nvidia/version").exists():
        text = f"{none}, though there is an NVIDIA driver; is it too old for CUDA {cuda}?"
        return Finding("GPUs", "warning", text, "nvidia-smi   # names the CUDA release that it supports")
    return Finding("GPUs", "ok", f"{none}; trainings run on the CPU")


def nnictl() -> list[Finding]:
    """Whether nnictl starts, which imports much."""
    setuptools = pip_install("setuptools<81")
    if importlib.util.find_spec("pkg_resources") is None:
        text = "pkg_resources, which nnictl imports, is missing; setuptools 81 removed it"
        return [Finding("nnictl", "problem", text, setuptools)]
    command = Path(sys.executable).parent / "nnictl"
    if not command.is_file():
        return [Finding("nnictl", "problem", f"{command}: does not exist", pip_install(_NNI))]
    answer = ask([str(command), "--version"])
    if answer.status != 0:
        remedy = setuptools if "pkg_resources" in answer.error else pip_install("--force-reinstall", _NNI)
        return [Finding("nnictl", "problem", f"does not start: {answer.error}", remedy)]
    return [Finding("nnictl", "ok", " ".join(answer.lines))]


def search_path() -> list[Finding]:
    """Whether a shell finds this environment's commands, as an experiment's trials must."""
    folder = Path(sys.executable).parent
    for name in ("nnictl", "detnas"):
        found = shutil.which(name)
        if found is None:
            text = f"{name} is not found on it; an experiment's trials are started as `detnas trial`"
        elif Path(found).parent.resolve() != folder.resolve():
            text = f"{name} on it is {found}, not from the environment {folder}"
        else:
            continue
        return [Finding("PATH", "warning", text, f"export PATH={shlex.quote(str(folder))}:$PATH")]
    return [Finding("PATH", "ok", f"nnictl and detnas on it are those in {folder}")]
