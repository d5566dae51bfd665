"""Several annotation files as one split, such as the trainval sets of VOC2007 and VOC2012."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from types import MappingProxyType

import numpy as np

from detnas_nni.data.records import DetectionSet, ImageRecord, check_disjoint
from detnas_nni.errors import DataError
from detnas_nni.util.text import show


def join(parts: Sequence[DetectionSet], classes: Sequence[str]) -> DetectionSet:
    """All images of the parts, in order.

    Images are numbered anew from 1, and categories by their labels: the ids of two files are each file's own,
    and may collide (a VOC image has its line's number).

    Args:
        parts: the sets.
        classes: K names in the order of their labels, among which are those of every part.

    Raises:
        DataError: two parts share an image file.
    """
    for first, second in combinations(parts, 2):
        check_disjoint(first, second, "each image in one source alone, or it would count twice")
    records: list[ImageRecord] = []
    dropped: Counter[str] = Counter()
    for part in parts:
        # At a part's label stands the joint one; 0 is the background.
        labels = np.array([0, *(classes.index(name) + 1 for name in part.classes)], dtype=np.int64)
        for number, record in enumerate(part.records, start=len(records) + 1):
            records.append(replace(record, image_id=number, labels=labels[record.labels]))
        dropped.update(part.dropped)
    return DetectionSet(
        name=" + ".join(part.name for part in parts),
        classes=tuple(classes),
        category_ids=tuple(range(1, len(classes) + 1)),
        records=tuple(records),
        dropped=MappingProxyType(dict(dropped)),
    )


def expect_same_classes(parts: Sequence[DetectionSet]) -> None:
    """Make sure that the parts name the same classes, in whatever order.

    Raises:
        DataError: a part has other classes than the first; both are named.
    """
    first = parts[0]
    for part in parts[1:]:
        missing = sorted(set(first.classes) - set(part.classes))
        extra = sorted(set(part.classes) - set(first.classes))
        if missing or extra:
            raise DataError(
                f"{part.name}: lacks the categories {show(missing)} and has the further ones {show(extra)} "
                f"against {first.name}; expected the same names in all sources of a split. Mend the files, "
                "or name the categories to use in data.detection.classes."
            )
