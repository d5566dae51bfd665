"""What is measured is put together rightly, by a clock that is known; and the nets are the real ones."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from nni.nas.space import model_context

from detnas_nni.architecture import Architecture
from detnas_nni.cli import main
from detnas_nni.cost import stopwatch
from detnas_nni.cost.latency import _group, measure_latency
from detnas_nni.cost.latency_check import draw_apart
from detnas_nni.cost.latency_table import LatencyTable, read_latency_table
from detnas_nni.cost.stopwatch import ChangingTrunk, Laps, Stopwatch
from detnas_nni.errors import UsageError
from detnas_nni.models.batchnorm import fold_batch_norm
from search_spaces import layout
from search_spaces.trunk import TrunkSpace, layer_choices
from tests.varied import THREADS

BLOCKS = len(layout("tiny"))
MIXED = (0, 3, 1, 2, 0, 3, 3, 1, 0)
SIZES = [4] * BLOCKS


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class KnownClock:
    """Time as it would pass if every convolution took what its weights say, and now and then a turn longer.

    It stands in for the clocks of a stopwatch: how long a real pass takes is the machine's business.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rng = np.random.default_rng(0)

    def thread_time(self) -> float:
        return self.seconds

    def passes(self, module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, torch.nn.Conv2d):
            another_process = 200 if self._rng.random() < 0.01 else 0
            self.seconds += (takes(module) + another_process) / 1e6


def takes(convolution: torch.nn.Conv2d) -> float:
    """Microseconds by the known clock."""
    return 20 + convolution.weight.numel() / 100


def truth(ops: tuple[int, ...]) -> float:
    """Microseconds that a whole net takes by the known clock."""
    return sum(takes(module) for module in fixed_net(ops).modules() if isinstance(module, torch.nn.Conv2d))


@pytest.fixture(scope="module")
def measured(one_thread: None) -> LatencyTable:
    clock = KnownClock()
    hook = torch.nn.modules.module.register_module_forward_hook(clock.passes)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stopwatch, "time", clock)
            return measure_latency("tiny", resolution=64, rounds=30, check=5)
    finally:
        hook.remove()


def fixed_net(ops: tuple[int, ...]) -> torch.nn.Module:
    """What NNI builds of an architecture."""
    with model_context(Architecture("tiny", ops).choices):
        net = TrunkSpace("tiny").eval()
    fold_batch_norm(net)
    return net


@torch.inference_mode()
def test_a_trunk_that_becomes_an_architecture_computes_what_its_fixed_net_does():
    trunk, image = ChangingTrunk("tiny", {}, 64, "cpu"), torch.randn(2, 3, 64, 64)
    for ops in (MIXED, (3,) * BLOCKS, MIXED):
        trunk.become(ops)
        net = fixed_net(ops)
        assert [name for name, _ in net.named_modules()] == [name for name, _ in trunk.net.named_modules()]
        net.load_state_dict(trunk.net.state_dict())
        for name, feature in net(image).items():
            assert torch.equal(trunk.net(image)[name], feature)


@torch.inference_mode()
def test_activations_keep_their_size_through_every_architecture():
    """Numbers that have decayed are computed slower than those of a trained net."""
    trunk = ChangingTrunk("small", {}, 64, "cpu")
    for op in range(4):
        trunk.become([op] * 20)
        for feature in trunk.net(torch.randn(1, 3, 64, 64)).values():
            assert 0.05 < feature.std() < 20


def test_the_options_of_the_trunk_are_kept():
    trunk = ChangingTrunk("tiny", {"shuffle": "even_odd"}, 64, "cpu")
    shuffles = {getattr(module, "shuffle", None) for module in trunk.net.modules()}
    assert shuffles == {None, "even_odd"}


def test_the_random_state_is_left_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ChangingTrunk("tiny", {}, 64, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


@torch.inference_mode()
def test_laps_lie_within_the_pass_and_leave_no_hook():
    trunk, watch = ChangingTrunk("tiny", {}, 64, "cpu"), Stopwatch(torch.device("cpu"))
    laps = Laps(watch)
    trunk.become(MIXED)
    modules = {block: trunk.candidates()[block][op] for block, op in enumerate(MIXED)}
    with laps.running(modules):
        whole = watch.whole(trunk.net, torch.randn(1, 3, 64, 64))
    taken = laps.take()
    assert list(taken) == list(range(BLOCKS))
    assert min(taken.values()) > 0
    assert sum(taken.values()) < whole
    watch.whole(trunk.net, torch.randn(1, 3, 64, 64))
    assert laps.take() == {}


def test_each_candidate_stands_in_the_table_with_its_own_time_in_its_place(measured):
    nets = {op: fixed_net((op,) * BLOCKS) for op in range(4)}
    for block, name in enumerate(layer_choices(TrunkSpace("tiny").trunk, "tiny")):
        for op in range(4):
            of_block = nets[op].trunk.get_submodule(name)
            expected = sum(takes(m) for m in of_block.modules() if isinstance(m, torch.nn.Conv2d))
            assert measured.blocks_us[block][op] == round(expected)


def test_the_table_predicts_whole_nets_and_their_order(measured):
    """Ten nets with 0 to 9 blocks of xception in random places."""
    rng, nets = np.random.default_rng(0), []
    for slow in range(BLOCKS + 1):
        ops = np.array([3] * slow + [0] * (BLOCKS - slow))
        rng.shuffle(ops)
        nets.append(tuple(ops.tolist()))
    predicted, expected = [measured.predict(ops) for ops in nets], [truth(ops) for ops in nets]
    assert predicted == pytest.approx(expected, abs=BLOCKS + 1)  # each of them is rounded
    assert np.argsort(predicted).tolist() == np.argsort(expected).tolist()


def test_the_check_stands_in_the_table(measured):
    assert measured.check.architectures == 5
    assert 0 <= measured.check.median_error <= measured.check.worst_error < 0.01
    assert measured.check.kendall_tau == 1
    assert measured.check.fastest_ms < measured.check.slowest_ms
    assert measured.passes == 30 * 4 * 2


@torch.inference_mode()
def test_a_real_clock_runs_too():
    table = measure_latency("tiny", resolution=32, rounds=4, check=2)
    assert all(microseconds > 0 for row in table.blocks_us for microseconds in row)
    assert table.check.architectures == 2 and table.check.fastest_ms > 0


def test_what_isdraw_apart_is_in_no_group_and_each_candidate_comes_in_each():
    rng = np.random.default_rng(0)
    set_aside = set(draw_apart([2, 3, 4, 5, 5], 6, rng))
    assert len(set_aside) == 6
    for _ in range(200):
        group = _group([2, 3, 4, 5, 5], set_aside, rng)
        assert not set_aside & set(group)
        assert [len(set(column)) for column in zip(*group, strict=True)] == [2, 3, 4, 5, 5]


def test_a_small_space_has_nothing_todraw_apart(foreign_trunks):
    table = measure_latency("foreign:mobile", resolution=32, rounds=4)
    assert table.check is None
    assert [len(row) for row in table.blocks_us] == [2, 3]


def test_a_fixed_net_has_no_candidates_to_measure():
    with pytest.raises(UsageError, match="resnet50 is one fixed net"):
        measure_latency("resnet50", resolution=64)


def test_too_few_rounds_are_refused():
    with pytest.raises(UsageError, match="3 rounds: at least 4"):
        measure_latency("tiny", resolution=64, rounds=3)


def test_the_command_measures_what_a_config_says(write_config, tmp_path, capsys):
    constraint = {"resolution": 48, "latency_table": "tables/here.json"}
    space = {"name": "tiny", "options": {"shuffle": "even_odd"}}
    config = write_config(tmp_path / "detnas.yaml", search={"constraint": constraint}, space=space)
    assert main(["latency", "-c", str(config), "--rounds", "4", "--check", "3", "--batch", "2"]) == 0
    table = read_latency_table(tmp_path / "tables/here.json", space="tiny", options={"shuffle": "even_odd"})
    conditions = table.conditions
    assert (conditions.resolution, conditions.batch_size, conditions.threads) == (48, 2, THREADS)
    printed = capsys.readouterr().out
    assert f"{tmp_path}/tables/here.json\n" in printed
    assert str(table.check) in printed and "over 3 random nets" in printed


def test_the_command_measures_a_space_by_its_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = ["latency", "--space", "tiny", "--resolution", "32", "--rounds", "4", "--threads", "1"]
    assert main(call) == 0
    capsys.readouterr()
    arguments = ["--space", "tiny", "--ops", ",".join(map(str, MIXED))]
    assert main(["count", *arguments, "--latency-table", "latency-tiny-32.json"]) == 0
    table = read_latency_table(tmp_path / "latency-tiny-32.json", space="tiny")
    assert json.loads(capsys.readouterr().out)["latency_ms"] == table.predict(MIXED) / 1000


def test_a_space_needs_its_resolution(capsys):
    assert main(["latency", "--space", "tiny"]) == 2
    assert "--space needs --resolution" in capsys.readouterr().err
