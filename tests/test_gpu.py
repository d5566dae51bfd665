"""The pipeline on a GPU: what a CPU computes, in another place. It skips where torch finds none."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import BatchNorm2d

from detnas_nni.architecture import Architecture
from detnas_nni.cli import main
from detnas_nni.config.reading import load_config
from detnas_nni.cost.latency import measure_latency
from detnas_nni.data.images import read_image
from detnas_nni.evaluation.candidate import CandidateEvaluation, measure_weights
from detnas_nni.finished.api import load_detector
from detnas_nni.finished.exporting import export
from detnas_nni.finished.retrain import retrain
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.session import search_in_process
from detnas_nni.supernet.steps import finetune, pretrain
from detnas_nni.training.weights import load_weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")

NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))
GPU = {"device": "cuda", "threads": None}


@pytest.fixture
def on_gpu(trained_run, write_config):
    """The small experiment on a GPU, with the supernets that a CPU has trained."""
    return write_config(trained_run.parent / "detnas.yaml", hardware=GPU)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_both_supernets_train_and_their_weights_are_plain_ones_of_a_cpu(make_config, tmp_path, precision):
    config = make_config(tmp_path / "run", hardware={**GPU, "precision": precision, "workers": 1})
    for step in (pretrain, finetune):
        state = load_weights(step(config)).state
        assert {tensor.device.type for tensor in state.values()} == {"cpu"}
        floats = [tensor for tensor in state.values() if tensor.is_floating_point()]
        assert {tensor.dtype for tensor in floats} == {torch.float32}
        assert all(tensor.isfinite().all() for tensor in floats)


def test_a_training_that_was_cut_goes_on(step, train, make_config, cut_at, tmp_path, caplog):
    sections = {"hardware": GPU, **({"finetune": {"init": "scratch"}} if step == "finetune" else {})}
    config = make_config(tmp_path / "cut", **sections)
    with cut_at(2):
        train(config)
    with caplog.at_level("INFO"):
        resumed = load_weights(train(config)).state
    assert "resuming at step 2 of 4" in caplog.text
    assert all(tensor.isfinite().all() for tensor in resumed.values())
    if step == "finetune":  # picks proposals by their ranks, which a GPU's order of adding up may turn round
        return
    whole = load_weights(train(make_config(tmp_path / "whole", **sections))).state
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-2, atol=1e-3)


def test_a_candidate_has_the_statistics_and_the_fitness_that_it_has_on_a_cpu(on_gpu):
    config = load_config(on_gpu)
    cpu = CandidateEvaluation(load_config(on_gpu, ["hardware.device=cpu", "hardware.threads=1"]))
    gpu = CandidateEvaluation(config)
    assert gpu.task.device.type == "cuda"
    expected, found = _trunk_statistics(cpu.calibrated_net(NET)), _trunk_statistics(gpu.calibrated_net(NET))
    assert expected.keys() == found.keys() != set()
    for name, tensor in expected.items():  # convolutions on a GPU compute in TF32, of ten bits
        scale = tensor.abs().max().item()
        torch.testing.assert_close(found[name].cpu(), tensor, rtol=0.02, atol=0.01 * scale)
    # The few images' proposals are drawn by the GPU's own random numbers.
    fitness = [evaluation.evaluate(NET).metrics["default"] for evaluation in (cpu, gpu)]
    assert fitness[0] == pytest.approx(fitness[1], abs=0.05)


def _trunk_statistics(net):
    return {
        f"{name}.{key}": value
        for name, module in net.trunk.named_modules()
        if isinstance(module, BatchNorm2d)
        for key, value in (("mean", module.running_mean), ("var", module.running_var))
    }


def test_a_search_ends_with_its_best_net_retrained_exported_and_found_to_predict(on_gpu, tmp_path):
    config = load_config(on_gpu)
    best = search_in_process(config)
    entries = Journal(journal_path(config.search_dir)).evaluations
    assert len(entries) == config.search.evaluations
    assert all(math.isfinite(entry.fitness) for entry in entries)
    (results,) = retrain(config, [best])
    weights = results.parent / "detector/net.pt"
    measured = json.loads(results.read_text())["detection"]["default"]
    on_a_cpu = load_config(on_gpu, ["hardware.device=cpu"])
    assert measured == pytest.approx(measure_weights(on_a_cpu, weights, "test")["default"], abs=0.02)
    for form in ("torch", "onnx", "torchscript"):  # each is checked before it is there
        assert export(config, weights, form=form, out=tmp_path / form).stat().st_size > 0
    image = next(Path(config.data.detection.test[0].images).iterdir())
    given = read_image(image)
    (expected,) = load_detector(tmp_path / "torch")([given])
    (found,) = load_detector(tmp_path / "torch", device="cuda")([given.cuda()])
    assert abs(len(found["scores"]) - len(expected["scores"])) <= 0.1 * len(expected["scores"]) + 1
    out = str(tmp_path / "drawn")
    assert main(["predict", "--weights", str(tmp_path / "torch"), "--out", out, str(image)]) == 0


@pytest.mark.parametrize("batch_size", [1, 4])
def test_latencies_are_the_gpus_own(batch_size):
    table = measure_latency(
        "tiny", resolution=64, batch_size=batch_size, device="cuda", rounds=8, check=4, seed=0
    )
    assert torch.cuda.get_device_name() in table.conditions.device
    assert all(us > 0 for block in table.blocks_us for us in block)
    assert table.check.median_error < 0.5
