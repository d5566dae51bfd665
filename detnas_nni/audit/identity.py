"""What makes two audits the same one: their nets may stand in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.retrain import OF_SUPERNETS, check_start
from detnas_nni.training.weights import file_hash


def start_of(config: Config) -> str:
    """Where trainings start: classification, supernet, scratch or file."""
    return "file" if config.retrain.weights is not None else config.retrain.init


def audit_identity(config: Config, architectures: list[Architecture]) -> dict[str, str]:
    """Hashes of what the result of a training, and the order that it is compared with, depend on.

    Args:
        config: the experiment.
        architectures: that are trained; each has to fit the weights that trainings start from.

    Raises:
        CheckpointError, ConfigError: a net has nothing to start from, or it does not fit.
    """
    starts = [check_start(config, architecture) for architecture in architectures]
    start = "none" if starts[0] is None else file_hash(starts[0])
    return {"training": _training(config), "start": start, **search_identity_of(config.search_dir)}


def search_identity_of(search_dir: Path) -> dict[str, str]:
    """Of the search that a folder holds, as it wrote it down: `search`, its config's, and `supernet`."""
    try:
        values: Any = json.loads((search_dir / "search.json").read_text(encoding="utf-8"))
        return {"search": str(values["config"]), "supernet": str(values["supernet"])}
    except (OSError, ValueError, KeyError, TypeError):  # a journal may come alone, from elsewhere
        return {"search": "unknown", "supernet": "unknown"}


def _training(config: Config) -> str:
    retraining, init = config.retrain, start_of(config)
    stages = {"finetune": retraining.finetune or config.finetune}
    others = {}
    if init == "classification":
        stages["pretrain"] = retraining.pretrain or config.pretrain
        others["classification"] = config.require("data.classification").model_dump(mode="json")
    settings = {
        stage: {key: value for key, value in training.identity().items() if key not in OF_SUPERNETS}
        for stage, training in stages.items()
    }
    return config.fingerprint(
        *("seed", "space", "detector"),
        data=config.require("data.detection"),
        metric=config.evaluation.metric,
        init=init,
        whole=retraining.held_out,
        settings=settings,
        **others,
    )
