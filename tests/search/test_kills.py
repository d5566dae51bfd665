"""Kill -9 at random instants, then go on: nothing finished is lost or done twice, and the end is the same.

Run with `-s` to see the table of kills.
"""

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detnas_nni.config.reading import load_config
from detnas_nni.search.session import search_in_process
from detnas_nni.util.processes import Process, descendants
from tests.processes import within
from tests.search.nnictl.experiments import Experiment, environment, linked_run, wait_until, write_experiment
from tests.search.searching import STRATEGIES

pytestmark = pytest.mark.slow

KILLS_A_STRATEGY = 8
KILLS_OF_NNI = 10


def lines(config):
    """The journal, without what a clock says."""
    path = config.search_dir / "journal.jsonl"
    found = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if line.endswith("\n"):
            values = json.loads(line)
            metrics = {key: value for key, value in values["metrics"].items() if key != "seconds"}
            found.append(
                (values["id"], tuple(values["ops"]), metrics, values["generation"], values["origin"])
            )
    return found


def expect_the_undisturbed(config, undisturbed):
    found = lines(config)
    assert len({ops for _, ops, *_ in found}) == len(found) == len(undisturbed)
    assert found == undisturbed
    best = json.loads((config.search_dir / "best_architecture.json").read_text())
    assert best["metrics"]["default"] == max(metrics["default"] for _, _, metrics, *_ in found)


# The search in process.


def start_search(config):
    """In a forked process, which has all imports behind it; a user's is killed in its imports as easily."""
    child = multiprocessing.get_context("fork").Process(target=search_in_process, args=(config,))
    child.start()
    return child


def tear(path, rng):
    """What a machine leaves that loses power in the middle of a write: a part of the last line."""
    content = path.read_bytes()
    last = content.rstrip(b"\n").rpartition(b"\n")[2]
    path.write_bytes(content[: len(content) - rng.randint(1, len(last))])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_in_process(strategy, tmp_path, supernets, make_config):
    search = {"strategy": strategy, "population": 12, "generations": 8, "parents": 4, "mutations": 4}
    search |= {"crossovers": 4, "tournament": 3}
    undisturbed = make_config(linked_run(tmp_path / "undisturbed", supernets), search=search)
    began = time.monotonic()
    search_in_process(undisturbed)
    between = 0.7 * (time.monotonic() - began) / KILLS_A_STRATEGY  # at most, so that it is killed so often
    config = make_config(linked_run(tmp_path, supernets), search=search)
    journal = config.search_dir / "journal.jsonl"
    rng = random.Random(strategy)
    print(f"\n{strategy}, in process: seconds from start to kill, evaluations in the journal, last line torn")
    for number in range(KILLS_A_STRATEGY):
        child, began, before = start_search(config), time.monotonic(), len(lines(config))
        if number % 4:  # or it is killed where it opens its folder and its supernet
            wait_until(lambda child=child, before=before: len(lines(config)) > before or not child.is_alive())
        time.sleep(rng.uniform(0, between))
        assert child.is_alive()
        child.kill()
        child.join()
        seconds = time.monotonic() - began
        torn = rng.random() < 0.4 and bool(lines(config))
        if torn:
            tear(journal, rng)
        print(f"  {seconds:5.2f} s  {len(lines(config)):3}  {'torn' if torn else ''}")
        assert lines(config) == lines(undisturbed)[: len(lines(config))]
    child = start_search(config)
    child.join()
    assert child.exitcode == 0
    expect_the_undisturbed(config, lines(undisturbed))


# The search through nnictl.


class Victims:
    """Who can be killed of a running experiment, and how."""

    def __init__(self, experiment, search_dir, rng):
        self.experiment, self.search_dir, self.rng = experiment, search_dir, rng

    def tuner(self):
        owner = self.experiment.owner(self.search_dir)
        return [] if owner is None else [owner.process]

    def manager(self):
        return [self.experiment.manager]

    def trial(self):
        # The trial itself, or its loader; the shell around it goes with it.
        running = [process for process in descendants(self.experiment.manager) if _is_trial(process)]
        return running[-1:]

    def all(self):
        owner = self.experiment.owner(self.search_dir)
        guard = [owner.guard] if owner is not None and owner.guard is not None else []
        return [*self.experiment.processes(), *guard]


def _is_trial(process):
    try:
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"detnas\0trial\0" in command


KINDS = [
    ("tuner", signal.SIGKILL),
    ("manager", signal.SIGKILL),
    ("trial", signal.SIGKILL),
    ("all", signal.SIGKILL),
    ("tuner", signal.SIGTERM),
    ("trial", signal.SIGKILL),
    ("manager", signal.SIGINT),
    ("tuner", signal.SIGINT),
    ("all", signal.SIGKILL),
    ("manager", signal.SIGTERM),
]


def test_a_search_through_nnictl(tmp_path, supernets, write_config):
    """One search at concurrency 1, its trials with loader processes; ten kills, three ways to go on."""
    search = {"population": 8, "generations": 7, "parents": 4, "mutations": 3, "crossovers": 3, "retries": 20}
    sections = {"search": search, "hardware": {"workers": 1}}
    alone = write_experiment(
        tmp_path / "alone", write_config, linked_run(tmp_path / "alone", supernets), **sections
    )
    undisturbed = load_config(alone.with_name("detnas.yaml"))
    search_in_process(undisturbed)
    run_dir = linked_run(tmp_path / "killed", supernets)
    file = write_experiment(
        tmp_path / "killed",
        write_config,
        run_dir,
        command="detnas trial -c detnas.yaml",
        concurrency=1,
        **sections,
    )
    config = load_config(file.with_name("detnas.yaml"))
    best = config.search_dir / "best_architecture.json"
    rng = random.Random(0)
    kinds = KINDS[:KILLS_OF_NNI]
    rng.shuffle(kinds)
    print("\nthrough nnictl: who, signal, seconds from start, journal then, nothing left after, gone on by")
    experiment, seen = Experiment(file, tmp_path / "home"), []
    with experiment:
        for number, (who, signal_number) in enumerate(kinds):
            seconds, began = rng.uniform(3, 20), time.monotonic()
            time.sleep(seconds)
            victims = Victims(experiment, config.search_dir, rng)
            wait_until(lambda victims=victims, who=who: getattr(victims, who)())
            processes, owner = experiment.processes(), experiment.owner(config.search_dir)
            for victim in getattr(victims, who)():
                victim.send(signal_number)
            killed = time.monotonic()
            evaluated = lines(config)
            assert not best.exists(), "the search has ended before the last kill"
            if who == "trial":
                after, way = "", "NNI, with another trial"
            else:
                guard = [] if owner is None or owner.guard is None else [owner.guard]
                everybody = {*processes, *guard, *experiment.processes()}
                assert within(30, lambda all_=everybody: not any(process.alive for process in all_)), [
                    process for process in everybody if process.alive
                ]
                after = f"{time.monotonic() - killed:.1f} s"
                way = ("nnictl resume", "nnictl create", "detnas search")[number % 3]
                experiment = go_on(way, experiment, config, tmp_path / "home", rng)
            row = (who, signal_number.name, f"{killed - began:.1f} s", len(evaluated), after, way)
            seen.append(row)
            print("  {:8} {:8} {:>7} {:4} {:>7}  {}".format(*row), flush=True)
            # What was in the journal is in it for good.
            assert lines(config)[: len(evaluated)] == evaluated
        wait_until(best.exists, 1500)
        experiment.nnictl("stop", experiment.id)
    expect_the_undisturbed(config, lines(undisturbed))
    assert len(seen) == KILLS_OF_NNI


def go_on(way, experiment, config, home, rng):
    """Go on by one of the three ways; the experiment that runs then."""
    if way == "nnictl resume":
        experiment.resume()
        return experiment
    if way == "detnas search":
        # For a while in process, through the other door; then killed like the others.
        command = [str(Path(sys.executable).with_name("detnas")), "search", "-c"]
        command += [str(experiment.file.with_name("detnas.yaml"))]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(command, env=environment(home), **quiet)
        before = len(lines(config))
        assert within(120, lambda: len(lines(config)) > before or child.poll() is not None)
        time.sleep(rng.uniform(0, 0.5))
        loaders = descendants(Process.of(child.pid))
        child.kill()
        child.wait()
        assert within(30, lambda: not any(loader.alive for loader in loaders))
    return Experiment(experiment.file, home)
