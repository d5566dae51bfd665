"""How fast images are read, whether a net has to wait for them, and whether the loader's memory grows.

    python benchmarks/loading.py

takes about half an hour on two cores, `--only rate` three minutes, and prints one JSON object:
- `rate`: images per second on one core, from files to a batch, by ours and by torchvision's two plain paths:
  `pil` (ImageFolder's reader, then the transforms) and `decode_jpeg` (torchvision.io, then the transforms),
  both ending with what our nets take (`bgr`: BGR in 0..255) and with what torchvision's take (`rgb`: RGB in
  0..1). The ratios are of ours to the faster of the two, medians over rounds in which all take turns; above 1
  ours is faster. `decode` is only the reading of the file. Ours also seeds each image and checks its size.
- `waiting`: the share of time for which a net's steps wait for their batches, by the number of loader
  workers; a step is a supernet's: forward, backward and SGD of one path, on `--device`. The first batch,
  before which workers start, is left out.
- `memory`: megabytes by which the loader's processes grew from the first to the last tenth of the batches, on
  the quickstart's images: private and shared memory, without files in the page cache.

Images are drawn: smooth ones with noise, which take as many bytes per pixel as COCO's (0.5); `--photos` names
a folder of JPEG files to use instead of drawn ones.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loading_plain import FORMS, READERS, plain_batches, plain_decode
from nni.nas.space import model_context
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from detnas_nni.architecture import Architecture
from detnas_nni.config import Detector
from detnas_nni.config.reading import load_config
from detnas_nni.data import transforms
from detnas_nni.data.datasets import ClassificationDataset, DetectionDataset, ImageDataset
from detnas_nni.data.imagenet import ClassificationSet
from detnas_nni.data.images import read_image
from detnas_nni.data.loaders import TrainBatches, classification_collate, detection_collate, train_loader
from detnas_nni.data.records import DetectionSet, ImageRecord
from detnas_nni.models import ClassifierSpace, DetectorSpace
from search_spaces import layout

_QUICKSTART = Path(__file__).parent.parent / "experiments/quickstart/detnas.yaml"
_BOXES = 7  # per image, as in COCO
_IMAGES = 64  # files per size, which are read repeatedly: the disk is not measured
_SMALL_BATCH = 8  # for the memory, which depends on the number of batches
_PARTS = ("rate", "waiting", "memory")


@dataclass(frozen=True)
class Case:
    """A size of images, and the net for it."""

    width: int
    height: int
    batch_size: int
    space: str
    classes: int
    side: int | None = None
    """side of a classifier's images; None for a detector"""
    jitter: float = 0.4
    min_scale: float = 0.08
    detector: Detector | None = None

    def files(self, folder: Path, photos: Path | None) -> list[Path]:
        if photos is not None and self.width > 128:
            return sorted(photos.glob("*.jpg"))[:_IMAGES]
        return [draw(folder / f"{self.width}-{number}.jpg", self, number) for number in range(_IMAGES)]

    def transform(self, training: bool) -> Callable[..., Any]:
        """Ours."""
        if self.side is None:
            return transforms.detection_train() if training else transforms.detection_eval()
        if training:
            return transforms.classification_train(self.side, self.jitter, self.min_scale)
        return transforms.classification_eval(self.side)

    def dataset(self, files: Sequence[Path], training: bool) -> ImageDataset:
        transform = self.transform(training)
        if self.side is None:
            return DetectionDataset(detection_set(files), transform)
        labels = np.arange(len(files)) % self.classes
        return ClassificationDataset(
            ClassificationSet("drawn", tuple(map(str, range(self.classes))), tuple(files), labels), transform
        )

    def net(self) -> nn.Module:
        """One path."""
        ops = tuple(number % len(choice.candidates) for number, choice in enumerate(layout(self.space)))
        with model_context(Architecture(self.space, ops).choices):
            if self.side is None:
                return DetectorSpace(self.space, self.classes, self.detector)
            return ClassifierSpace(self.space, self.classes)

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        return sum(net(*batch).values()) if self.side is None else cross_entropy(net(batch[0]), batch[1])


def cases() -> dict[str, Case]:
    quickstart = load_config(_QUICKSTART)
    pretrain, detector = quickstart.pretrain, quickstart.detector
    side = quickstart.data.classification.image_size
    return {
        "quickstart_classification": Case(
            side, side, pretrain.batch_size, "tiny", 6, side, pretrain.color_jitter, pretrain.crop_min_scale
        ),
        "quickstart_detection": Case(128, 96, quickstart.finetune.batch_size, "tiny", 6, detector=detector),
        "imagenet": Case(500, 375, 32, "small", 1000, 224),
        "coco": Case(640, 480, 2, "small", 80, detector=Detector()),
    }


def main() -> None:
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", nargs="+", choices=known, default=list(known))
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="of the rate")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="of a net")
    parser.add_argument("--device", default="cpu", help="of a net")
    parser.add_argument("--iterations", type=int, default=20_000, metavar="N", help="batches, for the memory")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)
    torch.set_num_threads(1)
    result: dict[str, Any] = {"photos": options.photos is not None, **{part: {} for part in options.only}}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            case = known[name]
            files = case.files(Path(folder), options.photos)
            if "rate" in options.only:
                result["rate"][name] = rates(case, files, options.rounds)
            if "waiting" in options.only:
                result["waiting"][name] = waiting(case, files, options)
            if "memory" in options.only and name.startswith("quickstart"):
                result["memory"][name] = memory(case, files, options.iterations)
    print(json.dumps(result, indent=2))


def rates(case: Case, files: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Images per second on one core: only the reading, and all of it with each transform."""
    readers = {"ours": read_image, **{reader: partial(plain_decode, reader) for reader in READERS}}
    measured = {
        "decode": rate({who: partial(_for_each, read, files) for who, read in readers.items()}, rounds)
    }
    groups = [range(at, at + case.batch_size) for at in range(0, len(files), case.batch_size)]
    for training in (True, False):
        dataset = case.dataset(files, training)
        paths = {"ours": partial(batch, case, dataset)}
        for reader, form in product(READERS, FORMS):
            paths[f"{reader}_{form}"] = plain_batches(reader, form, case, dataset, training)
        measured["training" if training else "evaluation"] = rate(
            {who: partial(_for_each, path, groups) for who, path in paths.items()}, rounds
        )
    return {name: figures(seconds, len(files)) for name, seconds in measured.items()}


def batch(case: Case, dataset: ImageDataset, indices: Sequence[int]) -> Any:
    """Our batch, as a loader's worker makes it; with different crops each time."""
    collate = detection_collate if case.side is None else classification_collate
    return collate(dataset.__getitems__([(index, random.getrandbits(32)) for index in indices]))


def _for_each(function: Callable[[Any], Any], arguments: Sequence[Any]) -> None:
    for argument in arguments:
        function(argument)  # and drops the result, as a training does


def rate(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        # The order changes, since each finds the memory as the one before left it.
        for name in sorted(runs, reverse=number % 2 == 1):
            started = time.process_time()
            runs[name]()
            seconds[name].append(time.process_time() - started)
    return {name: of_one[1:] for name, of_one in seconds.items()}


def figures(seconds: dict[str, list[float]], images: int) -> dict[str, float]:
    """Images per second, and the time of the fastest plain path over ours, for each format."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {}
    for form in FORMS if len(seconds) > 3 else ("",):
        fastest = min((name for name in seconds if name != "ours" and name.endswith(form)), key=medians.get)
        rounds = zip(seconds["ours"], seconds[fastest], strict=True)
        ratios[f"ratio_{form}".rstrip("_")] = round(
            statistics.median(other / own for own, other in rounds), 3
        )
    return {**ratios, **{name: round(images / median) for name, median in medians.items()}}


def waiting(case: Case, files: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    """The share of the steps' time in which a net waits, by workers; and the seconds of a step."""
    net = case.net().to(options.device).train()
    optimizer = SGD(net.parameters(), lr=1e-4)
    shares: dict[str, Any] = {}
    for workers in options.workers:
        dataset = case.dataset(files, training=True)
        batches = TrainBatches(len(dataset), case.batch_size, options.steps + 1, seed=0)
        waits, steps = [], []
        asked = time.perf_counter()
        for batch in train_loader(dataset, batches, workers):
            batch = to(options.device, batch)
            came = time.perf_counter()
            loss = case.loss(net, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for a GPU
            waits.append(came - asked)
            asked = time.perf_counter()
            steps.append(asked - came)
        waited, computed = sum(waits[1:]), sum(steps[1:])
        shares[f"{workers}_workers"] = {
            "share": round(waited / (waited + computed), 4),
            "seconds_a_step": round(statistics.median(steps[1:]), 4),
        }
    return shares


def memory(case: Case, files: Sequence[Path], iterations: int) -> dict[str, Any]:
    """Megabytes of the loader's processes, with two workers."""
    import psutil

    dataset = case.dataset(files, training=True)
    batches = TrainBatches(len(dataset), _SMALL_BATCH, iterations, seed=0)
    every = max(1, iterations // 200)
    seen: dict[str, list[float]] = {}
    for number, _ in enumerate(train_loader(dataset, batches, workers=2)):
        if number % every == 0:
            processes = {"main": psutil.Process()}
            processes |= {f"worker_{n}": child for n, child in enumerate(processes["main"].children())}
            for name, process in processes.items():
                seen.setdefault(name, []).append(megabytes(process.pid))
    tenth = max(1, len(seen["main"]) // 10)
    return {
        name: {
            "first_tenth": round(statistics.mean(values[:tenth]), 2),
            "last_tenth": round(statistics.mean(values[-tenth:]), 2),
            "growth": round(statistics.mean(values[-tenth:]) - statistics.mean(values[:tenth]), 2),
        }
        for name, values in seen.items()
    } | {"iterations": iterations, "batch_size": _SMALL_BATCH}


def megabytes(pid: int) -> float:
    """A process's memory, without files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def draw(file: Path, case: Case, seed: int) -> Path:
    """A smooth image with noise, like a camera sensor's."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, case.height // 24), max(2, case.width // 24), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((case.width, case.height), Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 9, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return file


def detection_set(files: Sequence[Path]) -> DetectionSet:
    """The files with boxes drawn at random."""
    rng = np.random.default_rng(0)
    records = []
    for number, file in enumerate(files, start=1):
        with Image.open(file) as image:
            width, height = image.size
        corners = rng.uniform(0, 0.5, (_BOXES, 2)) * (width, height)
        sides = rng.uniform(0.2, 0.5, (_BOXES, 2)) * (width, height)
        rows = [
            ((*low, *high), 1 + number % 6, False, False, 1.0)
            for low, high in zip(corners, corners + sides, strict=True)
        ]
        records.append(ImageRecord.of_rows(number, file, width, height, rows))
    return DetectionSet("drawn", tuple("abcdef"), tuple(range(1, 7)), tuple(records))


def to(device: str, batch: Any) -> Any:
    """A batch on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to(device, value) for key, value in batch.items()}
    return [to(device, value) for value in batch]


if __name__ == "__main__":
    main()
