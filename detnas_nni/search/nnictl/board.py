"""A trial's scalars for the TensorBoard that NNI's web UI opens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def write_board(metrics: dict[str, float], parts: Sequence[float]) -> Path | None:
    """Write a candidate's fitness on the parts of the split, and what it came to, where NNI's web UI looks.

    The step is the share of the search split in percent. Gives the folder; None outside of NNI's local
    service.
    """
    folder = _folder()
    if folder is None:
        return None
    # Here, behind the evaluation: a trial's start is imports.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    scalars = [("fitness", value, 100 * n // len(parts)) for n, value in enumerate(parts, start=1)]
    scalars += [(name, value, 100) for name, value in metrics.items() if name != "default"]
    for name, value, step in scalars:
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        writer.add_event(Event(step=step, summary=summary))
    writer.close()
    return folder


def _folder() -> Path | None:
    """NNI 3.0 runs a trial in EXPERIMENT/environments/NAME/trials/ID, and looks for its TensorBoard in
    EXPERIMENT/trials/ID/output, to which nothing brings it."""
    own = os.environ.get("NNI_OUTPUT_DIR")
    if not own:
        return None
    trial = Path(own)
    if trial.parent.name != "trials" or trial.parents[2].name != "environments":
        return None
    return trial.parents[3] / "trials" / trial.name / "output" / "tensorboard"
