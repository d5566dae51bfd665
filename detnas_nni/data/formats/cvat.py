"""CVAT's own XML, "for images" and "for video": https://docs.cvat.ai/docs/manual/advanced/xml_format/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from detnas_nni.data.formats.dataset import (
    Classes,
    Corners,
    Dataset,
    MarkedBox,
    Picture,
    corners_around,
    marked,
    pairs,
    settle_splits,
    split_of,
)
from detnas_nni.data.formats.documents import name_of, number, read_xml, whole
from detnas_nni.data.formats.note import OUTLINES, OUTSIDE_FRAME, ROTATED, SHAPELESS, TAGS
from detnas_nni.data.formats.shapes import ellipse, turned_box
from detnas_nni.data.formats.source import Source

_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_CUBOID = tuple(
    f"{axis}{corner}{side}" for side in (1, 2) for corner in ("tl", "bl", "tr", "br") for axis in "xy"
)
_SHAPELESS = ("polyline", "points", "skeleton")
_SHAPES = ("box", "polygon", "ellipse", "mask", "cuboid", *_SHAPELESS)


def read(source: Source) -> Dataset:
    """Read every XML file of CVAT in a data set. Raises DataError."""
    return _Reader(source).dataset()


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._classes = Classes()

    def dataset(self) -> Dataset:
        named: list[tuple[str | None, Picture]] = []
        for file in self._source.files:
            root = self._source.read(read_xml, file)
            if root is not None:
                for label in root.iterfind("meta//labels/label"):
                    name = name_of(label.findtext("name"))
                    part = label.find("parent") is not None  # a point of a skeleton
                    if name is not None and not part and label.findtext("type") != "tag":
                        self._classes.id_of(name)
                named += self._images(root, file)
                if root.find("track") is not None:
                    named += self._frames(root, file)
        pictures: dict[Path, tuple[str | None, Picture]] = {}
        for split, picture in named:
            if picture.file in pictures:
                pictures[picture.file][1].boxes.extend(picture.boxes)  # another job on the same picture
            else:
                pictures[picture.file] = (split, picture)
        note = self._source.note
        return Dataset(self._classes.names, settle_splits(pictures.values(), note), note)

    def _images(self, root: Element, file: PurePosixPath) -> Iterator[tuple[str | None, Picture]]:
        for position, image in enumerate(root.iterfind("image")):
            key = f"image[{position}]"
            name = image.get("name") or ""
            subset = image.get("subset")
            split = split_of((subset,)) if subset else split_of((*file.parts[:-1], file.stem))
            named_by = f"{self._source.root / file}: `{key}`"
            picture = self._source.pictures.find(name, file.parent, named_by, split=split)
            if picture is None:
                continue
            size = self._size(image, picture)
            if size is None:
                continue
            self._source.note.count(TAGS, len(image.findall("tag")))
            boxes = [
                box
                for at, shape in enumerate(image)
                if shape.tag in _SHAPES
                and (box := self._box(shape, shape.get("label"), file, f"{key}.{shape.tag}[{at}]"))
            ]
            yield split, Picture(picture, size, boxes)

    def _frames(self, root: Element, file: PurePosixPath) -> Iterator[tuple[str | None, Picture]]:
        """The pictures of a video, exported as frame_000000.PNG and so on; tracks name only frames."""
        found: dict[int, list[MarkedBox]] = {}
        for at, track in enumerate(root.iterfind("track")):
            for position, shape in enumerate(track):
                key = f"track[{at}].{shape.tag}[{position}]"
                frame = whole(shape.get("frame"))
                if shape.tag not in _SHAPES:
                    continue
                if frame is None or not 0 <= frame < 10**9:
                    where = self._source.root / file
                    self._source.note.wrong(where, f"{key}.frame", shape.get("frame"), "a frame's number")
                    continue
                boxes = found.setdefault(frame, [])
                if shape.get("outside") == "1":
                    self._source.note.count(OUTSIDE_FRAME)
                elif box := self._box(shape, track.get("label"), file, key):
                    boxes.append(box)
        split = split_of((*file.parts[:-1], file.stem))
        for frame, boxes in sorted(found.items()):
            named_by = f"{self._source.root / file}: frame {frame}"
            picture = self._source.pictures.find(f"frame_{frame:06d}", file.parent, named_by, stem=True)
            size = None if picture is None else self._source.pictures.size(picture)
            if picture is not None and size is not None:
                yield split, Picture(picture, size, boxes)

    def _size(self, image: Element, picture: Path) -> tuple[int, int] | None:
        width, height = whole(image.get("width")), whole(image.get("height"))
        if width is not None and height is not None and width > 0 and height > 0:
            return width, height
        return self._source.pictures.size(picture)

    def _box(self, shape: Element, label: str | None, file: PurePosixPath, key: str) -> MarkedBox | None:
        note, where = self._source.note, self._source.root / file
        if shape.tag in _SHAPELESS:
            note.count(SHAPELESS)
            return None
        name = name_of(label)
        if name is None:
            note.wrong(where, f"{key}.label", label, "a class's name")
            return None
        try:
            corners = self._corners(shape)
        except _BadValueError as error:
            note.wrong(where, f"{key}.{error.key}", error.value, error.expected)
            return None
        attributes = [
            {"name": attribute.get("name"), "value": attribute.text}
            for attribute in shape.iterfind("attribute")
        ]
        return marked(MarkedBox(self._classes.id_of(name), corners), attributes)

    def _corners(self, shape: Element) -> Corners:
        note = self._source.note
        turn = _number(shape, "rotation") if shape.get("rotation") else 0.0
        if shape.tag == "box":
            corners = tuple(_number(shape, key) for key in _CORNERS)
            if not turn:
                return corners
            note.count(ROTATED)
            return turned_box(corners, turn)
        note.count(OUTLINES)
        if shape.tag == "ellipse":
            return ellipse(*(_number(shape, key) for key in ("cx", "cy", "rx", "ry")), turn)
        if shape.tag == "mask":
            left, top, width, height = (_number(shape, key) for key in ("left", "top", "width", "height"))
            return left, top, left + width, top + height
        if shape.tag == "cuboid":
            return corners_around(pairs([_number(shape, key) for key in _CUBOID]))
        return corners_around(_points(shape))


class _BadValueError(Exception):
    def __init__(self, key: str, value: str | None, expected: str) -> None:
        super().__init__(key)
        self.key, self.value, self.expected = key, value, expected


def _number(shape: Element, key: str) -> float:
    found = number(shape.get(key))
    if found is None:
        raise _BadValueError(key, shape.get(key), "a finite number")
    return found


def _points(shape: Element) -> list[tuple[float, float]]:
    """`x,y;x,y;…`"""
    text = shape.get("points") or ""
    points = []
    for entry in text.split(";"):
        values = [number(part) for part in entry.split(",")]
        if len(values) != 2 or None in values:
            raise _BadValueError("points", text, "x,y;x,y;…")
        points.append((values[0], values[1]))
    return points
