"""Racing through `nnictl create`, and NNI's own Medianstop beside it."""

import json

import pytest
import yaml

from detnas_nni.config.reading import load_config
from detnas_nni.data.shapes import generate_shapes
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.nnictl.follow import follow
from detnas_nni.search.session import search_in_process
from tests.search.nnictl.experiments import Experiment, linked_run, wait_until, write_experiment

# Three of four candidates have no chance of a half to become the one parent.
RACING = {
    "evaluation": {"batch_size": 3, "intermediate_results": 4},
    "search": {"racing": 0.49, "parents": 1, "generations": 3},
}


@pytest.mark.slow
def test_the_same_candidates_are_given_up_through_both_doors(
    supernets, write_config, tmp_path, trained_run, make_config
):
    file = write_experiment(tmp_path, write_config, linked_run(tmp_path / "linked", supernets), **RACING)
    with Experiment(file, tmp_path / "home") as experiment:
        follow(experiment.port, every=0.5)
        jobs = experiment.jobs()
    outside = Journal(journal_path(load_config(tmp_path / "detnas.yaml").search_dir))
    config = make_config(trained_run, **RACING)
    search_in_process(config)
    inside = Journal(journal_path(config.search_dir))
    assert len(inside) == 12 and any(e.stopped for e in inside.evaluations)
    assert {e.ops for e in outside.evaluations} == {e.ops for e in inside.evaluations}
    for evaluation in inside.evaluations:
        found = outside.find(evaluation.ops)
        assert (found.parts, found.stopped, found.tries) == (evaluation.parts, evaluation.stopped, 1)
    assert {job["status"] for job in jobs} == {"SUCCEEDED"}
    assert len([job for job in jobs if job.get("finalMetricData")]) == sum(
        not e.stopped for e in inside.evaluations
    )


@pytest.mark.slow
def test_medianstop_of_nni_stops_trials_whose_candidates_count_as_given_up(supernets, write_config, tmp_path):
    """On so many images that NNI's word comes before a trial's end."""
    data = tmp_path / "data"
    generate_shapes(
        data,
        classification_train=12,
        classification_val=12,
        detection_train=24,
        detection_search=1000,
        detection_test=1,
        classification_size=32,
        detection_size=(64, 80),
    )
    file = write_experiment(
        tmp_path,
        write_config,
        linked_run(tmp_path, supernets),
        concurrency=1,
        data_dir=data,
        evaluation={"batch_size": 2, "intermediate_results": 20},
        search={"generations": 3, "parents": 2},
    )
    values = yaml.safe_load(file.read_text())
    values["assessor"] = {"name": "Medianstop", "classArgs": {"optimize_mode": "maximize", "start_step": 2}}
    file.write_text(yaml.safe_dump(values))
    config = load_config(tmp_path / "detnas.yaml")
    with Experiment(file, tmp_path / "home") as experiment:
        wait_until((config.search_dir / "best_architecture.json").exists)
        statuses = [job["status"] for job in experiment.jobs()]
    journal = Journal(journal_path(config.search_dir))
    assert len(journal) == 12 and journal.errors == []
    stopped = [e for e in journal.evaluations if e.stopped]
    # NNI means to call them EARLY_STOPPED, and says that a user has canceled them.
    assert stopped and statuses.count("USER_CANCELED") == len(stopped)
    assert all(0 < len(e.parts) < 20 for e in stopped)
    best = json.loads((config.search_dir / "best_architecture.json").read_text())
    assert best["metrics"] == journal.best()[0].metrics
