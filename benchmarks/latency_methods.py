"""Which way of making a latency table predicts whole nets best, on the same measurements.

    python benchmarks/latency_methods.py --space tiny --resolution 224 --threads 1

prints one JSON object. For each method the errors on random nets that no method has seen:

- `in_the_net`: marks at the blocks' ends, in passes of random architectures (what `detnas latency` does);
- `whole_nets`: least squares over the same architectures' whole passes, without marks, and
  `whole_nets_robust`, least absolute deviations;
- `alone`: each candidate run repeatedly on its own, on the input that it has in the net;
- `constant`: one number for all nets, the median: prediction without knowledge.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.stats import kendalltau

from detnas_nni.cost import latency as measure
from detnas_nni.cost.latency import Measurements, Ops
from detnas_nni.cost.latency_check import typical
from detnas_nni.cost.stopwatch import ChangingTrunk, Stopwatch, device_name

Predict = Callable[[Ops], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--resolution", type=int, default=224, metavar="PIXELS")
    parser.add_argument("--rounds", type=int, default=200, metavar="N")
    parser.add_argument("--check", type=int, default=30, metavar="N", help="nets to predict")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    trunk = ChangingTrunk(options.space, {}, options.resolution, device)
    rng = np.random.default_rng(0)
    measured = measure._measure(trunk, options.resolution, 1, options.rounds, options.check, rng)
    rest, blocks = measure._table(trunk.sizes, measured)
    truth = {ops: typical(passes) for ops, passes in measured.set_aside.items()}
    middle = statistics.median(truth.values())
    methods: dict[str, Predict] = {
        "in_the_net": lambda ops: rest + sum(row[op] for row, op in zip(blocks, ops, strict=True)),
        "whole_nets": _whole_nets(trunk.sizes, measured, robust=False),
        "whole_nets_robust": _whole_nets(trunk.sizes, measured, robust=True),
        "alone": _alone(trunk, options.resolution, max(10, options.rounds // 4), measured),
        "constant": lambda ops: middle,
    }
    print(
        json.dumps(
            {
                "space": options.space,
                "resolution": options.resolution,
                "device": device_name(device),
                "threads": options.threads,
                "nets": len(truth),
                "milliseconds": [round(pick(truth.values()) / 1e3, 2) for pick in (min, max)],
                **{name: _errors(predict, truth) for name, predict in methods.items()},
            },
            indent=2,
        )
    )


def _errors(predict: Predict, truth: dict[Ops, float]) -> dict[str, float]:
    predicted, measured = np.array([predict(ops) for ops in truth]), np.array(list(truth.values()))
    errors = np.abs(predicted - measured) / measured
    numbers = {"median_error": np.median(errors), "worst_error": errors.max()}
    if len(set(predicted)) > 1:
        numbers["kendall_tau"] = kendalltau(predicted, measured).statistic
    return {name: round(float(number), 4) for name, number in numbers.items()}


def _whole_nets(sizes: Sequence[int], measured: Measurements, *, robust: bool) -> Predict:
    design = partial(_design, sizes)
    seen = np.array([design(ops) for ops, _ in measured.wholes])
    took = np.array([microseconds for _, microseconds in measured.wholes])
    weights = np.linalg.lstsq(seen, took, rcond=None)[0]
    for _ in range(30 if robust else 0):  # reweighted to minimise the sum of absolute deviations
        residuals = np.abs(took - seen @ weights)
        scale = 1 / np.sqrt(np.maximum(residuals, 0.1 * np.median(residuals)))
        weights = np.linalg.lstsq(seen * scale[:, None], took * scale, rcond=None)[0]
    # A fit gives the mean; the constant is moved to the typical value, as in the other methods.
    shift = typical((took - seen @ weights).tolist())
    return lambda ops: shift + float(np.dot(design(ops), weights))


def _design(sizes: Sequence[int], ops: Ops) -> list[float]:
    """A one, and for each block its op, one-hot."""
    return [
        1.0,
        *(float(op == other) for size, op in zip(sizes, ops, strict=True) for other in range(1, size)),
    ]


@torch.inference_mode()
def _alone(trunk: ChangingTrunk, resolution: int, rounds: int, measured: Measurements) -> Predict:
    stopwatch, inputs = Stopwatch(trunk.device), {}
    trunk.become([0] * len(trunk.sizes))
    candidates = trunk.candidates()

    def keep(block: int, _module: object, arguments: tuple[torch.Tensor]) -> None:
        inputs[block] = arguments[0].clone()

    hooks = [
        of_block[0][0].register_forward_pre_hook(partial(keep, block))
        for block, of_block in enumerate(candidates)
    ]
    trunk.net(torch.randn(1, 3, resolution, resolution).to(trunk.device))
    for hook in hooks:
        hook.remove()
    took: dict[tuple[int, int], list[float]] = {}
    for _ in range(rounds):
        for block, of_block in enumerate(candidates):
            for op, (module, *_) in enumerate(of_block):
                module(inputs[block])  # warms its caches
                took.setdefault((block, op), []).append(stopwatch.whole(module, inputs[block]))
    numbers = {key: typical(times) for key, times in took.items()}

    def blocks(ops: Ops) -> float:
        return sum(numbers[block, op] for block, op in enumerate(ops))

    rest = typical([whole - blocks(ops) for ops, whole in measured.wholes])
    return lambda ops: rest + blocks(ops)


if __name__ == "__main__":
    main()
