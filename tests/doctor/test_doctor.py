"""`detnas doctor`: what goes wrong is named with its remedy, and nothing that is broken stops it."""

import json
import os
import subprocess
import venv
from pathlib import Path

import torch

from detnas_nni.doctor import doctor, environment, examine, machine
from detnas_nni.doctor.finding import Finding
from tests.doctor.findings import only, package

ROOT = Path(__file__).parents[2]


def test_a_sound_environment_has_no_problem(write_config, tmp_path, capsys):
    path = write_config(tmp_path / "detnas.yaml")
    status = doctor(path, json=True)
    report = json.loads(capsys.readouterr().out)
    assert [found for found in report["findings"] if found["status"] == "problem"] == []
    assert status == 0
    found = {finding["name"]: finding for finding in report["findings"]}
    for name in (
        "Python",
        "packages",
        "torch",
        "torchvision",
        "GPUs",
        "nnictl",
        "config",
        "next step",
        "disk",
    ):
        assert found[name]["status"] == "ok", found[name]
    assert found["torch"]["text"] == torch.__version__
    assert found["nnictl"]["text"] == "3.0"
    assert found["next step"]["text"] == f"detnas pretrain -c {path}"


def test_where_no_package_is_installed_it_still_says_what_to_do(tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    code = "import sys; from detnas_nni.doctor import doctor; sys.exit(doctor('detnas.yaml'))"
    done = subprocess.run(
        [python, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    for name in ("packages", "torch", "nnictl", "NNI's server", "config"):
        assert any(line.startswith(f"x {name} ") for line in lines), done.stdout
        assert any(line.startswith(f"x {name}: to fix: ") for line in lines), done.stdout
    assert f"x torch: to fix: {python} -m pip install torch==2.14.1 torchvision==0.29.1" in lines


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(monkeypatch):
    def broken() -> list[Finding]:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(machine, "ports", broken)
    monkeypatch.setattr(environment, "torch_works", lambda hardware: [])
    monkeypatch.setattr(environment, "nnictl", list)
    findings = examine()
    assert "RuntimeError: unforeseen" in only(findings, "broken").text
    assert only(findings, "broken").status == "problem"
    assert only(findings, "open files").status == "ok"


def test_the_status_is_1_with_a_problem_and_0_with_a_warning_alone(monkeypatch, capsys):
    for status, expected in (("problem", 1), ("warning", 0), ("ok", 0)):
        found = Finding("thing", status, "text", "remedy")
        monkeypatch.setattr("detnas_nni.doctor.examine", lambda *_, found=found: [found])
        assert doctor() == expected
    capsys.readouterr()


def test_a_process_that_does_not_answer_is_given_up_and_no_package_is_blamed(monkeypatch, packages_first):
    monkeypatch.setattr("detnas_nni.doctor.finding.PATIENCE", 0.5)
    package(packages_first, "torch", "import time; time.sleep(60)")
    monkeypatch.setattr(environment, "nnictl", list)
    found = only(examine(), "torch_works")
    assert found.status == "warning"
    assert "did not answer within 0.5 s" in found.text
