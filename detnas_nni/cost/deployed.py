"""`detnas latency --runtime onnxruntime`: a latency table of nets as they are deployed.

Every candidate is exported by itself, with the input that it has in a net, and so are whole nets; all take
turns in the runtime, so that whatever else the machine does slows all alike. A runtime may fuse what stands
in two blocks, or lay out data for both, so that sums of blocks say little of whole nets. Then the table is
calibrated on these: what each candidate adds to a whole net comes of a ridge regression that begins at the
sums. Which of the two is written is decided on nets that the check never sees.
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
from detnas_nni.cost.latency import checked, draw_apart, no_garbage_collection, typical
from detnas_nni.cost.latency_table import Conditions, LatencyTable
from detnas_nni.cost.stopwatch import ChangingTrunk, device_name
from detnas_nni.errors import LatencyError, UsageError

_log = logging.getLogger(__name__)

PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
"""Of onnxruntime, by the name that a config has for it."""

_OPSET = 17
_WARM_UP = 2  # rounds that do not count
_TOLD_EVERY = 30  # whole nets
_NETS_A_NUMBER = 2  # whole nets for each number that the regression finds
_RIDGES = tuple(10.0**power for power in np.arange(-2, 4.5, 0.5))
"""How much the regression is held to the sums, of which the one that predicts best is taken."""


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
                f"--runtime {runtime}: the onnxruntime that is installed has no {self._provider} (it has "
                f"{', '.join(available)}); install one that does, such as onnxruntime-gpu"
            )
        self.name = f"{runtime} {onnxruntime.__version__}"
        # A single thread's own processor time leaves out the turns of other processes.
        alone = threads == 1 and runtime == "onnxruntime"
        self._seconds = time.thread_time if alone else time.perf_counter

    def microseconds(self, runs: Sequence[Run], rounds: int, rng: np.random.Generator) -> list[list[float]]:
        """Of each, the passes of so many rounds, in which they take turns in a random order."""
        found: list[list[float]] = [[] for _ in runs]
        with no_garbage_collection():
            for number in range(-_WARM_UP, rounds):
                for turn in rng.permutation(len(runs)).tolist():
                    runs[turn]()  # so that its weights are where they are when it runs again and again
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
        except Exception as error:  # onnxruntime's own classes have no common base
            raise LatencyError(f"onnxruntime cannot run a part of the trunk: {error}") from None

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run


class _Outputs(nn.Module):
    """A module whose outputs are a tuple, as a graph has them; a trunk gives a dict of features."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.net(*inputs)
        return tuple(found.values()) if isinstance(found, Mapping) else (found,)


def exported(net: nn.Module, inputs: Sequence[Tensor]) -> bytes:
    """A module's ONNX file, for inputs of these shapes. Raises what torch's exporter does."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of what tracing takes for constant: the shapes, which here are
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
    """The table of a space in a runtime, with as many threads as torch has at present.

    Args:
        space: its name.
        options: of the trunk.
        runtime: a name of `PROVIDERS`.
        resolution: side of the square images, in pixels.
        batch_size: images a forward pass.
        rounds: passes of each block and each net.
        check: random architectures that are set aside, measured as whole nets, and predicted.
        seed: of the architectures.

    Raises:
        UsageError: a fixed net; a runtime or a provider that is not installed.
        LatencyError: the runtime cannot run a part of the trunk.
    """
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
    """A table, and its root mean squared error on nets that it was not made from, in microseconds."""

    table: LatencyTable
    error: float


def _draw_wholes(sizes: Sequence[int], apart: Sequence[Ops], rng: np.random.Generator) -> list[Ops]:
    """Other architectures for the regression, or for the rest alone where a space has few."""
    wanted = _NETS_A_NUMBER * (1 + sum(size - 1 for size in sizes))
    drawn: dict[Ops, None] = {}
    while len(drawn) < min(wanted, math.prod(sizes) - len(apart)):
        ops = tuple(rng.integers(sizes).tolist())
        if ops not in apart:
            drawn[ops] = None
    return list(drawn)


@torch.no_grad()
def _block_runs(runner: Runner, trunk: ChangingTrunk, image: Tensor) -> list[tuple[int, int, Run]]:
    """Block, op and a run of every candidate by itself, one for each place that its label stands in."""
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
            _log.info("latency: %d of %d whole nets are exported", number, len(architectures))
    return runs


def _tables(
    conditions: Conditions, blocks: Sequence[Sequence[float]], wholes: Mapping[Ops, float]
) -> tuple[_Way, _Way]:
    """By sums of blocks, and by a regression of whole nets that begins at these sums."""
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
    """Ridge regression with an intercept that is not held back.

    Args:
        features: (N, F).
        values: (N,).

    Gives the coefficients (F,), the intercept, and the root mean squared error of predicting each value from
    all others, which also chose the strength.
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
    """In whole microseconds, none of a block below 0: what is, goes into the rest."""
    lifted = []
    for row in blocks:
        least = min(0.0, *row)
        rest += least
        lifted.append(tuple(round(value - least) for value in row))
    return LatencyTable(conditions, round(rest), tuple(lifted))
