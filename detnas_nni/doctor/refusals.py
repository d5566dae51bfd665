"""What a step would refuse of a config, found by the functions that the step calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from detnas_nni.config import Config
from detnas_nni.config.own_parts import is_own
from detnas_nni.config.updates import passes_per_update
from detnas_nni.cost.limits import FeasibleSet, Limits, feasible_set, latency_table
from detnas_nni.cost.searchable import check_searchable
from detnas_nni.cost.stopwatch import device_name
from detnas_nni.cost.table import cost_table
from detnas_nni.doctor.finding import Finding
from detnas_nni.errors import ConfigError, ConstraintError, DetNASError, LatencyError
from detnas_nni.models import DetectorSpace, check_freeze
from detnas_nni.models.hardware import uses_gpu
from detnas_nni.search.strategies import build_strategy
from detnas_nni.supernet.known_net import known_net
from detnas_nni.training.pretrained import published
from detnas_nni.training.weights import CLASSIFIER, load_weights
from search_spaces import BUILT_IN, SpaceError, is_fixed
from search_spaces.trunk import TrunkSpace


def refusals(config: Config, path: str) -> Iterator[Finding]:
    """Findings about the trunk and the net around it, what they start from, and the search.

    Args:
        config: the experiment's.
        path: the config's file, for commands.
    """
    searched = not is_fixed(config.space.name)
    if searched:
        yield from _start(config)
    yield from _retrain_start(config)
    about_space = [*_space(config)]
    yield from about_space
    if "problem" in {finding.status for finding in about_space}:
        return  # the rest needs the trunk
    yield from _net(config)
    yield from _freeze(config)
    if searched:
        yield from _sampling(config)
        yield from _around(config)
        yield from _latency(config, path)
        yield from _constraint(config)
        yield from _strategy(config)


def _refusal(name: str, remedy: str, call: Callable[[], object]) -> Iterator[Finding]:
    """A problem, if a function that a step calls raises, too."""
    try:
        call()
    except (DetNASError, SpaceError) as error:
        yield Finding(name, "problem", str(error).removeprefix(f"{name}: "), remedy)
    except Exception as error:  # of a user's own part
        yield Finding(name, "problem", f"{type(error).__name__}: {error}", remedy)


def _start(config: Config) -> Iterator[Finding]:
    """Whether the detector's trunk has weights to start from."""
    if config.data.detection is None or config.finetune.init == "scratch":
        return
    if config.finetune.init == "imagenet":
        try:
            start = published(config.space.name, config.finetune.weights)
        except DetNASError as error:
            yield Finding("finetune.init", "problem", str(error), "--set finetune.init=pretrain")
        else:
            yield Finding("finetune.init", "ok", f"{start.source} ({start.licence})")
    elif config.finetune.weights is not None:
        try:
            weights = load_weights(config.finetune.weights)
            weights.expect_supernet(kind=CLASSIFIER, space=config.space.name, options=config.space.options)
        except DetNASError as error:
            yield Finding("finetune.weights", "problem", str(error), "--set finetune.weights=FILE")
        else:
            yield Finding("finetune.weights", "ok", f"{weights.path}: a supernet of {config.space.name}")
    elif config.data.classification is None:
        text = "is pretrain, but there is no data.classification to pre-train on"
        remedy = "--set finetune.init=scratch   # or name a supernet as finetune.weights"
        yield Finding("finetune.init", "problem", text, remedy)


def _retrain_start(config: Config) -> Iterator[Finding]:
    """Whether the final net has the weights to start from that the config names."""
    settings, space = config.retrain, config.space

    def named() -> None:
        load_weights(settings.weights).expect(space=space.name, options=space.options)

    if settings.weights is not None:
        yield from _refusal("retrain.weights", "--set retrain.weights=FILE", named)
    elif settings.init == "imagenet" and config.finetune.init != "imagenet":  # otherwise `_start` says so
        remedy = "--set retrain.init=classification"
        yield from _refusal("retrain.init", remedy, partial(published, space.name, key="retrain.init"))


def _freeze(config: Config) -> Iterator[Finding]:
    """Whether the trunk has the stages to freeze."""
    for key, settings in (("finetune", config.finetune), ("retrain.finetune", config.retrain.finetune)):
        if settings is None or not settings.freeze:
            continue
        key = f"{key}.freeze"
        try:
            check_freeze(config.space.name, settings.freeze, key)
        except DetNASError as error:
            yield Finding(key, "problem", str(error), f"--set {key}=0")
        else:
            yield Finding(
                key, "ok", f"the stem and {settings.freeze} of the trunk's stages stay as they start"
            )


def _space(config: Config) -> Iterator[Finding]:
    """Whether a user's own trunk has what a search needs."""
    try:
        found = check_searchable(config)
    except SpaceError as error:
        yield Finding("space.name", "problem", str(error), "correct the trunk (docs/extending.md)")
        return
    if found is not None:
        status = "ok" if found.not_exported is None else "warning"
        yield Finding("space.name", status, str(found))


def _net(config: Config) -> Iterator[Finding]:
    """Whether the trunk takes its options, and the detector can be built around it."""
    space, detector = config.space, config.detector
    trunk = partial(TrunkSpace, space.name, **space.options)
    whole = partial(DetectorSpace, space.name, 1, detector, space.options)
    own = space.name not in BUILT_IN or is_own(detector.name)
    # Without storage; but a user's own code may compute with its weights.
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if own else "meta"):
        found = [*_refusal("space.options", "--set space.options={}", trunk)]
        if not found and config.data.detection is not None:
            found += _refusal("detector", "correct that section of the config", whole)
    yield from found


def _sampling(config: Config) -> Iterator[Finding]:
    """Whether the supernet's trainings are a whole number of updates."""
    for step, data in (("pretrain", config.data.classification), ("finetune", config.data.detection)):
        if data is not None:
            remedy = f"--set {step}.sampling=balanced"
            yield from _refusal(f"{step}.sampling", remedy, partial(passes_per_update, config, step))


def _around(config: Config) -> Iterator[Finding]:
    """Whether the space has the nets near which paths are drawn, and candidates."""
    for section in ("finetune", "search"):
        key = f"{section}.around"
        try:
            net = known_net(config, section)
        except ConfigError as error:
            yield Finding(key, "problem", str(error).removeprefix(f"{key}: "), f"--set {key}=null")
        else:
            if net is not None:
                yield Finding(key, "ok", str(net))


def _constraint(config: Config) -> Iterator[Finding]:
    """Whether an architecture meets the limits."""
    try:
        feasible_set(config)
    except LatencyError:
        pass  # `_latency` says so
    except ConstraintError as error:
        yield Finding("search.constraint", "problem", str(error), "raise the limit in the config")


def _strategy(config: Config) -> Iterator[Finding]:
    """Whether a user's own strategy can be made; what else is wrong with the search is said above."""
    if not is_own(config.search.strategy):
        return
    costs = cost_table(config.space.name, config.search.constraint.resolution)
    alone = config.model_copy(update={"search": config.search.model_copy(update={"around": None})})
    remedy = "--set search.strategy=detnas   # or correct your own (docs/extending.md)"
    build = partial(build_strategy, alone, FeasibleSet(costs, Limits()))
    yield from _refusal("search.strategy", remedy, build)


def _latency(config: Config, path: str) -> Iterator[Finding]:
    """Whether the latency table exists, and was measured under this machine's conditions."""
    name, file = "search.constraint.latency_table", config.search.constraint.latency_table
    if file is None:
        return
    again = f"detnas latency -c {path}"
    try:
        table = latency_table(config)
        here = torch.device("cuda" if uses_gpu(config.hardware) else "cpu")
    except DetNASError as error:
        yield Finding(name, "problem", str(error), again)
        return
    there = table.conditions
    found = [("device", there.device, device_name(here)), ("torch", there.torch, torch.__version__)]
    if here.type == "cpu":
        found.append(("threads", there.threads, config.hardware.threads or torch.get_num_threads()))
    other = [f"{what} {its}, here {ours}" for what, its, ours in found if its != ours]
    if other:
        remedy = f"{again}   # unless that is the target device"
        yield Finding(name, "warning", f"{file}: measured elsewhere ({'; '.join(other)})", remedy)
    else:
        yield Finding(name, "ok", f"{file}: {table.check or 'not checked'}")
