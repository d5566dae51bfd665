"""A finished detector on images: boxes drawn into copies of them, and as COCO results."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_bounding_boxes

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config, Hardware
from detnas_nni.config.run_folder import DETECTIONS, predictions_folder
from detnas_nni.data.images import BadImageError, read_image
from detnas_nni.data.records import ImageRecord
from detnas_nni.data.splits import DetectionSplits
from detnas_nni.errors import DataError, UsageError
from detnas_nni.finished.nets import FinishedDetector
from detnas_nni.finished.sources import detection_splits, is_net_file, open_net
from detnas_nni.models.hardware import prepare
from detnas_nni.util.files import replace_file, write_json
from detnas_nni.util.user_files import IMAGE_SUFFIXES

_log = logging.getLogger(__name__)

# Distinguishable colours, by class [Okabe and Ito, 2008, without black and yellow].
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2")


@dataclass(frozen=True)
class Predicted:
    """The results of a prediction."""

    images: int
    """images that were read"""
    unreadable: tuple[Path, ...]
    detections: int
    json: Path
    out: Path

    def __str__(self) -> str:
        lines = [
            f"{self.json}: {self.detections} detections in {self.images} images",
            f"{self.out}: the images with the boxes drawn",
        ]
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} files could not be read, see above")
        return "\n".join(lines)


def predict(
    weights: Path,
    images: Sequence[str],
    *,
    config: Config | None = None,
    architecture: Path | None = None,
    score: float = 0.5,
    out: Path | None = None,
    json: Path | None = None,
) -> Predicted:
    """Detect objects in images; writes a copy of each with the boxes drawn, and one JSON file.

    The JSON file is a list of COCO results, `image_id`, `category_id`, `bbox` (x, y, width, height in pixels)
    and `score`, plus `file_name` and `category`. Image ids are those of `image_ids`, category ids those of
    the training data, as in its annotation file. A photo is rotated as its EXIF orientation says, and so is
    its copy, unless the config says that photos are used as stored (`data.detection.exif`); an image of the
    config's own data as in training.

    Args:
        weights: as for `sources.open_net`.
        images: files, folders and patterns, see `image_files`.
        config: the experiment; without it, and with weights that are no exported file, category ids count
            from 1, of which a warning tells.
        architecture: a JSON file: what the net has to be, or, for a supernet, the candidate.
        score: detections below it are left out.
        out: the folder of the drawn images; `RUN_DIR/predictions`, without a config `predictions`, if None.
        json: the file; `detections.json` in that folder if None.

    Raises:
        UsageError: an image is not there, or would be overwritten.
        CheckpointError: the weights are missing, damaged or of another net.
        DataError: no image can be read.
    """
    out = out or predictions_folder(Path() if config is None else config.run_dir)
    json = json or out / DETECTIONS
    files = image_files(images, leave_out=out)
    if any(file.parent.resolve() == out.resolve() for file in files):
        raise UsageError(f"{out}: holds images that are to be read; name another folder with --out")
    trusted = () if config is None else (config.space.name,)
    chosen = None if architecture is None else Architecture.from_json(architecture, trusted=trusted)
    splits = None if config is None else detection_splits(config)
    net = open_net(weights, config=config, architecture=chosen, splits=splits)
    if config is None and not is_net_file(weights):
        _log.warning(
            "%s: does not have the data's category ids, so they count from 1; pass its config", weights
        )
    device = prepare(Hardware() if config is None else config.hardware)
    detector = net.to(device)
    data = None if config is None else config.data.detection
    upright = data is None or data.exif != "stored"
    known = records_by_file(splits)
    records = {file: record for split in known for file, record in split.items()}
    results: list[dict[str, Any]] = []
    unreadable: list[Path] = []
    for image_id, file, name in zip(image_ids(files, known), files, drawn_names(files), strict=True):
        try:
            image = _read(file, records.get(file.resolve()), upright)
        except BadImageError as error:
            _log.warning("%s: %s; skipped", file, error)
            unreadable.append(file)
            continue
        found = detect(detector, image.to(device), score)
        results += coco_results(detector, found, image_id, file)
        _write_drawing(image, found, detector.classes, out / name)
    if len(unreadable) == len(files):
        raise DataError(f"none of the {len(files)} images can be read")
    write_json(json, results)
    return Predicted(len(files) - len(unreadable), tuple(unreadable), len(results), json, out)


def _read(file: Path, record: ImageRecord | None, upright: bool) -> Tensor:
    """An image of the config's data is turned as its boxes are, so that results fit the annotations."""
    if record is None:
        return read_image(file, upright=upright)
    return read_image(file, record.size, upright=record.upright)


def image_ids(files: Sequence[Path], known: Sequence[Mapping[Path, ImageRecord]]) -> list[int | str]:
    """The annotation file's own ids if all images are in one of the sets, else numbers from 1.

    Args:
        files: the images.
        known: those of each set, as `records_by_file` gives them.
    """
    places = [file.resolve() for file in files]
    for split in known:
        own = [split[place].own_id if place in split else None for place in places]
        if None not in own and len(set(own)) == len(own):
            return own
    return list(range(1, len(files) + 1))


def records_by_file(splits: DetectionSplits | None) -> list[dict[Path, ImageRecord]]:
    """The images of the test, search and training splits, the last as the user named it, by real path."""
    found = [] if splits is None else [splits.test, splits.search, splits.whole]
    known = [
        {record.file.resolve(): record for record in split.records} for split in found if split is not None
    ]
    if splits is not None and "test" in splits.held_out:
        known[-1] |= known[0]
    return known


@torch.no_grad()
def detect(detector: FinishedDetector, image: Tensor, score: float) -> dict[str, Tensor]:
    """The detections, on the CPU, in an RGB image (3, H, W) with at least this score."""
    (found,) = detector([image])
    kept = found["scores"] >= score
    return {name: values[kept].cpu() for name, values in found.items()}


def coco_results(
    detector: FinishedDetector, found: dict[str, Tensor], image_id: int | str, file: Path
) -> Iterator[dict[str, Any]]:
    """One image's detections, as COCO results."""
    for box, label, score in zip(
        *(found[key].tolist() for key in ("boxes", "labels", "scores")), strict=True
    ):
        x1, y1, x2, y2 = box
        yield {
            "image_id": image_id,
            "file_name": str(file),
            "category_id": detector.category_ids[label],
            "category": detector.classes[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }


def draw(image: Tensor, found: dict[str, Tensor], classes: Sequence[str]) -> Tensor:
    """A copy of an RGB uint8 image (3, H, W) with each detection's box, class and score."""
    if len(found["boxes"]) == 0:
        return image
    labels, side = found["labels"].tolist(), max(image.shape[1:])
    colours = [_COLOURS[label % len(_COLOURS)] for label in labels]
    boxed = draw_bounding_boxes(image, found["boxes"], colors=colours, width=max(1, side // 300))
    # Not with torchvision, whose labels are 10 pixels high in a photo of any size.
    picture = to_pil_image(boxed)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(max(10, side // 50))
    for box, label, score, colour in zip(
        found["boxes"].tolist(), labels, found["scores"].tolist(), colours, strict=True
    ):
        text = f"{classes[label]} {score:.2f}"
        x, y = box[0], max(box[1] - font.size, 0)  # above the box, if that is in the image
        pen.rectangle(pen.textbbox((x, y), text, font), fill=colour)
        pen.text((x, y), text, "black", font)
    return pil_to_tensor(picture)


def _write_drawing(image: Tensor, found: dict[str, Tensor], classes: Sequence[str], path: Path) -> None:
    drawn = to_pil_image(draw(image, found, classes))
    replace_file(path, lambda temporary: drawn.save(temporary, format="PNG"))


def image_files(names: Sequence[str], leave_out: Path | None = None) -> list[Path]:
    """The files, each once, in the order of the names; a folder's and a pattern's are sorted.

    Args:
        names: a file; a folder, for all images in it at any depth; or a pattern such as `a/*.jpg`, as a shell
            leaves it if nothing matches or if it is quoted.
        leave_out: a folder of drawn images, which are not input even if it lies in a named folder, matches a
            pattern, or is one of several names, as where a shell has expanded `*`.

    Raises:
        UsageError: there is no such file or folder, or no image in it.
    """
    found: dict[Path, None] = {}
    for name in names:
        if leave_out is not None and len(names) > 1 and Path(name).resolve() == leave_out.resolve():
            continue
        files = _files(name, leave_out)
        if not files:
            raise UsageError(f"{name}: there is no image; expected files of {', '.join(IMAGE_SUFFIXES)}")
        found |= dict.fromkeys(files)
    return list(found)


def _files(name: str, leave_out: Path | None) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        images = (
            file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
        )
        lies_within = leave_out is not None and _is_below(leave_out, path)
        return sorted(file for file in images if not (lies_within and _is_below(file, leave_out)))
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise UsageError(f"{name}: there is no such file or folder")
    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - pathlib's takes no absolute pattern
    files = [file for match in matches for file in _files(match, leave_out)]
    return [file for file in files if leave_out is None or not _is_below(file, leave_out)]


def _is_below(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def drawn_names(files: Sequence[Path]) -> list[str]:
    """A name for the drawn image of each file: its own, as PNG, numbered where two would be the same."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = f"{file.stem}.png", 2
        while name.lower() in taken:  # a file system may ignore case
            name, number = f"{file.stem}-{number}.png", number + 1
        taken.add(name.lower())
        names.append(name)
    return names
