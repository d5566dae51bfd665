"""Step 1: the classification supernet, on an ImageFolder."""

from __future__ import annotations

from pathlib import Path

from detnas_nni.config import Config
from detnas_nni.cost import cost_table
from detnas_nni.supernet.paths import PathSampler
from detnas_nni.supernet.sampling import path_sampler
from detnas_nni.training.distributed import joined
from detnas_nni.training.jobs import ClassificationJob
from detnas_nni.training.loop import train
from detnas_nni.training.runs import pretrain_run


def pretrain(config: Config, *, fresh: bool = False) -> Path:
    """Train the classification supernet; gives the path of its weights.

    A training that was interrupted is gone on with, a finished one is left as it is; `fresh` starts over.
    """
    run = pretrain_run(config)
    with joined(config.hardware) as world:
        if not run.is_finished(fresh):
            job = ClassificationJob(config, config.pretrain)
            train(job, run, world, net=_path_sampler(config, len(job.classes)), fresh=fresh)
    return run.result


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
