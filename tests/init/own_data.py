"""Small sets of a user's own, in both forms, to be changed by a test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detnas_nni.init.look import Look, look
from detnas_nni.init.sources import coco_sources
from detnas_nni.init.timing import Speeds, TrainingPace
from tests.data.data_builders import coco_content, write_coco, write_image

Change = Callable[[dict[str, Any]], None]

SPEEDS = Speeds(
    start=4.0,
    crop=0.1,
    pretrain=TrainingPace(start=1.0, step=0.1, steps=20),
    finetune=TrainingPace(start=2.0, step=0.5, steps=20),
    decode=0.01,
    build=0.1,
    calibrate=0.02,
    detect=0.03,
    images=32,
    took=30.0,
)
"""As if measured on a machine."""


def coco(root: Path, name: str = "train", count: int = 12, change: Change | None = None) -> list[str]:
    """A COCO split of `count` images of 40x30: its arguments of `detnas init`; `change` edits the JSON."""
    content = coco_content(count)
    if change is not None:
        change(content)
    folder = root / name
    images, annotations = write_coco(folder, content, images=False)
    # Every split has pictures of its own.
    first = 1000 * sum(map(ord, name))
    for number in range(count):
        write_image(images / f"{number}.png", 40, 30, seed=first + number)
    return [str(images), str(annotations.rename(folder / f"{name}.json"))]


def edit(pair: list[str], change: Change) -> None:
    """Change a split's annotation file."""
    file = Path(pair[1])
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def look_at(shapes: Path) -> Look:
    """What `init` sees of the generated set, with all three splits."""
    train, search, test = (
        [f"{shapes}/detection/{split}", f"{shapes}/detection/{split}.json"]
        for split in ("train", "search", "test")
    )
    return look(coco_sources(train, search, test, None))
