"""How long one training of an audit takes here, measured on a few real steps in a separate process.

Separate, since on a GPU it would keep memory that the trainings need.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.errors import AuditError, DetNASError

_LONGEST = 300  # characters of an error


@dataclass(frozen=True)
class Timing:
    """Attributes:
    each: seconds of a whole training, from the start of its process to its AP.
    steps: how many steps of the detector were timed.
    step: seconds of each.
    took: the whole measurement.
    """

    each: float
    steps: int
    step: float
    took: float


def measure(config: Path, architecture: Path) -> Timing:
    """Time a net's training; raises AuditError if it cannot be trained.

    Args:
        config: the file of its own config.
        architecture: the net's file.
    """
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, str(config), str(architecture)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        *_, last = ended.stderr.strip().splitlines() or [f"it ended with status {ended.returncode}"]
        raise AuditError(f"--hours: a few steps of {architecture} cannot be timed: {last[:_LONGEST]}")
    return Timing(**json.loads(ended.stdout.splitlines()[-1]), took=time.perf_counter() - began)


def _measured(config: Config, architecture: Architecture) -> dict[str, float]:
    """The fields of `Timing` except the last."""
    from nni.nas.space import model_context

    from detnas_nni.data.splits import open_detection
    from detnas_nni.evaluation.tasks import DetectionTask
    from detnas_nni.init.timing import (
        TimedClassification,
        TimedDetection,
        on_one_device,
        quiet,
        start_up,
        timed,
    )

    retraining = config.retrain
    settings = {
        "pretrain": retraining.pretrain or config.pretrain,
        "finetune": retraining.finetune or config.finetune,
    }
    with tempfile.TemporaryDirectory(prefix="detnas-audit-") as name, quiet():
        folder = Path(name)
        short = on_one_device(config.model_copy(update=settings), folder)
        detector = timed(TimedDetection(short, short.finetune), folder / "detector", architecture)
        each = start_up() + detector.start + settings["finetune"].steps * detector.step
        if retraining.init == "classification" and retraining.weights is None:
            job = TimedClassification(short, short.pretrain)
            classifier = timed(job, folder / "classifier", architecture)
            each += classifier.start + settings["pretrain"].steps * classifier.step
        task = DetectionTask(short, "test", official=True)
        with model_context(architecture.choices):
            net = task.build().to(task.device).eval()
        began = time.perf_counter()
        task.measure(net)
        an_image = (time.perf_counter() - began) / task.measured_images
        splits = open_detection(config.require("data.detection"), config.seed, config.data.max_images)
        each += an_image * len(splits.test)
    return {"each": each, "steps": detector.steps, "step": detector.step}


def _main(config: str, architecture: str) -> int:
    try:
        loaded = load_config(config)
        net = Architecture.from_json(architecture, trusted=[loaded.space.name])
        print(json.dumps(_measured(loaded, net)))
    except DetNASError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
