"""NNI's servers stay on this machine: node as NNI bundles it, Python's start, and `nnictl create` itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from timeit import repeat

import nni_node
import pytest
import yaml

from detnas_nni.doctor.sockets import ListeningSocket, arguments, family, is_local, listeners
from detnas_nni.search.nnictl.loopback import (
    SCRIPT,
    close_nni,
    is_installed,
    node_option,
    open_nni,
    site_packages,
)

ROOT = Path(__file__).parents[3]
NODE = Path(next(iter(nni_node.__path__))) / "node"

# Ways to call a server's `listen`, and the addresses that the script is to leave as they are.
FORMS = {
    "listen()": "127.0.0.1",
    "listen(done)": "127.0.0.1",
    "listen(0)": "127.0.0.1",
    "listen('0')": "127.0.0.1",
    "listen(0, done)": "127.0.0.1",
    "listen(undefined, done)": "127.0.0.1",
    "listen(0, undefined, done)": "127.0.0.1",
    "listen(0, null, 5, done)": "127.0.0.1",
    "listen(0, 511, done)": "127.0.0.1",
    "listen(0, '')": "127.0.0.1",
    "listen(0, '0.0.0.0')": "127.0.0.1",
    "listen(0, '::', 5, done)": "127.0.0.1",
    "listen({port: 0})": "127.0.0.1",
    "listen({port: undefined}, done)": "127.0.0.1",
    "listen({port: 0, host: '::', exclusive: true}, done)": "127.0.0.1",
    "listen(0, '127.0.0.2')": "127.0.0.2",
    "listen({port: 0, host: '127.0.0.2'})": "127.0.0.2",
    "listen('named.sock')": "named.sock",
    "listen({path: 'other.sock'}, done)": "other.sock",
}

_LISTEN = """
const forms = JSON.parse(process.argv[2]), found = {};
const next = () => {
    if (!forms.length) { console.log(JSON.stringify(found)); return; }
    const form = forms.shift(), server = require('http').createServer();
    let called = !form.includes('done');
    const done = () => { called = true; };
    server.on('listening', () => setImmediate(() => {
        const address = server.address();
        found[form] = called ? address.address ?? address : 'no callback';
        server.close(next);
    }));
    eval('server.' + form);
};
next();
"""


def addresses(folder: Path, *, options: str, forms: list[str]) -> dict[str, str]:
    """What each form listens on in NNI's node, in a script that lies in the folder."""
    folder.mkdir()
    (folder / "main.js").write_text(_LISTEN)
    done = subprocess.run(
        [NODE, "main.js", json.dumps(forms)],
        cwd=folder,
        env=os.environ | {"NODE_OPTIONS": options},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_way_to_listen_on_all_addresses_becomes_loopback_and_no_other_is_changed(tmp_path):
    options = node_option()
    assert addresses(tmp_path / "nni_node", options=options, forms=list(FORMS)) == FORMS


def test_without_the_script_the_same_servers_are_open(tmp_path):
    forms = [form for form, address in FORMS.items() if address == "127.0.0.1"]
    found = addresses(tmp_path / "nni_node", options="", forms=forms)
    assert set(found.values()) <= {"::", "0.0.0.0"}


def test_node_programs_other_than_nnis_are_left_alone(tmp_path):
    found = addresses(tmp_path / "another", options=node_option(), forms=["listen(0)"])
    assert not is_local(found["listen(0)"])


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, in which the packages of this one can be imported."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))

    def says(self, code: str, **variables: str) -> str:
        """What a fresh Python of the environment prints."""
        env = {name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"}
        done = subprocess.run(
            [self.python, "-c", code], env=env | variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # where Python complains of a .pth file
        return done.stdout.removesuffix("\n")

    def node_options(self, **variables: str) -> str:
        return self.says("import os; print(os.environ.get('NODE_OPTIONS', ''))", **variables)


@pytest.fixture
def new_environment(tmp_path: Path) -> Callable[[str], Environment]:
    """new_environment(name): a folder of this name below `tmp_path`, with an environment in it."""

    def make(name: str) -> Environment:
        made = Environment(tmp_path / name)
        venv.create(made.folder, symlinks=True)
        # A path in a .pth file is searched for packages; the .pth files there, of the environment that the
        # tests run in, are not read.
        (made.site_packages / "packages.pth").write_text(f"{site_packages()}\n")
        return made

    return make


@pytest.fixture
def environment(new_environment: Callable[[str], Environment]) -> Environment:
    return new_environment("environment")


def test_a_closed_environment_hands_the_script_to_node_and_an_opened_one_does_not(environment):
    assert environment.node_options() == ""
    pth = close_nni(environment.site_packages)
    assert is_installed(environment.site_packages)
    copied = pth.with_suffix(".js")
    assert copied.read_bytes() == SCRIPT.read_bytes()
    assert environment.node_options() == node_option(copied)
    assert open_nni(environment.site_packages) is True
    assert environment.node_options() == ""
    assert not is_installed(environment.site_packages)
    assert open_nni(environment.site_packages) is False


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_path_with_blanks_quotes_and_accents_reaches_node(new_environment, tmp_path, locale):
    odd = new_environment('it\'s "an" é environment')
    close_nni(odd.site_packages)
    options = odd.node_options(LC_ALL=locale, PYTHONIOENCODING="utf-8")
    found = addresses(tmp_path / "nni_node", options=options, forms=["listen(0)"])
    assert found == {"listen(0)": "127.0.0.1"}


def test_the_option_comes_once_and_beside_the_users_own(environment):
    close_nni(environment.site_packages)
    close_nni(environment.site_packages)
    once = environment.node_options()
    assert once.count("--require") == 1
    both = environment.node_options(NODE_OPTIONS="--trace-warnings")
    assert both == f"{once} --trace-warnings"
    # A Python that such a Python starts finds the option there already.
    assert environment.node_options(NODE_OPTIONS=both) == both


def test_it_acts_on_the_environment_it_is_called_in(environment):
    call = "from detnas_nni.search.nnictl.loopback import close_nni; print(close_nni().parent)"
    assert environment.says(call, PYTHONPATH=str(ROOT)) == str(environment.site_packages)
    assert is_installed(environment.site_packages)


def test_an_environment_closed_by_another_version_is_seen_to_need_it_again(environment):
    script = close_nni(environment.site_packages).with_suffix(".js")
    script.write_text("'use strict';\n")
    assert not is_installed(environment.site_packages)


def test_without_its_script_a_closed_environments_node_does_not_start(environment):
    close_nni(environment.site_packages).with_suffix(".js").unlink()
    started = subprocess.run(
        [NODE, "-e", "1"], env={"NODE_OPTIONS": environment.node_options()}, capture_output=True, text=True
    )
    assert started.returncode != 0
    assert "detnas_nni_loopback.js" in started.stderr


def test_a_start_of_python_pays_far_less_than_a_millisecond(environment):
    lines = close_nni(environment.site_packages).read_text().splitlines()
    [line] = [line for line in lines if not line.startswith("#")]
    before = dict(os.environ)
    try:
        unset = "import os; os.environ.pop('NODE_OPTIONS', '')"
        seconds = median(repeat(lambda: exec(line, {}), unset, number=1, repeat=20))
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert seconds < 0.5e-3


@dataclass(frozen=True)
class Experiment:
    """A running NNI experiment: one trial that sleeps, NNI's random tuner, nothing of this package."""

    manager: int
    port: int

    def rest(self, path: str, body: object = None) -> object:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/nni/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def listeners(self) -> list[ListeningSocket]:
        """The listening sockets of all processes of the experiment."""
        return listeners(family(self.manager))


@contextmanager
def created(environment: Environment, folder: Path, port: int) -> Iterator[Experiment]:
    """Plain `nnictl create` in an environment; the experiment is stopped in the end, whatever happens."""
    values = {
        "searchSpace": {"x": {"_type": "choice", "_value": [1, 2]}},
        "trialCommand": "sleep 300",
        "trialCodeDirectory": ".",
        "trialConcurrency": 1,
        "maxTrialNumber": 1,
        "tuner": {"name": "Random"},
        "trainingService": {"platform": "local"},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(values))
    env = {name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"} | {
        "HOME": str(folder),  # NNI keeps ~/nni-experiments and ~/.config/nni
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }

    def nnictl(*arguments: str) -> str:
        # What the nnictl script of an environment does.
        code = "from nni.tools.nnictl.nnictl import parse_args; parse_args()"
        done = subprocess.run(
            [environment.python, "-c", code, *arguments],
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    listed = folder / "nni-experiments" / ".experiment"
    try:
        nnictl("create", "--config", "search.yaml", "--port", str(port))
        [entry] = json.loads(listed.read_text()).values()
        yield Experiment(entry["pid"], port)
    finally:
        entries = json.loads(listed.read_text()).values() if listed.exists() else []
        started = {pid: arguments(pid) for entry in entries for pid in family(entry["pid"])}
        try:
            nnictl("stop", "--all")  # of this home folder
        finally:
            for pid, called in started.items():
                if called and arguments(pid) == called:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(found: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_plain_nnictl_create_in_a_closed_environment_listens_on_loopback_alone(environment, tmp_path):
    close_nni(environment.site_packages)
    with created(environment, tmp_path, free_port()) as experiment:
        wait_for(lambda: [job["status"] for job in experiment.rest("trial-jobs")] == ["RUNNING"])
        [trial] = experiment.rest("trial-jobs")
        # The web UI's button for it, which NNI would answer with `tensorboard --bind_all`.
        task = experiment.rest("tensorboard", {"trials": trial["trialJobId"]})
        ports = {experiment.port, int(task["port"])}
        wait_for(lambda: ports <= {listener.port for listener in experiment.listeners()})
        found, processes = experiment.listeners(), family(experiment.manager)
    assert {listener.port for listener in found} == ports
    assert {listener.address for listener in found} == {"127.0.0.1"}
    assert [pid for pid in processes if arguments(pid)] == []  # nothing is left once it is stopped


def test_in_an_environment_that_is_not_closed_it_listens_on_every_address(environment, tmp_path):
    with created(environment, tmp_path, free_port()) as experiment:
        found = [(listener.address, listener.port) for listener in experiment.listeners()]
    assert found in ([("::", experiment.port)], [("0.0.0.0", experiment.port)])  # as the kernel has IPv6
