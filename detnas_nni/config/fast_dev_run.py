"""`--fast-dev-run`: a config cut down to two iterations, to see within a minute whether a step starts.

If an update of the weights takes more iterations, it has that many.

The configured data is read, checked and split in full; then a handful of images of each split is used. Image
sizes, nets and losses are the configured ones. On a GPU so are the batch sizes, to test the memory; on a CPU
a batch is two images per process.
"""

from __future__ import annotations

from typing import TypeVar

from detnas_nni.config.run_folder import FAST_DEV_RUN
from detnas_nni.config.schema import Config, Training
from detnas_nni.config.updates import passes_per_update
from detnas_nni.errors import AuditError, CheckpointError

_STEPS = 2
_IMAGES = 8

S = TypeVar("S", bound=Training)


def fast_dev_run(config: Config, *, on_gpu: bool) -> Config:
    """The config of such a run, which writes only under `RUN_DIR/fast-dev-run`.

    Raises ConfigError if the steps of a supernet's training do not fit its sampling.
    """
    small_batch = 2 * config.hardware.devices

    def short(training: S, steps: int = _STEPS) -> S:
        changes = {"steps": steps, "checkpoint_every": 1, "log_every": 1}
        if not on_gpu:
            # A batch that the devices cannot share stays as it is, so that the step refuses it.
            shared = training.batch_size % config.hardware.devices == 0
            changes["batch_size"] = min(training.batch_size, small_batch) if shared else training.batch_size
        return training.model_copy(update=changes)

    small_batches = {} if on_gpu else {"calibration_batch_size": 2, "batch_size": 2}
    evaluation = config.evaluation.model_copy(
        update={
            "finetune_iterations": min(config.evaluation.finetune_iterations, _STEPS),
            **small_batches,
        }
    )
    search = config.search.model_copy(
        update={
            "population": 2,
            "generations": 2,
            "parents": 1,
            "mutations": min(config.search.mutations, 1),
            "crossovers": 0,
            "tournament": 1,
        }
    )
    retrain = config.retrain.model_copy(
        update={
            "classifier_dir": None,
            **{
                stage: None if (training := getattr(config.retrain, stage)) is None else short(training)
                for stage in ("pretrain", "finetune")
            },
        }
    )
    return config.model_copy(
        update={
            "run_dir": config.run_dir / FAST_DEV_RUN,
            "pretrain_dir": None,
            "finetune_dir": None,
            "data": config.data.model_copy(update={"max_images": _IMAGES}),
            "pretrain": short(config.pretrain, max(_STEPS, passes_per_update(config, "pretrain"))),
            "finetune": short(config.finetune, max(_STEPS, passes_per_update(config, "finetune"))),
            "evaluation": evaluation,
            "search": search,
            "retrain": retrain,
        }
    )


def advice(error: Exception) -> str:
    """What to add to an error of such a run: a missing file is left by an earlier step of such a run."""
    is_of_this_folder = isinstance(error, CheckpointError | AuditError) and f"/{FAST_DEV_RUN}/" in str(error)
    return " (with --fast-dev-run, as this one)" if is_of_this_folder else ""
