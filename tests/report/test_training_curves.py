"""The losses that trainings log, read from the event files that they leave."""

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from detnas_nni.report.style import look
from detnas_nni.report.training_curves import Curve, TrainingCurves, losses, read_curve, trainings


def log(folder, losses_by_step, **terms):
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step, loss in losses_by_step.items():
            writer.add_scalar("loss", loss, step)
            for name, share in terms.items():
                writer.add_scalar(f"loss/{name}", share * loss, step)


def test_a_curve_has_the_logged_steps_and_values(tmp_path):
    log(tmp_path, {10: 2.0, 20: 1.5, 30: 1.0}, box=0.25, classes=0.75)
    curve = read_curve("supernet", tmp_path)
    assert curve.loss == ((10, 2.0), (20, 1.5), (30, 1.0))
    assert curve.terms["box"] == ((10, 0.5), (20, 0.375), (30, 0.25))
    with look():
        axes = losses([TrainingCurves("finetune", (curve,))]).axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert set(lines) == {"loss", "box", "classes"}
    assert np.array_equal(lines["loss"], curve.loss)


def test_a_resumed_training_is_one_curve_and_its_later_steps_count(tmp_path):
    log(tmp_path, {10: 2.0, 20: 1.5})
    log(tmp_path, {20: 1.4, 30: 1.0})
    assert read_curve("supernet", tmp_path).loss == (
        (10, 2.0),
        (20, pytest.approx(1.4)),
        (30, 1.0),
    )


def test_a_training_that_has_logged_nothing_has_no_curve(tmp_path):
    assert read_curve("supernet", tmp_path) is None
    (tmp_path / "tensorboard").mkdir()
    assert read_curve("supernet", tmp_path) is None


def test_a_torn_last_record_of_a_running_training_is_left_out(tmp_path):
    log(tmp_path, {10: 2.0, 20: 1.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    assert read_curve("supernet", tmp_path).loss[0] == (10, 2.0)


def test_a_file_of_something_else_has_no_curve(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard/events.out.tfevents.1").write_bytes(bytes(range(256)) * 4)
    assert read_curve("supernet", tmp_path) is None


def test_the_trainings_of_a_run_stand_in_their_order(make_config, tmp_path):
    config = make_config(tmp_path / "run")
    assert trainings(config) == []
    for name in ("finetune", "retrain/b/detector", "retrain/a/detector", "pretrain"):
        log(config.run_dir / name, {1: 1.0})
    found = trainings(config)
    assert [training.title for training in found] == [
        "supernet, pretrain",
        "supernet, finetune",
        "retrain, detector",
    ]
    assert [curve.name for curve in found[-1].curves] == ["a", "b"]
    assert found[0].curves == (Curve("supernet", ((1, 1.0),), {}),)


def test_classifiers_that_experiments_share_have_their_curve(make_config, tmp_path):
    config = make_config(tmp_path / "run", retrain={"classifier_dir": str(tmp_path / "shared")})
    log(config.run_dir / "retrain/a/detector", {1: 1.0})
    log(tmp_path / "shared/a/classifier", {1: 2.0})
    log(tmp_path / "shared/of another experiment/classifier", {1: 3.0})
    classifiers, detectors = trainings(config)
    assert classifiers.title == "retrain, classifier"
    assert classifiers.curves == (Curve("a", ((1, 2.0),), {}),)
    assert [curve.name for curve in detectors.curves] == ["a"]
