"""YOLO: a text file per picture, `class cx cy w h` per line, as shares of the picture.

https://docs.ultralytics.com/datasets/detect: `data.yaml` names the classes and where the pictures of each
split are; the labels of `…/images/a.jpg` are `…/labels/a.txt`. Without a `data.yaml`, as from labelImg,
Label Studio, CVAT and darknet, the classes are in classes.txt or obj.names, and labels are in `labels/` or
next to their pictures. Lines of more than five numbers are polygons (YOLO-seg) or four corners (YOLO-OBB).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath

from detnas_nni.data.formats.dataset import (
    Dataset,
    MarkedBox,
    Picture,
    corners_around,
    pairs,
    settle_splits,
)
from detnas_nni.data.formats.documents import number, read_lines, read_yaml, whole
from detnas_nni.data.formats.note import CONFIDENCES, MISSING, OUTLINES, REPEATED, WRONG_FILES
from detnas_nni.data.formats.source import Source
from detnas_nni.data.formats.yolo_index import (
    YAML_SUFFIXES,
    Names,
    is_label_file,
    names_beside,
    names_of,
    pictures_by_folder,
    pictures_by_index,
)
from detnas_nni.errors import DataError

_MOST_CLASSES = 100_000

# What lies further out is not a share: a box may stick out of its picture, but not by a whole picture.
_LEAST, _MOST = -1.0, 2.0


def read(source: Source) -> Dataset:
    """Read a YOLO data set. Raises DataError."""
    index = next((file for file in source.files if file.suffix.lower() in YAML_SUFFIXES), None)
    if index is None:
        names = names_beside(source)
        named = list(pictures_by_folder(source))
    else:
        values = read_yaml(source.root / index)
        names = names_of(values, source.root / index)
        named = list(pictures_by_index(source, index, values))
    return _Reader(source, names).dataset(named)


class _Reader:
    """Reads the labels of pictures.

    Args:
        source: the data set.
        names: its classes.
    """

    def __init__(self, source: Source, names: Names) -> None:
        self._source = source
        self._names = names
        self._same: dict[str, int] = {}  # the first of the ids with one name
        self._alias = {
            category: self._same.setdefault(name, category) for category, name in (names.listed or {}).items()
        }
        self._used: Counter[int] = Counter()
        self._beyond = 0  # lines whose id would be the last if ids were counted from 1
        self._texts = frozenset(source.listing.of(".txt"))
        self._by_folded = {str(text).casefold(): text for text in sorted(self._texts, reverse=True)}
        self._apart = source.pictures.root != source.root  # the user named the pictures' folder
        self._by_stem: dict[str, list[PurePosixPath]] = {}
        for text in sorted(self._texts):
            self._by_stem.setdefault(text.stem, []).append(text)

    def dataset(self, named: Sequence[tuple[str | None, PurePosixPath]]) -> Dataset:
        note, pictures = self._source.note, self._source.pictures
        labels = {file: self._label_file(file) for _, file in named}
        # labelImg writes a file only if something was labelled; elsewhere a missing file means no object.
        beside = any(label is not None and label.parent == file.parent for file, label in labels.items())
        if not any(labels.values()):
            raise DataError(
                f"{self._source.root}: none of {len(labels):,} pictures has a label file; expected "
                "labels/NAME.txt for images/NAME.jpg, or NAME.txt next to the picture."
            )
        kept = self._source.keep_backgrounds(custom=not beside)
        read: list[tuple[str | None, Picture]] = []
        without = 0
        for split, file in named:
            label = labels[file]
            without += label is None
            if label is None and not kept:
                continue
            size = pictures.size(pictures.root / file)
            if size is None:
                continue
            boxes = [] if label is None else self._boxes(self._source.root / label, size)
            if boxes is not None:
                read.append((split, Picture(pictures.root / file, size, boxes)))
        self._source.note_unlabelled(kept, without)
        self._refuse_ids_from_one()
        orphans = self._texts.difference(filter(None, labels.values()))
        for orphan in sorted(file for file in orphans if self._is_orphan(file)):
            note.entry(MISSING, f"{self._source.root / orphan} has labels, but no picture has that name")
        return Dataset(self._classes(), settle_splits(read, note), note)

    def _refuse_ids_from_one(self) -> None:
        """Refuse ids from 1, with which each class would be taken for its neighbour."""
        names = self._names.listed
        if names and self._beyond and set(names) == set(range(len(names))) and not self._used[0]:
            raise DataError(
                f"{self._source.root}: {self._beyond:,} lines have the class id {len(names)}, with "
                f"{len(names)} classes in {self._names.source}, and none has 0: the ids seem to be counted "
                "from 1. Count them from 0, or name the class that is missing."
            )

    def _is_orphan(self, file: PurePosixPath) -> bool:
        """Whether a text file that belongs to no picture nevertheless has labels."""
        if not (is_label_file(file) and ("labels" in file.parts or file.parent in self._picture_folders)):
            return False
        lines = self._lines(self._source.root / file) or []
        return bool(lines) and all(
            len(line.split()) >= 5 and number(line.split()[0]) is not None for _, line in lines
        )

    @cached_property
    def _picture_folders(self) -> frozenset[PurePosixPath]:
        return frozenset(file.parent for file in self._source.pictures.files)

    def _label_file(self, picture: PurePosixPath) -> PurePosixPath | None:
        """The label file; first where ultralytics has it: the last `images` in the path becomes `labels`."""
        if self._apart:
            return self._label_of_its_folders(picture)
        name = f"{picture.stem}.txt"
        folder = picture.parent
        places = [folder]
        places += [folder / "labels", folder.parent / "labels", PurePosixPath("labels") / folder]
        for at in reversed(range(len(folder.parts))):
            if folder.parts[at].casefold() == "images":
                places.insert(0, PurePosixPath(*folder.parts[:at], "labels", *folder.parts[at + 1 :]))
                break
        asked = (str(place / name).casefold() for place in places)  # also Labels/A.TXT
        return next((self._by_folded[path] for path in asked if path in self._by_folded), None)

    def _label_of_its_folders(self, picture: PurePosixPath) -> PurePosixPath | None:
        """The only label file of that name, or the one whose last folders are the picture's."""
        found = self._by_stem.get(picture.stem, [])
        alike = [_common_end(file.parent.parts, picture.parent.parts) for file in found]
        best = [file for file, length in zip(found, alike, strict=True) if length == max(alike)]
        return best[0] if len(best) == 1 else None

    def _lines(self, file: Path) -> list[tuple[int, str]] | None:
        try:
            return read_lines(file)
        except DataError as error:
            self._source.note.entry(WRONG_FILES, str(error))
            return None

    def _boxes(self, file: Path, size: tuple[int, int]) -> list[MarkedBox] | None:
        lines = self._lines(file)
        if lines is None:
            return None
        boxes, seen = [], set()
        for line_number, line in lines:
            if line in seen:  # ultralytics also drops these
                self._source.note.count(REPEATED)
                continue
            seen.add(line)
            words = line.replace(",", " ").split() or [line]
            box = self._box(file, line_number, words, size)
            if box is not None:
                boxes.append(box)
        return boxes

    def _box(self, file: Path, line_number: int, words: list[str], size: tuple[int, int]) -> MarkedBox | None:
        note, key = self._source.note, f"line {line_number}"
        category = self._category(words[0])
        if category is None:
            note.wrong(file, f"{key}, class", words[0], self._expected_class())
            self._beyond += whole(words[0]) == len(self._names.listed or ())
            return None
        values = [number(word) for word in words[1:]]
        if None in values:
            note.wrong(file, key, words[values.index(None) + 1], "a finite number")
            return None
        is_box = self._names.keypoints or len(values) in (4, 5)
        if len(values) < 4 or (not is_box and len(values) % 2):
            note.wrong(file, key, " ".join(words), "class cx cy w h, or a class and the x y of corners")
            return None
        shares = values[:4] if is_box else values
        wrong = next((value for value in shares if not _LEAST <= value <= _MOST), None)
        if wrong is not None:
            note.wrong(file, key, wrong, "a share of the picture's width or height, 0 to 1, not pixels")
            return None
        if is_box:
            cx, cy, width, height = shares
            if width < 0 or height < 0:
                note.wrong(file, key, min(width, height), "a width and height of 0 or more")
                return None
            corners = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
            if len(values) == 5:
                note.count(CONFIDENCES)
        else:
            corners = corners_around(pairs(shares))
            note.count(OUTLINES)
        self._used[category] += 1
        x1, y1, x2, y2 = corners
        return MarkedBox(category, (x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]))

    def _category(self, word: str) -> int | None:
        found = whole(word)
        if self._names.listed is None:
            return found if found is not None and 0 <= found < _MOST_CLASSES else None
        if found is None:
            return self._same.get(word)
        return self._alias.get(found)

    def _expected_class(self) -> str:
        if self._names.listed is None:
            return "a number from 0"
        return f"one of the {len(self._names.listed)} ids that {self._names.source} names"

    def _classes(self) -> dict[int, str]:
        note = self._source.note
        if self._names.listed is None:
            note.say(
                "no file names the classes (data.yaml, classes.txt, obj.names); they are called class_0, "
                "class_1 and so on"
            )
            return {category: f"class_{category}" for category in sorted(self._used)}
        if len(self._same) < len(self._names.listed):
            note.say(f"{self._names.source} gives several ids the same name; they are one class")
        return {category: name for name, category in self._same.items()}


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    """How many of the last folders are the same."""
    same = (a.casefold() == b.casefold() for a, b in zip(reversed(first), reversed(second), strict=False))
    return sum(1 for _ in takewhile(bool, same))
