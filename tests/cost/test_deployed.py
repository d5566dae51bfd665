"""A table of nets in onnxruntime: real blocks and nets, and numbers that are known."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from detnas_nni.cli import main
from detnas_nni.config.reading import load_config
from detnas_nni.cost.deployed import _tables, exported, measure_deployed, ridge
from detnas_nni.cost.latency_table import Conditions, read_latency_table
from detnas_nni.cost.limits import latency_table
from detnas_nni.cost.stopwatch import ChangingTrunk
from detnas_nni.errors import LatencyError, UsageError
from tests.cost.latencies import by_hand, changed_file

SPACE = "foreign:mobile"
CONDITIONS = Conditions("tiny", {}, 64, 1, "a board", 1, "2.0", "onnxruntime 1.0")


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The regression.


def one_hot(architectures, sizes=(4,) * 9):
    columns = [np.eye(size)[[ops[b] for ops in architectures]] for b, size in enumerate(sizes)]
    return np.hstack(columns)


def drawn(count, seed=0):
    return [tuple(map(int, ops)) for ops in np.random.default_rng(seed).integers(0, 4, size=(count, 9))]


def test_it_finds_what_each_choice_adds_of_nets_that_it_has_not_seen():
    adds = np.random.default_rng(1).uniform(0, 100, size=36)
    coefficients, intercept, error = ridge(one_hot(drawn(60)), 500 + one_hot(drawn(60)) @ adds)
    unseen = one_hot(drawn(30, seed=2))
    assert np.allclose(unseen @ coefficients + intercept, 500 + unseen @ adds, atol=1)
    assert error < 1


def test_its_error_is_that_of_predicting_each_net_from_all_others():
    rng = np.random.default_rng(3)
    features, values = one_hot(drawn(12)), rng.normal(size=12)

    def left_out(strength):
        errors = []
        for i in range(12):
            rest = [j for j in range(12) if j != i]
            mean, centre = features[rest].mean(0), values[rest].mean()
            x, y = features[rest] - mean, values[rest] - centre
            found = np.linalg.solve(x.T @ x + strength * np.eye(36), x.T @ y)
            errors.append(values[i] - centre - (features[i] - mean) @ found)
        return float(np.sqrt(np.mean(np.square(errors))))

    strengths = [10.0**power for power in np.arange(-2, 4.5, 0.5)]
    assert ridge(features, values)[2] == pytest.approx(min(map(left_out, strengths)), rel=0.05)


def block_times(seed=4):
    return np.random.default_rng(seed).uniform(50, 150, size=(9, 4)).tolist()


def test_where_nets_are_the_sums_of_their_blocks_the_sums_are_as_good_and_both_predict_them():
    blocks = block_times()
    wholes = {ops: 900 + sum(row[op] for row, op in zip(blocks, ops, strict=True)) for ops in drawn(60)}
    for way in _tables(CONDITIONS, blocks, wholes):
        assert way.error < 1
        assert all(abs(way.table.predict(ops) - time) < 6 for ops, time in wholes.items())


def test_where_a_runtime_fuses_so_that_sums_mislead_whole_nets_are_believed():
    """In a net every candidate takes what it takes, whatever it took by itself."""
    truth, blocks = block_times(5), block_times(6)
    wholes = {ops: sum(row[op] for row, op in zip(truth, ops, strict=True)) for ops in drawn(80)}
    by_sums, by_nets = _tables(CONDITIONS, blocks, wholes)
    assert by_nets.error < by_sums.error / 10
    assert (by_sums.table.made_from, by_nets.table.made_from) == ("blocks", "whole nets")
    for ops in drawn(30, seed=7):
        expected = sum(row[op] for row, op in zip(truth, ops, strict=True))
        assert by_nets.table.predict(ops) == pytest.approx(expected, rel=0.02)
    assert min(map(min, by_nets.table.blocks_us)) >= 0


# Real parts.


def test_what_is_measured_computes_what_the_net_does():
    trunk = ChangingTrunk("tiny", {}, 32, "cpu")
    trunk.become((0, 1, 2, 3, 0, 1, 2, 3, 0))
    image = torch.randn(1, 3, 32, 32)
    session = onnxruntime.InferenceSession(exported(trunk.net, [image]), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        expected = list(trunk.net(image).values())
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        assert np.allclose(ours, theirs.numpy(), atol=1e-3 * float(theirs.abs().max()))


def test_a_table_names_its_runtime_and_is_read_again(foreign_trunks, one_thread, tmp_path):
    table = measure_deployed(SPACE, resolution=32, rounds=4)
    assert table.conditions.runtime == f"onnxruntime {onnxruntime.__version__}"
    assert table.conditions.runtime_name == "onnxruntime"
    assert [len(row) for row in table.blocks_us] == [2, 3]
    assert all(table.predict((a, b)) > 0 for a in range(2) for b in range(3))
    table.save(tmp_path / "latency.json")
    assert read_latency_table(tmp_path / "latency.json", space=SPACE, runtime="onnxruntime") == table


def test_on_the_command_line(foreign_trunks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call = ["latency", "--space", SPACE, "--resolution", "32", "--rounds", "4", "--threads", "1"]
    assert main([*call, "--runtime", "onnxruntime"]) == 0
    assert f"  runtime onnxruntime {onnxruntime.__version__}\n" in capsys.readouterr().out


def test_too_few_rounds_are_refused_before_anything_is_exported(foreign_trunks, monkeypatch):
    monkeypatch.setattr("detnas_nni.cost.deployed.exported", None)
    with pytest.raises(UsageError, match="1 rounds: at least 4"):
        measure_deployed(SPACE, resolution=32, rounds=1)


def test_a_provider_that_is_not_there_is_named(foreign_trunks, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        UsageError, match=r"no CUDAExecutionProvider \(it has CPUExecutionProvider\); install"
    ):
        measure_deployed(SPACE, runtime="onnxruntime-cuda", resolution=32)


# A limit in milliseconds means one runtime.


def test_a_table_of_another_runtime_than_the_configs_is_refused_with_both_ways_out(write_config, tmp_path):
    by_hand(runtime="onnxruntime 1.32.0").save(tmp_path / "latency.json")
    constraint = {"latency_table": "latency.json", "max_latency_ms": 3}
    file = write_config(tmp_path / "detnas.yaml", search={"constraint": constraint})
    with pytest.raises(LatencyError, match="latency_runtime is 'torch'; set that to onnxruntime, or measure"):
        latency_table(load_config(file))
    agreed = {**constraint, "latency_runtime": "onnxruntime"}
    file = write_config(tmp_path / "detnas.yaml", search={"constraint": agreed})
    assert latency_table(load_config(file)).predict((0,) * 9) == by_hand().predict((0,) * 9)


def test_tables_of_eager_torch_are_what_they_were_and_others_are_told_from_them(tmp_path):
    by_hand().save(tmp_path / "torch.json")
    assert "runtime" not in json.loads((tmp_path / "torch.json").read_text())["conditions"]
    read = read_latency_table(tmp_path / "torch.json", space="tiny", runtime="torch")
    assert read.fingerprint == by_hand().fingerprint == "cd92e4d61600ead0"
    assert by_hand(runtime="onnxruntime 1.32.0").fingerprint != by_hand().fingerprint


def test_a_way_that_is_unknown_is_refused(tmp_path):
    file = changed_file(tmp_path / "latency.json", lambda document: document.update(made_from="guesses"))
    with pytest.raises(LatencyError, match="made_from"):
        read_latency_table(file, space="tiny")
