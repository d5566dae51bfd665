"""NNI's Evaluator around the evaluation: what NNI hears of a candidate, and what remains of a failure."""

import os
import shutil
import signal
import threading
import time

import pytest
from nni.nas.evaluator import Evaluator
from nni.nas.execution import ModelEventType, SequentialExecutionEngine
from nni.nas.space import ModelStatus

from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.search.evaluator import DetNASEvaluator
from detnas_nni.search.space import candidate_space
from tests.search.searching import tiny

MIXED = tiny(1, 2, 3, 0)


def run(evaluation, max_seconds=None):
    """Submit one candidate to NNI's engine; gives the model and every metric that NNI heard of."""
    space = candidate_space("tiny", DetNASEvaluator(evaluation, max_seconds=max_seconds))
    model = space.freeze(MIXED.choices).proposed(MIXED.ops, 0, "random")
    engine, heard = SequentialExecutionEngine(continue_on_failure=True), []
    for kind in (ModelEventType.IntermediateMetric, ModelEventType.FinalMetric):
        engine.register_model_event_callback(
            kind, lambda event: heard.append((event.event_type, event.metric))
        )
    engine.submit_models(model)
    return model, heard


def test_nni_hears_of_each_part_and_of_the_whole(supernets, make_config):
    evaluation = CandidateEvaluation(make_config(supernets))
    model, heard = run(evaluation)
    expected = evaluation.evaluate(MIXED)
    assert model.status is ModelStatus.Trained
    assert model.metric == expected.metrics["default"]
    part, whole = ModelEventType.IntermediateMetric, ModelEventType.FinalMetric
    assert [kind for kind, _ in heard] == [part, part, whole]
    assert heard[1][1] == expected.metrics and heard[0][1].keys() == expected.metrics.keys()
    final = heard[2][1]
    assert final.pop("seconds") > 0
    assert final == {key: value for key, value in expected.reported().items() if key != "seconds"}


def test_a_failure_stays_with_its_model(supernets, make_config):
    config = make_config(supernets, evaluation={"finetune_iterations": 8, "finetune_lr": 1e30})
    model, heard = run(CandidateEvaluation(config))
    assert model.status is ModelStatus.Failed
    assert heard == []
    assert model.metric is None
    assert model.error.startswith(f"EvaluationError: the loss of {MIXED} is nan at step ")


def test_it_is_nnis_evaluator_and_says_what_it_measures(supernets, make_config):
    evaluator = DetNASEvaluator(CandidateEvaluation(make_config(supernets)))
    assert isinstance(evaluator, Evaluator)
    assert repr(evaluator) == "DetNASEvaluator(task=faster_rcnn)"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_evaluation_that_hangs_has_failed_when_its_time_is_up(
    supernets, make_config, shapes, tmp_path, workers
):
    """It waits for images that never come, as from a network drive that is gone."""
    data = shutil.copytree(shapes, tmp_path / "data")
    config = make_config(supernets, data_dir=data, hardware={"workers": workers})
    evaluation = CandidateEvaluation(config)
    for image in (data / "detection/search").iterdir():
        image.unlink()
        os.mkfifo(image)
    model, heard = run(evaluation, max_seconds=3)  # and comes back at all
    assert model.status is ModelStatus.Failed and heard == []
    assert model.error == "EvaluationError: it took longer than search.max_trial_seconds (3 s)"
    time.sleep(1.2)  # no alarm is left behind


def test_a_limit_that_is_not_reached_changes_nothing(supernets, make_config):
    evaluation = CandidateEvaluation(make_config(supernets))
    before = signal.getsignal(signal.SIGALRM)
    model, _ = run(evaluation, max_seconds=600)
    assert model.metric == evaluation.evaluate(MIXED).metrics["default"]
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outside_of_the_main_thread_a_limit_is_refused(supernets, make_config):
    evaluation, models = CandidateEvaluation(make_config(supernets)), []
    thread = threading.Thread(target=lambda: models.append(run(evaluation, max_seconds=600)[0]))
    thread.start()
    thread.join(60)
    assert models[0].error.startswith("UsageError: search.max_trial_seconds needs a search in the process's")


def test_building_the_space_of_a_search_leaves_the_random_state_alone_and_makes_no_net():
    space = candidate_space("tiny", None)
    first, second = (space.freeze(tiny(op).choices) for op in (0, 3))
    assert set(first.sample.values()) == {"shufflenet_3x3"}
    assert set(second.sample.values()) == {"xception_3x3"}
