"""Does a surrogate pay: the paper's evolution, and the same with children screened by a fitted model.

    python -m benchmarks.surrogate experiments/quickstart/detnas.yaml --seeds 10 --known FILE > surrogate.json

The model is fitted to everything that a search has evaluated, one-hot in the candidates of each block: a
ridge regression, or a Gaussian process. From the second generation on, `--times` as many children are drawn
as are needed; the most promising are evaluated, and a quarter of the generation is drawn from the others at
random.

It pays if it finds as much with half the evaluations as the search without it finds with all of them. The
searches with and without it start from the same random generation (the same seed), so their difference is
paired. `order` says how well a model ranked the children of a generation before they were evaluated.

An evaluation depends only on the architecture: it is made once and kept in the file of `--known`, as in
`benchmarks.fronts`, so the script resumes where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import OneHotEncoder

from benchmarks.fronts import KnownEvaluator, searched
from detnas_nni.architecture import Ops
from detnas_nni.audit.statistics import mean_interval, sign_flip_test, tau_b
from detnas_nni.config import load_config
from detnas_nni.cost.limits import feasible_set
from detnas_nni.search.evolution import DetNASEvolution
from detnas_nni.search.proposing import Proposer
from detnas_nni.search.space import CandidateModel
from detnas_nni.util.seeding import generator
from search_spaces import layout

MODELS: dict[str, Callable[[], Any]] = {
    "ridge": lambda: RidgeCV(np.logspace(-2, 3, 16)),
    "gaussian": lambda: GaussianProcessRegressor(
        ConstantKernel() * RBF(2.0) + WhiteKernel(0.5), normalize_y=True, random_state=0
    ),
}


class ScreenedEvolution(DetNASEvolution):
    """The paper's evolution, whose children a model fitted to the search so far has chosen from many."""

    def __init__(
        self, proposer: Proposer, model: Callable[[], Any], *, times: int, at_random: float, **numbers: Any
    ) -> None:
        super().__init__(proposer, **numbers)
        self._model = model
        self._times = times
        self._at_random = round(at_random * self.population)
        candidates = [np.arange(len(block.candidates)) for block in layout(proposer.space)]
        self._encoder = OneHotEncoder(categories=candidates, sparse_output=False)
        self._finished: list[tuple[float, Ops]] = []
        self._promised: dict[Ops, float] = {}
        self.order: list[float | None] = []
        """τ of promised against measured fitness, for each generation after the first."""

    def remember(self, finished: Sequence[tuple[float, Ops]]) -> None:
        super().remember(finished)
        self._finished += finished
        if self._promised:
            promised = [self._promised[ops] for _, ops in finished]
            self.order.append(tau_b(promised, [fitness for fitness, _ in finished]))

    def _propose(self, generation: int) -> Iterable[CandidateModel]:
        if not self.has_parents():
            yield from super()._propose(generation)
            return
        drawn = [self._child(origin) for origin in self._origins() * self._times]
        children = {ops: origin for ops, origin in drawn if ops is not None}
        self._promised = dict(zip(children, self._predicted(list(children)), strict=True))
        ranked = sorted(children, key=lambda ops: -self._promised[ops])
        promising = ranked[: self.population - self._at_random]
        others = ranked[len(promising) :]
        others = self.proposer.rng.permutation(np.array(others))[: self._at_random]
        chosen = [*promising, *map(tuple, others.tolist())]
        # What was not chosen may be drawn again.
        self.proposer.seen.difference_update(set(children) - set(chosen))
        for ops in chosen:
            yield self.model(ops, generation, children[ops])

    def _predicted(self, children: list[Ops]) -> list[float]:
        fitness, ops = zip(*self._finished, strict=True)
        model = self._model().fit(self._one_hot(ops), np.array(fitness))
        return model.predict(self._one_hot(children)).tolist()

    def _one_hot(self, ops: Sequence[Ops]) -> np.ndarray:
        return self._encoder.fit_transform(np.array(ops))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--times", type=int, default=10, help="children drawn for each that is evaluated")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--known", type=Path, required=True, help="the file with known evaluations")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    # Without noise, or without a signal, the kernel's scale ends at a bound, which harms no prediction.
    warnings.simplefilter("ignore", ConvergenceWarning)
    config = load_config(options.config, options.overrides)
    evaluator, feasible = KnownEvaluator(config, options.known), feasible_set(config)
    names = ("population", "generations", "mutations", "crossovers", "mutation_probability", "parents")
    numbers = {name: getattr(config.search, name) for name in names}
    curves: dict[str, list[list[float]]] = {name: [] for name in ("none", *MODELS)}
    order: dict[str, list[float | None]] = {name: [] for name in MODELS}
    for seed in range(options.seeds):
        for name in curves:
            proposer = Proposer(config.space.name, feasible, generator(seed, "search", "detnas"))
            if name == "none":
                strategy = DetNASEvolution(proposer, **numbers)
            else:
                model = MODELS[name]
                strategy = ScreenedEvolution(proposer, model, times=options.times, at_random=0.25, **numbers)
            fitness = [model.metric for model in searched(strategy, config, evaluator)]
            curves[name].append(np.maximum.accumulate(fitness).round(5).tolist())
            if isinstance(strategy, ScreenedEvolution):
                order[name] += strategy.order
    print(json.dumps({"search": numbers, "times": options.times, **found(curves, order)}))


def found(curves: dict[str, list[list[float]]], order: dict[str, list[float | None]]) -> dict[str, Any]:
    """Mean best fitness, and paired differences to the search without a model."""
    of = {name: np.array(best) for name, best in curves.items()}
    whole = of["none"].shape[1]
    half = whole // 2
    summary: dict[str, Any] = {
        "none": {"half": of["none"][:, half - 1].mean(), "whole": of["none"][:, -1].mean()}
    }
    for name in order:
        differences = {
            "half against whole": of[name][:, half - 1] - of["none"][:, -1],
            "half against half": of[name][:, half - 1] - of["none"][:, half - 1],
            "whole against whole": of[name][:, -1] - of["none"][:, -1],
        }
        summary[name] = {
            "half": of[name][:, half - 1].mean(),
            "whole": of[name][:, -1].mean(),
            **{
                what: {**asdict(mean_interval(values)), "p": sign_flip_test(values)}
                for what, values in differences.items()
            },
            "order": float(np.mean([tau for tau in order[name] if tau is not None])),
        }
    return {"evaluations": whole, "summary": summary, "best_so_far": curves}


if __name__ == "__main__":
    main()
