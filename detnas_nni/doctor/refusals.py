"""What a step would refuse of a config, found by the functions that the step calls."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from detnas_nni.config import Config
from detnas_nni.cost.limits import latency_table
from detnas_nni.cost.searchable import check_searchable
from detnas_nni.cost.stopwatch import device_name
from detnas_nni.doctor.finding import Finding
from detnas_nni.errors import ConfigError, DetNASError
from detnas_nni.models import check_freeze
from detnas_nni.models.hardware import uses_gpu
from detnas_nni.supernet.known_net import known_net
from detnas_nni.training.pretrained import published
from detnas_nni.training.weights import CLASSIFIER, load_weights
from search_spaces import SpaceError, is_fixed, layout


def refusals(config: Config, path: str) -> Iterator[Finding]:
    """Findings about what the steps start from, the trunk, and what is drawn from its space.

    Args:
        config: the experiment's.
        path: the config's file, for commands.
    """
    if not is_fixed(config.space.name):
        yield from _start(config)
    yield from _freeze(config)
    yield from _around(config)
    yield from _space(config)
    yield from _latency(config, path)


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


def _around(config: Config) -> Iterator[Finding]:
    """Whether the space has the nets near which paths are drawn, and candidates."""
    try:
        layout(config.space.name)
    except SpaceError:
        return  # `_space` says so
    for section in ("finetune", "search"):
        key = f"{section}.around"
        try:
            net = known_net(config, section)
        except ConfigError as error:
            yield Finding(key, "problem", str(error).removeprefix(f"{key}: "), f"--set {key}=null")
        else:
            if net is not None:
                yield Finding(key, "ok", str(net))


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
