"""A detection data set in memory: what the COCO and VOC readers return and everything else uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from detnas_nni.data.copies import group_numbers, seeded_choice, short_names
from detnas_nni.data.corrections.units import Reading
from detnas_nni.data.problems import Correction
from detnas_nni.errors import DataError, EvaluationError


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and its N boxes, in its pixels.

    Attributes:
        image_id: the id in the annotation file (COCO) or the 1-based position in the image set (VOC); a
            number from 1 on if metrics cannot work with the file's ids.
        file: the image file.
        width, height: in pixels, of the image in the orientation that its boxes refer to.
        boxes: (N, 4) float32, absolute x1, y1, x2, y2 inside the image, each with an area.
        labels: (N,) int64 in 1..K; 0 is the background.
        crowd: (N,) bool, COCO's `iscrowd`: a region of many objects; not trained on, ignored when matched.
        difficult: (N,) bool, VOC's flag: hard to recognise; ignored by its metric.
        area: (N,) float32, square pixels; the segment's area where the data set gives one (COCO).
        upright: whether a photo is turned as EXIF says if its size does not decide.
        own_id: the annotation file's own id, for output.
    """

    image_id: int
    file: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    area: np.ndarray
    upright: bool = True
    own_id: int | str | None = None

    @classmethod
    def of_rows(
        cls, image_id: int, file: Path, width: int, height: int, rows: Sequence[tuple]
    ) -> "ImageRecord":
        """Build a record from one row per box: (x1, y1, x2, y2), label, crowd, difficult, area."""
        boxes, labels, crowd, difficult, area = zip(*rows, strict=True) if rows else ((),) * 5
        return cls(
            image_id=image_id,
            file=file,
            width=width,
            height=height,
            boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            labels=np.array(labels, dtype=np.int64),
            crowd=np.array(crowd, dtype=bool),
            difficult=np.array(difficult, dtype=bool),
            area=np.array(area, dtype=np.float32),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def trainable(self, difficult: bool = False) -> np.ndarray:
        """Which boxes (N,) bool to train on: no crowds, and difficult ones only if asked for.

        The VOC devkit does not count difficult objects and maskrcnn-benchmark does not train on them.
        """
        return ~self.crowd if difficult else ~(self.crowd | self.difficult)


@dataclass(frozen=True, eq=False)
class DetectionSet:
    """Images with boxes of K classes.

    Attributes:
        name: its name in messages, usually the annotation file's path.
        classes: K names; the class at position i has label i + 1.
        category_ids: K ids of the data set (COCO's may have gaps), in the order of `classes`.
        records: the images.
        dropped: how many entries the reader left out, by reason.
        notes: how often the reader noted what `data.problems` names, such as clipped boxes.
        problems: the first problems, in words.
        corrections: what was read differently from how it is written, or is worth reporting, by kind.
        own_category_ids: the annotation file's own ids, for output; `category_ids` differ if metrics cannot
            work with those.
        reading: how its boxes were read.
    """

    name: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: tuple[ImageRecord, ...]
    dropped: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    notes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    problems: tuple[str, ...] = ()
    corrections: tuple[Correction, ...] = ()
    own_category_ids: tuple[int | str, ...] = ()
    reading: Reading | None = None

    def __len__(self) -> int:
        return len(self.records)

    def ground_truth(self) -> dict[str, Any]:
        """The set as a COCO JSON object for pycocotools, with the data set's own image and category ids.

        Annotations are numbered from 1: pycocotools takes the id 0 for "unmatched". `difficult` is kept as a
        key, which VOC's metric reads and COCO's does not.
        """
        annotations: list[dict[str, Any]] = []
        for record in self.records:
            corners = record.boxes.astype(np.float64)
            sides = corners[:, 2:] - corners[:, :2]
            for row in range(len(corners)):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": record.image_id,
                        "category_id": self.category_ids[record.labels[row] - 1],
                        "bbox": [*corners[row, :2].tolist(), *sides[row].tolist()],
                        "area": float(record.area[row]),
                        "iscrowd": int(record.crowd[row]),
                        "difficult": int(record.difficult[row]),
                    }
                )
        return {
            "images": [
                {"id": r.image_id, "file_name": r.file.name, "width": r.width, "height": r.height}
                for r in self.records
            ],
            "annotations": annotations,
            "categories": [
                {"id": category, "name": name}
                for category, name in zip(self.category_ids, self.classes, strict=True)
            ],
        }

    def subset(self, indices: Sequence[int], name: str | None = None) -> "DetectionSet":
        """The images at `indices`, in that order."""
        records = tuple(self.records[index] for index in indices)
        return replace(self, name=self.name if name is None else name, records=records)

    def hold_out(
        self, count: int, seed: int, copies: Sequence[Sequence[str]] = ()
    ) -> tuple["DetectionSet", "DetectionSet"]:
        """Split off `count` images: (the rest, the held-out part), disjoint, each in the set's order.

        The paper (section 4.1) holds 5k images out of COCO's trainval35k to search on. The choice depends
        only on the seed and the file names.

        Args:
            count: how many; fewer are held out if groups of copies do not fit exactly.
            seed: the config's.
            copies: groups of file names, as `group_numbers` takes them, that are held out together.

        Raises:
            DataError: `count` is below 1 or leaves nothing for the rest, or every group of copies is larger.
        """
        # The key has no folder, so that the split does not change when the data moves, but it has the id, as
        # images in different folders may share a name.
        keys = [f"{record.file.name}\0{record.image_id}" for record in self.records]
        return self._part("holdout", keys, count, seed, copies)

    def hold_out_test(
        self, count: int, copies: Sequence[Sequence[str]] = ()
    ) -> tuple["DetectionSet", "DetectionSet"]:
        """Split a test split off: (the rest, the test split), as `hold_out`, but for good.

        The choice depends only on the files' names (with folders where names repeat), neither on the seed nor
        on the annotations' ids: an image stays in it when others are added, and results can be compared. The
        last image that has a class, or the last group of copies, stays in the rest.
        """
        names = short_names([record.file for record in self.records])
        keys = [names[record.file] for record in self.records]
        has = [frozenset(record.labels[record.trainable()].tolist()) for record in self.records]
        return self._part("test_holdout", keys, count, 0, copies, has)

    def _part(
        self,
        key: str,
        keys: Sequence[str],
        count: int,
        seed: int,
        copies: Sequence[Sequence[str]],
        has: Sequence[frozenset[int]] = (),
    ) -> tuple["DetectionSet", "DetectionSet"]:
        """The rest and the images that `seeded_choice` takes; `key` is the config's, for errors."""
        if not 1 <= count < len(self):
            raise DataError(
                f"{self.name}: data.detection.{key} is {count}, expected 1 to {len(self) - 1}, as there are "
                f"{len(self)} images to hold out of."
            )
        groups = group_numbers([record.file for record in self.records], copies) if copies else None
        held = seeded_choice(keys, count, seed, groups, has)
        if not held:
            raise DataError(
                f"{self.name}: no group of copies of one picture has {count} images or fewer, so none can "
                f"be held out as a whole; raise data.detection.{key}, or name a split of other pictures."
            )
        rest = sorted(set(range(len(self))) - set(held))
        return (
            self.subset(rest, f"{self.name} (without the {len(held)} held out)"),
            self.subset(held, f"{self.name} ({len(held)} held out)"),
        )

    def to_coco_detections(
        self, image_id: int, boxes_xyxy: Any, scores: Any, labels: Any
    ) -> list[dict[str, Any]]:
        """One image's detections as COCO result entries.

        Args:
            image_id: the image's id in this set.
            boxes_xyxy: (N, 4) absolute corners, tensor or array.
            scores: (N,) confidences.
            labels: (N,) in 1..K.

        Raises:
            EvaluationError: a label is not in 1..K.
        """
        corners = _as_array(boxes_xyxy).astype(np.float64).reshape(-1, 4)
        corners[:, 2:] -= corners[:, :2]
        detections = []
        for box, score, label in zip(
            corners.tolist(), _as_array(scores).tolist(), _as_array(labels).tolist(), strict=True
        ):
            if not 1 <= label <= len(self.classes):
                raise EvaluationError(
                    f"{self.name}: image {image_id} has a detection of label {label}, "
                    f"expected 1 to {len(self.classes)}."
                )
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": self.category_ids[int(label) - 1],
                    "bbox": box,
                    "score": float(score),
                }
            )
        return detections


def check_disjoint(
    first: DetectionSet,
    second: DetectionSet,
    expected: str = "splits without a common image, or the AP says nothing about unseen images",
) -> None:
    """Make sure that two sets share no image file; links are resolved.

    Args:
        first, second: the sets, by default two splits.
        expected: what the message says was expected.

    Raises:
        DataError: they share one; it is named.
    """
    seen = _resolved_files(first)
    shared = [file for file in _resolved_files(second) if file in seen]
    if shared:
        raise DataError(
            f"{first.name} and {second.name} share {len(shared)} image file(s), the first is {shared[0]}; "
            f"expected {expected}."
        )


def _resolved_files(images: DetectionSet) -> dict[Path, None]:
    """The set's real files in order. Folders are resolved once: resolving 118k COCO paths takes long."""
    folders: dict[Path, Path] = {}
    files: dict[Path, None] = {}
    for record in images.records:
        parent = record.file.parent
        if parent not in folders:
            folders[parent] = parent.resolve()
        file = folders[parent] / record.file.name
        files[file.resolve() if file.is_symlink() else file] = None
    return files


def _as_array(values: Any) -> np.ndarray:
    """An array of a list, an array or a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values)
