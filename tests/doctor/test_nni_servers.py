"""NNI's servers: where they would listen, and which were left behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from detnas_nni.doctor import nni_servers
from detnas_nni.doctor.finding import Finding
from detnas_nni.search.nnictl.loopback import node_option
from tests.doctor.findings import install


def test_the_address_of_nnis_server_is_found_by_starting_one(monkeypatch):
    monkeypatch.setenv("NODE_OPTIONS", node_option())
    [closed] = nni_servers.manager_address()
    assert closed.status == "ok"
    assert closed.text.startswith("listens only on 127.0.0.1")


def test_a_server_that_would_listen_to_everybody_is_a_warning(packages_first, monkeypatch):
    monkeypatch.delenv("NODE_OPTIONS", raising=False)
    # Whatever the environment's own site-packages say.
    (packages_first / "sitecustomize.py").write_text("import os; os.environ.pop('NODE_OPTIONS', None)")
    [found] = nni_servers.manager_address()
    assert found.status == "warning"
    assert "every interface" in found.text
    assert found.remedy == "detnas doctor --close-nni"


def test_a_node_that_does_not_start_is_a_problem(monkeypatch):
    monkeypatch.setenv("NODE_OPTIONS", "--require /nowhere/to/be/found.js")
    [found] = nni_servers.manager_address()
    assert found.status == "problem"
    assert found.remedy


SERVER = """
import socket, sys, time
server = socket.create_server((sys.argv[1], 0))
print("listening", flush=True)
time.sleep(300)
"""


@contextmanager
def manager(address: str, experiment_id: str) -> Iterator[int]:
    """A process that listens and looks like NNI's manager to one that reads the list of processes."""
    called = ["/somewhere/nni_node/main.js", "--port", "8080", "--experiment-id", experiment_id]
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, address, *called], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "listening\n"
            yield process.pid
        finally:
            process.kill()


def write_list(home: Path, **experiments: str) -> None:
    entries = {
        identity: {"id": identity, "status": status, "pid": 1} for identity, status in experiments.items()
    }
    (home / ".experiment").write_text(json.dumps(entries))


def about(experiment_id: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if experiment_id in finding.text]


@pytest.mark.parametrize(
    ("status", "expected", "remedy"),
    [
        ("RUNNING", "ok", ""),
        ("TUNER_NO_MORE_TRIAL", "ok", ""),
        ("DONE", "warning", "nnictl stop dwq3p7a1"),
        ("STOPPED", "warning", "kill -INT {pid}"),
        (None, "warning", "kill -INT {pid}"),
    ],
)
def test_a_server_that_outlived_its_experiment_is_named_with_what_stops_it(
    tmp_path, status, expected, remedy
):
    write_list(tmp_path, **({"dwq3p7a1": status} if status else {}))
    with manager("127.0.0.1", "dwq3p7a1") as pid:
        [found] = about("dwq3p7a1", nni_servers.experiments(tmp_path))
    assert (found.status, found.remedy) == (expected, remedy.format(pid=pid))


def test_a_running_server_that_others_can_reach_is_a_warning(tmp_path):
    write_list(tmp_path, dwq3p7a2="RUNNING")
    with manager("0.0.0.0", "dwq3p7a2"):
        running, public = about("dwq3p7a2", nni_servers.experiments(tmp_path))
    assert (running.status, public.status) == ("ok", "warning")
    assert "listens on 0.0.0.0 port" in public.text
    assert public.remedy == "nnictl stop dwq3p7a2; detnas doctor --close-nni"


def test_an_experiment_whose_server_is_gone_is_named(tmp_path):
    write_list(tmp_path, dwq3p7a3="RUNNING", dwq3p7a4="STOPPED")
    findings = nni_servers.experiments(tmp_path)
    [found] = about("dwq3p7a3", findings)
    assert (found.status, found.remedy) == ("warning", "nnictl experiment list --all")
    assert about("dwq3p7a4", findings) == []


def test_looking_for_experiments_leaves_no_folder_behind(tmp_path):
    nni_servers.experiments(tmp_path / "nni-experiments")
    assert list(tmp_path.iterdir()) == []


def test_the_cure_of_swapped_parameters_holds_for_the_version_it_was_verified_with(packages_first):
    [found] = nni_servers.swap_cure()
    assert found.status == "ok"
    install(packages_first, "nni", "3.1")
    [found] = nni_servers.swap_cure()
    assert found.status == "warning"
    assert "trialConcurrency: 1" in found.remedy


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({"platform": "local"}, []),
        ({"platform": "remote"}, ["warning"]),
        ({"platform": "remote", "nniManagerIp": "192.0.2.7"}, ["warning"]),
        ({"platform": "remote", "nniManagerIp": "127.0.0.1"}, ["ok"]),
    ],
)
def test_trials_on_remote_machines_need_a_tunnel_to_a_closed_manager(tmp_path, service, expected):
    (tmp_path / "search.yaml").write_text(yaml.safe_dump({"trainingService": service}))
    found = nni_servers.remote_trials(tmp_path)
    assert [finding.status for finding in found] == expected
    assert all("ssh -N -R" in finding.remedy for finding in found if finding.status == "warning")


LOCAL, REMOTE = {"platform": "local"}, {"platform": "remote"}


@pytest.mark.parametrize(
    ("gpus", "asked", "service", "is_problem"),
    [
        (1, 1, LOCAL, True),
        (2, 2, LOCAL, True),
        (2, 1, LOCAL, False),
        (1, None, LOCAL, False),
        (1, 0, LOCAL, False),
        (0, 1, LOCAL, False),  # another machine's file may be looked at
        (1, 1, REMOTE, False),
    ],
)
def test_as_many_gpus_a_trial_as_there_are_start_no_trial(tmp_path, gpus, asked, service, is_problem):
    values = {"trainingService": service} | ({} if asked is None else {"trialGpuNumber": asked})
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(values))
    for number in range(gpus):
        (tmp_path / "gpus" / f"0000:{number}").mkdir(parents=True)
    found = nni_servers.gpu_trials(tmp_path, tmp_path / "gpus")
    assert [finding.status for finding in found] == ["problem"] * is_problem
    assert all("remove trialGpuNumber" in finding.remedy for finding in found)
