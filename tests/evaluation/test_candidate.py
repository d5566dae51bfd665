"""One candidate on a real supernet: a function of architecture, seed and config, and of nothing else."""

import math
import shutil
from itertools import combinations

import pytest
import torch
from torch.nn import BatchNorm2d

from detnas_nni.cost.table import cost_table
from detnas_nni.errors import CheckpointError, ConfigError, DataError, EvaluationError
from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.supernet.steps import finetune
from detnas_nni.training.weights import file_hash
from tests.own_truth import write_own_truth
from tests.search.searching import tiny

PLAIN = tiny(0)
MIXED = tiny(1, 2, 3, 0)

DETECTION_METRICS = {"default", "AP50", "AP75", "APs", "APm", "APl"}
COSTS = {"MACs_M", "params_M", "seconds"}


@pytest.fixture(scope="module")
def own_truth(supernets, make_config, shapes, tmp_path_factory):
    """Sections of a config whose search split holds what the candidate MIXED finds."""
    keeps_all = {"score_threshold": 0.0}
    net = CandidateEvaluation(make_config(supernets, detector=keeps_all)).calibrated_net(MIXED)
    images, annotations = shapes / "detection" / "search", shapes / "detection" / "search.json"
    out = write_own_truth(net, images, annotations, tmp_path_factory.mktemp("truth") / "search.json")
    return {"detector": keeps_all, "data": {"detection": {"search": {"annotations": str(out)}}}}


@pytest.fixture(scope="module")
def detection(supernets, make_config, own_truth):
    return CandidateEvaluation(make_config(supernets, **own_truth))


@pytest.fixture(scope="module")
def classification(supernets, make_config):
    return CandidateEvaluation(make_config(supernets, evaluation={"task": "classification"}))


@pytest.fixture(params=["detection", "classification"])
def evaluation(request):
    return request.getfixturevalue(request.param)


# What it gives.


def test_a_detection_candidate_reports_ap_cost_and_seconds_as_numbers(detection):
    result = detection.evaluate(MIXED)
    reported = result.reported()
    assert set(reported) == DETECTION_METRICS | COSTS
    assert all(type(value) is float and math.isfinite(value) for value in reported.values())
    assert 0 < reported["default"] < reported["AP50"] < 1
    cost = cost_table("tiny").cost(MIXED)
    assert (reported["MACs_M"], reported["params_M"]) == (cost.macs / 1e6, cost.params / 1e6)
    assert reported["seconds"] > 0


def test_a_classification_candidate_reports_top_1_of_the_held_out_images(classification):
    reported = classification.evaluate(PLAIN).reported()
    assert set(reported) == {"default"} | COSTS
    # Twelve images are held out.
    assert (reported["default"] * 12) == pytest.approx(round(reported["default"] * 12))


def test_costs_are_counted_at_the_constraints_resolution(supernets, make_config):
    config = make_config(supernets, search={"constraint": {"resolution": 96}})
    result = CandidateEvaluation(config).evaluate(PLAIN)
    assert result.cost == cost_table("tiny", 96).cost(PLAIN)
    assert result.cost.macs < cost_table("tiny").cost(PLAIN).macs


def test_the_parts_that_are_reported_grow_and_the_last_is_the_whole(supernets, make_config, own_truth):
    """Twelve images in batches of two, three reports: after 4, 8 and 12 images."""
    settings = {"batch_size": 2, "intermediate_results": 3}
    evaluation, parts = CandidateEvaluation(make_config(supernets, **own_truth, evaluation=settings)), []
    result = evaluation.evaluate(MIXED, report=parts.append)
    assert len(parts) == 3
    assert parts[-1] == result.metrics
    assert len({part["AP50"] for part in parts}) == 3
    assert all(set(part) == DETECTION_METRICS for part in parts)


@pytest.mark.parametrize(("batch_size", "reports"), [(12, 1), (5, 3)])
def test_there_are_no_more_reports_than_batches(supernets, make_config, batch_size, reports):
    settings = {"task": "classification", "batch_size": batch_size, "intermediate_results": 4}
    evaluation, parts = CandidateEvaluation(make_config(supernets, evaluation=settings)), []
    result = evaluation.evaluate(MIXED, report=parts.append)
    assert len(parts) == reports
    assert parts[-1] == result.metrics


# What it depends on.


def test_the_same_candidate_scores_the_same_whatever_was_evaluated_before(evaluation):
    first = evaluation.evaluate(MIXED).metrics
    evaluation.evaluate(PLAIN)
    torch.rand(7)  # and whatever else drew from torch's generator
    assert evaluation.evaluate(MIXED).metrics == first


def test_different_candidates_score_differently(detection):
    assert detection.evaluate(MIXED).metrics["default"] != detection.evaluate(PLAIN).metrics["default"]


def test_another_process_would_score_the_same(detection, supernets, make_config, own_truth):
    """As two trials of nnictl do, each of which opens the supernet for itself."""
    again = CandidateEvaluation(make_config(supernets, **own_truth))
    assert again.evaluate(MIXED).metrics == detection.evaluate(MIXED).metrics
    assert again.supernet_hash == file_hash(supernets / "finetune" / "supernet.pt")


def test_an_evaluation_leaves_torchs_random_state_as_it_was(evaluation):
    before = torch.get_rng_state()
    evaluation.evaluate(PLAIN)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_calibration_seed_draws_other_images(detection):
    """And so gives other statistics; without a seed it is the search's own."""
    name = "detector.backbone.trunk.stem.bn.running_mean"
    means = [detection.calibrated_net(MIXED, seed=seed).state_dict()[name] for seed in range(3)]
    assert not any(torch.equal(one, other) for one, other in combinations(means, 2))
    seed = detection.config.search_seed
    assert detection.evaluate(MIXED, seed=seed).metrics == detection.evaluate(MIXED).metrics


def test_the_images_of_the_calibration_decide_the_bn_statistics(classification):
    def statistics(seed):
        net, task = classification.net(MIXED), classification.task
        recalibrate(net, task.training_batches(4, 2, seed), task.loss)
        return [module.running_var for module in net.modules() if isinstance(module, BatchNorm2d)]

    first, again, other = (statistics(seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


def test_more_calibration_images_than_there_are_means_all_of_them(supernets, make_config):
    """24 images: asking for 24 or for a million comes to the same."""
    name = "detector.backbone.trunk.stem.bn.running_mean"
    fewer, all_of_them, many = (
        CandidateEvaluation(make_config(supernets, evaluation={"calibration_images": images}))
        .calibrated_net(PLAIN)
        .state_dict()[name]
        for images in (20, 24, 1_000_000)
    )
    assert torch.equal(all_of_them, many) and not torch.equal(all_of_them, fewer)


@pytest.mark.parametrize("iterations", [0, 2])
def test_no_evaluation_touches_the_supernet(supernets, make_config, iterations):
    config = make_config(supernets, evaluation={"finetune_iterations": iterations, "finetune_lr": 0.1})
    evaluation = CandidateEvaluation(config)
    before = {name: tensor.clone() for name, tensor in evaluation.supernet.state.items()}
    evaluation.evaluate(MIXED)
    assert before and all(torch.equal(before[n], t) for n, t in evaluation.supernet.state.items())


def test_fine_tuning_trains_the_candidate_before_it_is_measured(supernets, make_config, detection, own_truth):
    evaluation = {"finetune_iterations": 2, "finetune_lr": 0.01}
    tuned = CandidateEvaluation(make_config(supernets, **own_truth, evaluation=evaluation))
    assert tuned.evaluate(MIXED).metrics == tuned.evaluate(MIXED).metrics
    name = "detector.backbone.trunk.stem.conv.weight"
    weights, again, untrained = (
        evaluation.calibrated_net(MIXED).state_dict()[name] for evaluation in (tuned, tuned, detection)
    )
    assert torch.equal(weights, again) and not torch.equal(weights, untrained)


def test_a_fine_tuning_that_diverges_says_what_to_lower(supernets, make_config):
    config = make_config(supernets, evaluation={"finetune_iterations": 8, "finetune_lr": 1e30})
    with pytest.raises(EvaluationError, match=r"fine-tuning; lower evaluation\.finetune_lr"):
        CandidateEvaluation(config).evaluate(MIXED)


def test_the_net_of_a_candidate_is_fixed_and_has_its_own_copy_of_the_weights(detection):
    net = detection.net(MIXED)
    name = "detector.backbone.trunk.stem.conv.weight"
    state = net.state_dict()
    assert name in state and torch.equal(state[name], detection.supernet.state[name])
    assert state[name].data_ptr() != detection.supernet.state[name].data_ptr()
    assert len(state) < len(detection.supernet.state)
    assert not net.training


# RetinaNet.


def test_retinanet_is_measured_by_the_same_road(trained_run, make_config):
    shutil.rmtree(trained_run / "finetune")
    config = make_config(
        trained_run, detector={"name": "retinanet"}, finetune={"steps": 2, "milestones": [2]}
    )
    finetune(config)
    evaluation = CandidateEvaluation(config)
    reported = evaluation.evaluate(MIXED).reported()
    assert set(reported) == DETECTION_METRICS | COSTS
    assert evaluation.evaluate(MIXED).metrics == {key: reported[key] for key in DETECTION_METRICS}


# What it refuses, before anything is evaluated.


def test_a_supernet_of_another_detector_is_refused(supernets, make_config):
    with pytest.raises(CheckpointError, match=r"finetune/supernet\.pt: .*kind is 'faster_rcnn'.*'retinanet'"):
        CandidateEvaluation(make_config(supernets, detector={"name": "retinanet"}))


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_supernet_of_another_space_is_refused(supernets, make_config, task):
    config = make_config(supernets, space={"name": "small"}, evaluation={"task": task})
    with pytest.raises(CheckpointError, match=r"supernet\.pt: .*space is 'tiny'.*'small'"):
        CandidateEvaluation(config)


def test_a_supernet_of_other_classes_is_refused(supernets, make_config, detection):
    reordered = list(reversed(detection.task.classes))
    config = make_config(supernets, data={"detection": {"classes": reordered}})
    with pytest.raises(CheckpointError, match=r"supernet\.pt: .*classes is circle, .*says .*, circle;"):
        CandidateEvaluation(config)


def test_a_supernet_of_another_width_is_refused_before_any_candidate(supernets, make_config):
    """A wider pyramid in the config than in the checkpoint: the same kind, space and classes."""
    config = make_config(supernets, detector={"fpn_channels": 32})
    with pytest.raises(
        CheckpointError, match=r"supernet\.pt: .*fpn.* is float32 \(16, .* and float32 \(32, "
    ):
        CandidateEvaluation(config)


def test_a_supernet_with_the_other_channel_shuffle_is_refused(supernets, make_config):
    """All shapes agree, and yet its weights mean something else: users of the released code got AP ≈ 0."""
    config = make_config(supernets, space={"options": {"shuffle": "even_odd"}})
    with pytest.raises(CheckpointError, match=r"options is \{\}, .*'shuffle': 'even_odd'"):
        CandidateEvaluation(config)


def test_a_missing_supernet_says_that_it_has_to_be_trained(make_config, tmp_path):
    with pytest.raises(CheckpointError, match=r"finetune/supernet\.pt: there are no weights; run the step"):
        CandidateEvaluation(make_config(tmp_path / "run"))


def test_a_damaged_supernet_is_named(trained_run, make_config):
    file = trained_run / "finetune" / "supernet.pt"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"finetune/supernet\.pt: cannot be read as a checkpoint"):
        CandidateEvaluation(make_config(trained_run))


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_config_without_the_tasks_data_is_refused(supernets, make_config, task):
    config = make_config(supernets, data={task: None}, evaluation={"task": task})
    with pytest.raises(ConfigError, match=rf"no `data\.{task}`"):
        CandidateEvaluation(config)


def test_a_search_split_that_is_missing_is_named(supernets, make_config, tmp_path):
    split = {"images": str(tmp_path), "annotations": str(tmp_path / "none.json")}
    with pytest.raises(DataError, match=r"none\.json"):
        CandidateEvaluation(make_config(supernets, data={"detection": {"search": split}}))
