"""Which architecture each result belongs to, in real experiments at concurrency 4: none may be wrong.

NNI 3.0 hands parameters out in the order in which trials ask. So the trials here wait for times of their own
before they start: those that NNI starts first ask last.
"""

import sys
from pathlib import Path

import pytest

from detnas_nni.config.reading import load_config
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.nnictl.files import TrialFiles
from detnas_nni.search.session import search_in_process
from tests.search.nnictl.experiments import (
    Experiment,
    architecture_of,
    final_of,
    linked_run,
    wait_until,
    write_experiment,
)

pytestmark = pytest.mark.slow

DELAYED = "sleep $((3 - NNI_TRIAL_SEQ_ID % 4)) && {trial}"
ELSEWHERE = DELAYED.replace(
    "{trial}", f"{sys.executable} {Path(__file__).with_name('trial_keeper.py')} {{trial}}"
)


class Ended:
    """An experiment at concurrency 4 after its end: what the journal, the trials' files and NNI's API say."""

    def __init__(self, folder, write_config, supernets, command, generations, strategy="detnas"):
        search = {"population": 10, "generations": generations, "parents": 4, "mutations": 4, "crossovers": 4}
        search["strategy"] = strategy
        file = write_experiment(
            folder, write_config, linked_run(folder, supernets), command=command, search=search
        )
        self.config = load_config(folder / "detnas.yaml")
        best = self.config.search_dir / "best_architecture.json"
        with Experiment(file, folder / "home") as experiment:
            wait_until(best.exists, 1500)
            wait_until(lambda: all(job["status"] == "SUCCEEDED" for job in experiment.jobs()), 60)
            self.jobs = experiment.jobs()
        self.journal = Journal(journal_path(self.config.search_dir))
        self.said = TrialFiles(self.config.search_dir, {})
        # What each architecture is worth, evaluated one by one without NNI's trials.
        alone = write_experiment(
            folder / "alone", write_config, linked_run(folder / "alone", supernets), search=search
        )
        config = load_config(alone.with_name("detnas.yaml"))
        search_in_process(config)
        self.truth = {e.ops: e.fitness for e in Journal(journal_path(config.search_dir)).evaluations}

    def wrong_in_journal(self):
        return [e for e in self.journal.evaluations if e.fitness != self.truth.get(e.ops)]

    def wrong_in_api(self):
        """Trials whose metric NNI shows beside the parameters of another."""
        return [job for job in self.jobs if final_of(job)["default"] != self.truth[architecture_of(job).ops]]

    def wrong_in_the_tuners_record(self):
        """Trials of which the tuner has on record that something else was proposed to them than NNI shows."""
        proposals = {job["trialJobId"]: self.said.proposal(job["trialJobId"]) for job in self.jobs}
        return [
            job
            for job in self.jobs
            if (proposal := proposals[job["trialJobId"]]) is None
            or proposal["parameters"] != architecture_of(job).choices
        ]

    def wrong_in_the_trials_own_words(self):
        return [
            job
            for job in self.jobs
            if (taken := self.said.taken(job["trialJobId"])) is None or taken.ops != architecture_of(job).ops
        ]


@pytest.mark.parametrize("strategy", ["detnas", "pareto"])
def test_of_40_pairs_none_is_wrong_in_the_journal_the_trials_files_and_nnis_api(
    tmp_path, write_config, supernets, strategy
):
    ended = Ended(tmp_path, write_config, supernets, DELAYED, generations=4, strategy=strategy)
    assert len(ended.jobs) == len(ended.journal) == len(ended.truth) == 40
    assert len(set(ended.truth.values())) > 30  # or a swap would not be seen
    found = {
        "journal": ended.wrong_in_journal(),
        "tuner's record": ended.wrong_in_the_tuners_record(),
        "REST API": ended.wrong_in_api(),
        "trials' own words": ended.wrong_in_the_trials_own_words(),
    }
    print("wrong of 40 pairs:", ", ".join(f"{name} {len(wrong)}" for name, wrong in found.items()))
    assert not any(found.values()), found


def test_on_another_machine_trials_find_their_proposals_in_the_folder_that_they_share(
    tmp_path, write_config, supernets
):
    ended = Ended(tmp_path, write_config, supernets, ELSEWHERE, generations=1)
    assert len(ended.jobs) == len(ended.journal) == 10
    assert [ended.wrong_in_journal(), ended.wrong_in_api(), ended.wrong_in_the_trials_own_words()] == [
        [],
        [],
        [],
    ]


def test_without_a_folder_in_common_nni_swaps_parameters_and_the_journal_is_right_all_the_same(
    tmp_path, write_config, supernets
):
    """The trials have a run's folder of their own, with the same supernet."""
    own = linked_run(tmp_path / "own", supernets)
    command = f"{ELSEWHERE} --set run_dir={own}"
    ended = Ended(tmp_path / "tuner", write_config, supernets, command, generations=1)
    assert len(ended.jobs) == len(ended.journal) == 10
    assert not (ended.config.search_dir / "trials").exists()
    swapped = ended.wrong_in_api()
    print(f"swapped by NNI: {len(swapped)} of 10 pairs")
    assert len(swapped) > 1  # what this is about
    assert ended.wrong_in_journal() == []
