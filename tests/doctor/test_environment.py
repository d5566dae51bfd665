"""Python, its packages and nnictl, as they are and as they break."""

import sys
from pathlib import Path

import pytest

from detnas_nni.config import Hardware
from detnas_nni.doctor import environment
from detnas_nni.doctor.finding import Finding
from tests.doctor.findings import install, only, package


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 14, 0)])
def test_another_python_is_a_problem(version, monkeypatch):
    monkeypatch.setattr(sys, "version_info", version)
    [found] = environment.python_version()
    assert found.status == "problem"
    assert "3.11, 3.12 or 3.13 is needed" in found.text


def test_a_package_of_another_version_is_named_with_the_one_that_is_needed(packages_first):
    install(packages_first, "nni", "2.10")
    [found] = environment.packages()
    assert found == Finding(
        "nni",
        "problem",
        "2.10 is installed; nni<3.1,>=3.0 is needed",
        f"{sys.executable} -m pip install 'nni<3.1,>=3.0'",
    )


def test_a_package_that_is_missing_is_named(packages_first):
    install(packages_first, "detnas-nni", "0.1.0", "numpy", "a-package-that-nobody-has>=2")
    [found] = environment.packages()
    assert (found.name, found.status) == ("a-package-that-nobody-has", "problem")
    assert found.text == "is not installed; a-package-that-nobody-has>=2 is needed"


def test_what_an_extra_asks_for_may_be_missing_but_not_of_another_version(packages_first):
    extras = ["a-package-that-nobody-has>=2 ; extra == 'more'", "numpy<1 ; extra == 'more'", "pillow"]
    install(packages_first, "detnas-nni", "0.1.0", *extras)
    [found] = environment.packages()
    assert (found.name, found.status) == ("numpy", "problem")
    assert found.text.endswith("is installed; numpy<1 is needed")


# What a broken torch and torchvision do when they are imported.
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", "it ended with status -6"),
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13: cannot open"),
    ],
    ids=["crash", "library missing"],
)
def test_a_torch_that_cannot_be_imported_is_a_problem_and_no_crash(packages_first, code, reason):
    package(packages_first, "torch", code)
    [found] = environment.torch_works()
    assert (found.name, found.status) == ("torch", "problem")
    assert reason in found.text
    assert found.remedy.endswith("-m pip install torch==2.14.1 torchvision==0.29.1")


FAKE_TORCH = """
__version__ = "2.14.1"
tensor = list
class version:
    cuda = "13.0"
class cuda:
    is_available = staticmethod(lambda: {count} > 0)
    device_count = staticmethod(lambda: {count})
    @staticmethod
    def get_device_properties(index):
        class properties:
            name, total_memory = "NVIDIA H200", 139 * 2**30
        return properties
"""


def test_a_torchvision_whose_operators_do_not_load_is_a_problem(packages_first):
    package(packages_first, "torch", FAKE_TORCH.format(count=0))
    package(packages_first, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    found = only(environment.torch_works(), "torchvision")
    assert found.status == "problem"
    assert "RuntimeError: operator torchvision::nms does not exist" in found.text
    assert "torch 2.14.1 goes with torchvision 0.29" in found.text
    assert "--force-reinstall torch==2.14.1 torchvision==0.29.1" in found.remedy


FAKE_TORCHVISION = """
__version__ = "{version}"
class ops:
    class nms:
        def __init__(self, *arguments): pass
        def tolist(self): return {kept}
"""


@pytest.mark.parametrize(
    ("version", "kept", "status"),
    [("0.29.0+cu130", [0], "ok"), ("0.26.1", [0], "problem"), ("0.29.1", [0, 1], "problem")],
)
def test_torchvision_has_to_be_of_torchs_release_and_to_compute(packages_first, version, kept, status):
    package(packages_first, "torch", FAKE_TORCH.format(count=0))
    package(packages_first, "torchvision", FAKE_TORCHVISION.format(version=version, kept=kept))
    found = only(environment.torch_works(), "torchvision")
    assert found.status == status
    assert found.text.startswith(version)


@pytest.mark.parametrize(
    ("count", "hardware", "status", "text"),
    [
        (2, None, "ok", "2: NVIDIA H200 139 GiB, NVIDIA H200 139 GiB"),
        (2, Hardware(devices=2), "ok", "2: NVIDIA H200"),
        (2, Hardware(devices=8), "problem", "the config asks for 8 (hardware.devices)"),
        (2, Hardware(device="cpu", devices=8), "ok", "not used"),
        (0, Hardware(device="cuda"), "problem", "torch finds none, but the config asks for one"),
    ],
)
def test_gpus_are_counted_against_what_the_config_asks_for(packages_first, count, hardware, status, text):
    package(packages_first, "torch", FAKE_TORCH.format(count=count))
    found = only(environment.torch_works(hardware), "GPUs")
    assert found.status == status
    assert text in found.text


def test_nnictl_that_does_not_start_says_why(packages_first):
    package(packages_first, "pkg_resources", "raise ImportError('pkg_resources is broken')")
    [found] = environment.nnictl()
    assert (found.name, found.status) == ("nnictl", "problem")
    assert "pkg_resources is broken" in found.text
    assert "setuptools<81" in found.remedy


def test_the_search_path_has_to_lead_to_this_environments_commands(tmp_path, monkeypatch):
    own = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{own}:/usr/bin:/bin")
    assert only(environment.search_path(), "PATH").status == "ok"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    missing = only(environment.search_path(), "PATH")
    assert (missing.status, missing.remedy) == ("warning", f"export PATH={own}:$PATH")
    (tmp_path / "nnictl").write_text("#!/bin/sh\n")
    (tmp_path / "nnictl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{own}")
    assert f"nnictl on it is {tmp_path}/nnictl" in only(environment.search_path(), "PATH").text
