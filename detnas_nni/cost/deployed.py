"""`detnas latency --runtime onnxruntime`: a latency table of nets as they are deployed.

Every candidate is exported on its own, with the input that it has in a net, and so are whole nets; all take
turns in the runtime, so that other load on the machine slows all equally. A runtime may fuse operators across
blocks, or choose a joint data layout, so that sums of blocks say little about whole nets. Then the table
is calibrated on these: what each candidate adds to a whole net comes from a ridge regression that starts
from the sums. Which of the two is written is decided on nets that the check never sees.
"""

from __future__ import annotations

import importlib
import io
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detnas_nni.architecture import Ops
from detnas_nni.cost.latency_check import checked, draw_apart, expect_rounds, typical
from detnas_nni.cost.latency_table import Conditions, LatencyTable
from detnas_nni.cost.stopwatch import ChangingTrunk, device_name, no_garbage_collection
from detnas_nni.errors import LatencyError, UsageError

_log = logging.getLogger(__name__)

PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
"""onnxruntime's providers, by their names in a config."""

_OPSET = 17
_WARM_UP = 2  # rounds that do not count
_TOLD_EVERY = 30  # whole nets
_NETS_A_NUMBER = 2  # whole nets per coefficient of the regression
_RIDGES = tuple(10.0**power for power in np.arange(-2, 4.5, 0.5))
"""Strengths that hold the regression to the sums; the one that predicts best is used."""


Run = Callable[[], None]


class Runner:
    """Exports modules to ONNX and measures them, on one provider with one number of threads."""

    def __init__(self, runtime: str, threads: int) -> None:
        self._provider = PROVIDERS[runtime]
        self._threads = threads
        onnxruntime = _onnxruntime()
        available = onnxruntime.get_available_providers()
        if self._provider not in available:
            raise UsageError(
                f"--runtime {runtime}: the installed onnxruntime has no {self._provider} (it has "
                f"{', '.join(available)}); install one that has it, such as onnxruntime-gpu"
            )
        self.name = f"{runtime} {onnxruntime.__version__}"
        # A single thread's own processor time excludes other processes.
        alone = threads == 1 and runtime == "onnxruntime"
        self._seconds = time.thread_time if alone else time.perf_counter

    def microseconds(self, runs: Sequence[Run], rounds: int, rng: np.random.Generator) -> list[list[float]]:
        """Times of each over a number of rounds, in which they take turns in random order."""
        found: list[list[float]] = [[] for _ in runs]
        with no_garbage_collection():
            for number in range(-_WARM_UP, rounds):
                for turn in rng.permutation(len(runs)).tolist():
                    runs[turn]()  # so that its weights are cached as in repeated runs
                    start = self._seconds()
                    runs[turn]()
                    end = self._seconds()
                    if number >= 0:
                        found[turn].append((end - start) * 1e6)
                if number >= 0 and (number + 1) % max(1, rounds // 4) == 0:
                    _log.info("latency: round %d of %d", number + 1, rounds)
        return found

    def prepared(self, net: nn.Module, inputs: Sequence[Tensor]) -> Run:
        """A call that runs an exported module once; input and output stay on the device."""
        onnxruntime = _onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(exported(net, inputs), options, providers=[self._provider])
            binding = session.io_binding()
            place = "cpu" if self._provider == PROVIDERS["onnxruntime"] else "cuda"
            for about, value in zip(session.get_inputs(), inputs, strict=True):
                given = onnxruntime.OrtValue.ortvalue_from_numpy(value.numpy(), place, 0)
                binding.bind_ortvalue_input(about.name, given)
            for about in session.get_outputs():
                binding.bind_output(about.name, place)
        except Exception as error:  # onnxruntime's classes have no common base
            raise LatencyError(f"onnxruntime cannot run a part of the trunk: {error}") from None

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run


class _Outputs(nn.Module):
    """A module whose outputs are a tuple, as in a graph; a trunk returns a dict of features."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.net(*inputs)
        return tuple(found.values()) if isinstance(found, Mapping) else (found,)


def exported(net: nn.Module, inputs: Sequence[Tensor]) -> bytes:
    """A module's ONNX file, for inputs of these shapes. Raises what torch's exporter raises."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that tracing takes shapes as constant, which they are here
        torch.onnx.export(_Outputs(net), tuple(inputs), buffer, dynamo=False, opset_version=_OPSET)
    return buffer.getvalue()


def _onnxruntime() -> Any:
    for package in ("onnx", "onnxruntime"):
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"--runtime onnxruntime needs the package {package} ({error}): "
                "pip install 'detnas-nni[onnx]', or pip install onnx onnxruntime"
            ) from None
    return module


def measure_deployed(
    space: str,
    options: Mapping[str, Any] | None = None,
    *,
    runtime: str = "onnxruntime",
    resolution: int,
    batch_size: int = 1,
    rounds: int = 200,
    check: int = 30,
    seed: int = 0,
) -> LatencyTable:
    """The table of a space in a runtime, with torch's current number of threads.

    Args:
        space: its name.
        options: the trunk's.
        runtime: a name in `PROVIDERS`.
        resolution: side of the square images, in pixels.
        batch_size: images per forward pass.
        rounds: passes of each block and each net.
        check: random architectures that are set aside, measured as whole nets, and predicted.
        seed: for the architectures.

    Raises:
        UsageError: a fixed net; too few rounds; a runtime or provider that is not installed.
        LatencyError: the runtime cannot run a part of the trunk.
    """
    expect_rounds(rounds)
    options, threads = dict(options or {}), torch.get_num_threads()
    trunk = ChangingTrunk(space, options, resolution, "cpu")
    runner = Runner(runtime, threads)
    image = torch.randn(batch_size, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    apart = draw_apart(trunk.sizes, check, rng)
    wholes = _draw_wholes(trunk.sizes, apart, rng)
    of_blocks = _block_runs(runner, trunk, image)
    of_nets = _whole_runs(runner, trunk, image, [*apart, *wholes])
    passes = runner.microseconds([*(run for _, _, run in of_blocks), *of_nets], rounds, rng)
    blocks = [[0.0] * size for size in trunk.sizes]
    for (block, op, _), of_run in zip(of_blocks, passes, strict=False):
        blocks[block][op] += typical(of_run)
    measured = dict(zip([*apart, *wholes], passes[len(of_blocks) :], strict=True))
    set_aside, fitted = ({ops: measured[ops] for ops in of} for of in (apart, wholes))
    on_gpu = runtime != "onnxruntime" and torch.cuda.is_available()
    conditions = Conditions(
        space,
        options,
        resolution,
        batch_size,
        device_name(torch.device("cuda" if on_gpu else "cpu")),
        threads,
        torch.__version__,
        runner.name,
    )
    by_sums, by_nets = _tables(conditions, blocks, {ops: typical(of) for ops, of in fitted.items()})
    tables = [replace(way.table, passes=rounds * len(passes)) for way in (by_sums, by_nets)]
    checks = [checked(table, set_aside) for table in tables]
    better = int(by_nets.error < by_sums.error)
    return replace(tables[better], check=checks[better], other_check=checks[1 - better])


class _Way(NamedTuple):
    """A table, and its root mean squared error in microseconds on other nets than it was made from."""

    table: LatencyTable
    error: float


def _draw_wholes(sizes: Sequence[int], apart: Sequence[Ops], rng: np.random.Generator) -> list[Ops]:
    """Other architectures for the regression; only for the rest if a space has few."""
    wanted = _NETS_A_NUMBER * (1 + sum(size - 1 for size in sizes))
    drawn: dict[Ops, None] = {}
    while len(drawn) < min(wanted, math.prod(sizes) - len(apart)):
        ops = tuple(rng.integers(sizes).tolist())
        if ops not in apart:
            drawn[ops] = None
    return list(drawn)


@torch.no_grad()
def _block_runs(runner: Runner, trunk: ChangingTrunk, image: Tensor) -> list[tuple[int, int, Run]]:
    """Block, op and a run of every candidate on its own, one for each place of its label."""
    inputs: dict[nn.Module, list[Tensor]] = {}

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[module] = [value.contiguous() for value in given]

    candidates = trunk.candidates()
    found = []
    for block, of_block in enumerate(candidates):
        for op, modules in enumerate(of_block):
            trunk.become([op if other == block else 0 for other in range(len(candidates))])
            handles = [module.register_forward_pre_hook(keep) for module in modules]
            trunk.net(image)
            for handle in handles:
                handle.remove()
            found += [(block, op, runner.prepared(module, inputs.pop(module))) for module in modules]
    return found


def _whole_runs(
    runner: Runner, trunk: ChangingTrunk, image: Tensor, architectures: Sequence[Ops]
) -> list[Run]:
    runs = []
    for number, ops in enumerate(architectures, start=1):
        trunk.become(ops)
        runs.append(runner.prepared(trunk.net, [image]))
        if number % _TOLD_EVERY == 0 or number == len(architectures):
            _log.info("latency: %d of %d whole nets exported", number, len(architectures))
    return runs


def _tables(
    conditions: Conditions, blocks: Sequence[Sequence[float]], wholes: Mapping[Ops, float]
) -> tuple[_Way, _Way]:
    """Tables from sums of blocks, and from a regression over whole nets that starts from these sums."""
    architectures, times = list(wholes), np.array(list(wholes.values()))
    sums = np.array([sum(row[op] for row, op in zip(blocks, ops, strict=True)) for ops in architectures])
    left = times - sums
    rest = float(np.median(left))
    by_sums = _Way(_table(conditions, rest, blocks), float(np.sqrt(np.mean((left - rest) ** 2))))
    columns = [np.eye(len(row))[[ops[block] for ops in architectures]] for block, row in enumerate(blocks)]
    added, mean, error = ridge(np.hstack(columns), left)
    ends = np.cumsum([len(row) for row in blocks])[:-1]
    corrected = [
        (np.array(row) + more).tolist() for row, more in zip(blocks, np.split(added, ends), strict=True)
    ]
    table = replace(_table(conditions, mean, corrected), made_from="whole nets")
    return by_sums, _Way(table, error)


def ridge(features: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Ridge regression with an unpenalised intercept.

    Args:
        features: (N, F).
        values: (N,).

    Returns the coefficients (F,), the intercept, and the leave-one-out root mean squared error, by which the
    strength was chosen.
    """
    mean = features.mean(0)
    left, scales, right = np.linalg.svd(features - mean, full_matrices=False)
    centred = values - values.mean()
    best = None
    for strength in _RIDGES:
        shrunk = scales**2 / (scales**2 + strength)
        leverage = (left**2 * shrunk).sum(1) + 1 / len(values)
        residual = centred - left @ (shrunk * (left.T @ centred))
        error = float(np.sqrt(np.mean((residual / (1 - leverage)) ** 2)))
        if best is None or error < best[0]:
            coefficients = right.T @ (scales / (scales**2 + strength) * (left.T @ centred))
            best = (error, coefficients)
    error, coefficients = best
    return coefficients, float(values.mean() - mean @ coefficients), error


def _table(conditions: Conditions, rest: float, blocks: Sequence[Sequence[float]]) -> LatencyTable:
    """A table in whole microseconds, with no block below 0: negative parts go into the rest."""
    lifted = []
    for row in blocks:
        least = min(0.0, *row)
        rest += least
        lifted.append(tuple(round(value - least) for value in row))
    return LatencyTable(conditions, round(rest), tuple(lifted))
