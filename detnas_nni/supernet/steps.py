"""The supernet's two trainings: as a classifier on an ImageFolder (step 1), then in the detector (step 2)."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.config.own_parts import is_own, load_factory
from detnas_nni.cost.limits import feasible_set
from detnas_nni.cost.searchable import check_searchable
from detnas_nni.cost.table import cost_table
from detnas_nni.models import DetectorSpace, check_freeze
from detnas_nni.supernet.known_net import known_net
from detnas_nni.supernet.paths import PathSampler, path_sampler
from detnas_nni.training.distributed import joined
from detnas_nni.training.jobs import ClassificationJob, DetectionJob
from detnas_nni.training.loop import train
from detnas_nni.training.pretrained import published_supernet
from detnas_nni.training.runs import finetune_run, imagenet_start, pretrain_run
from detnas_nni.training.weights import CLASSIFIER, Weights, load_weights
from search_spaces import is_fixed


def pretrain(config: Config, *, fresh: bool = False) -> Path:
    """Train the classification supernet and return the path of its weights.

    An interrupted training is resumed, a finished one is left as it is; `fresh` starts over.
    """
    run = pretrain_run(config)
    with joined(config.hardware) as world:
        if not run.is_finished(fresh):
            _check_search(config)
            job = ClassificationJob(config, config.pretrain)
            train(job, run, world, net=_path_sampler(config, len(job.classes)), fresh=fresh)
    return run.result


def _check_search(config: Config) -> None:
    """Raise DetNASError or SpaceError for what a search would refuse after hours of training."""
    check_searchable(config)
    known_net(config, "search")
    search, table = config.search, config.search.constraint.latency_table
    if is_own(search.strategy):
        load_factory("search.strategy", search.strategy)
    # A table may be measured while the supernet is trained.
    if not is_fixed(config.space.name) and (table is None or table.exists()):
        feasible_set(config)


def _path_sampler(config: Config, num_classes: int) -> PathSampler:
    if config.pretrain.macs_bins is None:
        return path_sampler(config, "pretrain")
    table = cost_table(config.space.name, config.search.constraint.resolution)
    zeros = [0] * len(table.blocks)
    head = table.classifier_cost(zeros, num_classes).macs - table.cost(zeros).macs
    return PathSampler(
        config.space.name,
        config.seed,
        config.pretrain.macs_bins,
        macs=lambda ops: table.costs(ops)[:, 0] + head,
    )


_log = logging.getLogger(__name__)


def finetune(config: Config, *, fresh: bool = False) -> Path:
    """Train the detection supernet and return the path of its weights.

    An interrupted training is resumed, a finished one is left as it is; `fresh` starts over.
    """
    check_freeze(config.space.name, config.finetune.freeze, "finetune.freeze")
    run = finetune_run(config)
    with joined(config.hardware) as world:
        if not run.is_finished(fresh):
            _check_search(config)
            job = DetectionJob(config, config.finetune)
            start, paths = partial(_start, config, job), path_sampler(config, "finetune")
            train(job, run, world, net=paths, start_from=start, fresh=fresh)
    return run.result


def _start(config: Config, job: DetectionJob, model: DetectorSpace) -> None:
    """Load what the trunk starts from only now, so that it is not kept while the supernet is trained."""
    job.start_from(_starting_weights(config), model)


def _starting_weights(config: Config) -> Weights | None:
    """A classification supernet to take the trunk from; None for a start from random weights."""
    if config.finetune.init == "scratch":
        return None
    start = imagenet_start(config)
    if start is None:
        weights = load_weights(config.finetune.weights or pretrain_run(config).result)
        _log.info("the trunk starts from %s", weights.path)
    else:
        weights = published_supernet(start)
        _log.info("the trunk starts from %s (%s): %s", start.source, start.licence, start.path)
    weights.expect_supernet(kind=CLASSIFIER, space=config.space.name, options=config.space.options)
    return weights
