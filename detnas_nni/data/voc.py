"""Reads Pascal VOC annotations (XML), http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from detnas_nni.data.corrections.categories import OTHER_CASE, folded
from detnas_nni.data.corrections.places import OTHER_PLACES, ImageFiles
from detnas_nni.data.corrections.segments import number
from detnas_nni.data.corrections.values import BadValueError, Beside, beside
from detnas_nni.data.entries import DEFAULT, Conventions, Entries, size_in_pixels
from detnas_nni.data.problems import MISSING, Kind, Problems
from detnas_nni.data.reading import finish
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.voc_folders import VocFolders, read_image_set, readings_of_line, voc_folders
from detnas_nni.errors import DataError
from detnas_nni.util.text import show
from detnas_nni.util.user_files import IMAGE_SUFFIXES, leaves_folder, read_bytes
from detnas_nni.util.xml import BadXmlError, parse_xml

WITHOUT_XML = Kind(
    "pictures without XML",
    "picture has no XML file; left out (backgrounds: true, or --backgrounds, takes it as an image without "
    "objects)",
    "pictures have no XML file; left out (backgrounds: true, or --backgrounds, takes them as images without "
    "objects)",
    corrects=False,
)
SET_LINES = Kind(
    "lines of image sets",
    "line of the image set has more than a name (a suffix, a flag); read",
    "lines of the image set have more than a name (a suffix, a flag); read",
)

_MAX_XML = 10_000_000  # bytes; VOC's own files have 2 kB an image

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TURNED = ("cx", "cy", "w", "h", "angle")  # roLabelImg's box, its angle in radians


class _Object(NamedTuple):
    key: str
    image: int
    name: str
    corners: tuple[float, float, float, float]
    beside: Beside | None


class _BadFileError(Exception):
    """An annotation file that is left out as a whole; the text says why."""


def read_voc(
    root: Path,
    image_set: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    max_bad: int = 0,
    one_based: bool = False,
    images: Path | None = None,
    backgrounds: bool = False,
    conventions: Conventions = DEFAULT,
) -> DetectionSet:
    """Read a VOC folder, or one image set of it; images are opened only where the XML leaves something open.

    `root` holds XML files and pictures in one of the layouts of `voc_folders`, and for an image set
    `ImageSets/Main/IMAGE_SET.txt` with one name a line. An image's id is its 1-based line in the set, or its
    number in the order of the names. Problems and corrections are as in `read_coco`; a damaged XML file is
    one problem and leaves its image out. Difficult boxes are kept and flagged.

    Args:
        root: the folder (VOCdevkit/VOC2007, say).
        image_set: the name of the set: train, val, trainval, test; all pictures that have an XML file if
            None.
        classes: names in the order of their labels; those found in the set, sorted, if None.
        max_bad: how many problems are tolerated.
        one_based: how pixels are counted. False takes xmin … ymax for the box's edges, as labelImg and most
            other tools write them, and as conversions to COCO read them. True is the devkit's own convention:
            pixels are counted from 1 and xmax, ymax belong to the box, so its edges are xmin - 1, ymin - 1,
            xmax, ymax. Choose True for the original VOC2007 and VOC2012; the two differ by one pixel.
        images: the folder of the pictures, if `voc_folders` does not find it.
        backgrounds: whether pictures without an XML file are images without objects.
        conventions: how to read what is left open.

    Raises:
        DataError: as `read_coco`.
    """
    if image_set is not None and (not image_set or leaves_folder(image_set) or "/" in image_set):
        raise DataError(f"{root}: the image set is {show(image_set)}, expected a name such as train or val.")
    source = root if image_set is None else root / "ImageSets" / "Main" / f"{image_set}.txt"
    lines = None if image_set is None else read_image_set(source)
    problems = Problems(source, max_bad, conventions.strict)
    found = _Set(root, source, voc_folders(root, images), backgrounds, problems)
    if lines is None:
        found.read_all()
    else:
        found.read_lines(lines)
    labels = _labels(found, classes, source, problems)
    for position, entry in enumerate(found.objects):
        label = labels[entry.name]
        found.entries.add_box(entry.image, label, entry.corners, position, beside=entry.beside)
    names = list(classes) if classes is not None else list(labels)
    shift = 1.0 if one_based else 0.0
    return finish(found.entries, names, range(1, len(names) + 1), problems, conventions, shift=shift)


class _Set:
    """The images of a set and their objects, as they are gathered."""

    def __init__(
        self, root: Path, source: Path, folders: VocFolders, backgrounds: bool, problems: Problems
    ) -> None:
        self.entries = Entries(source, "xyxy", lambda position: self.objects[position].key, 0)
        self.objects: list[_Object] = []
        self._root = root
        self._source = source
        self._folders = folders
        self._backgrounds = backgrounds
        self._problems = problems
        self._pictures = ImageFiles(folders.pictures, "JPEGImages")
        self._xml = ImageFiles(folders.xml, "Annotations")
        # What messages put before the name of an XML file.
        self._place = "" if folders.xml == root else f"{folders.xml.name}/"

    def read_all(self) -> None:
        """All pictures that have an XML file, in the order of these; then the others, if they are wanted."""
        taken: set[Path] = set()
        stems = sorted(name[:-4] for name in self._xml.all_names(".xml"))
        self.entries.listed = len(stems)
        for number_, stem in enumerate(stems, start=1):
            picture = self._picture(stem)
            tree = self._tree(stem) if picture is not None else self._tree_with_picture(stem)
            if tree is None:
                continue
            if picture is None:
                tree, picture = tree
            if picture is None:
                self._miss(f"{self._place}{stem}.xml", stem)
            elif picture in taken:
                self._problems.add(
                    f"{self._place}{stem}.xml",
                    picture.name,
                    "a picture that no other file is of",
                    "bad images",
                )
            else:
                taken.add(picture)
                self._add(number_, stem, picture, tree)
        self._rest(taken, len(stems))

    def read_lines(self, lines: list[tuple[int, str]]) -> None:
        """The pictures that an image set lists."""
        seen: set[str] = set()
        self.entries.listed = len(lines)
        for line, text in lines:
            key = f"line {line}"
            if leaves_folder(text):
                raise DataError(
                    f"{self._source}: `{key}` is {show(text)}, which leads out of {self._root}; expected an "
                    "image name. This is refused whatever max_bad_annotations is."
                )
            name = self._named(text)
            if name in seen:
                self._problems.add(key, text, "a name that no other line has", "bad images")
                continue
            seen.add(name)
            picture = self._picture(name)
            if picture is None:
                self._miss(key, text)
                continue
            if self._backgrounds and f"{name}.xml" not in self._xml:
                self.entries.add_image(line, picture, None)
                continue
            tree = self._tree(name)
            if tree is not None:
                self._add(line, name, picture, tree)

    def _named(self, line: str) -> str:
        """The name that a line means: its first reading of which there is an XML file or a picture."""
        for reading in readings_of_line(line):
            if f"{reading}.xml" in self._xml or self._beside(reading) is not None:
                if reading != line:
                    self._problems.correct(SET_LINES, f"{show(line)} is {reading}")
                return reading
        return line

    def _picture(self, name: str) -> Path | None:
        """The picture of an XML file's name."""
        file = self._beside(name)
        if file is not None:
            return self._folders.pictures / file
        meant = self._pictures.resolve({0: name}, set(), stems=True).get(0)
        if meant is not None:
            self._problems.correct(
                OTHER_PLACES, f"{show(name)} is {meant.relative_to(self._folders.pictures)}"
            )
        return meant

    def _beside(self, name: str) -> str | None:
        return next((name + suffix for suffix in _SUFFIXES if name + suffix in self._pictures), None)

    def _tree_with_picture(self, stem: str) -> tuple[Element, Path | None] | None:
        """An XML file and the picture that it names itself."""
        tree = self._tree(stem)
        if tree is None:
            return None
        name = (tree.findtext("filename") or "").strip()
        if name and not leaves_folder(name) and name in self._pictures:
            return tree, self._folders.pictures / name
        meant = self._pictures.resolve({0: name}, set()).get(0) if name else None
        if meant is not None:
            self._problems.correct(
                OTHER_PLACES, f"{show(name)} is {meant.relative_to(self._folders.pictures)}"
            )
        return tree, meant

    def _tree(self, name: str) -> Element | None:
        """An XML file's content; None, and a problem, if it has none."""
        try:
            return _parse(self._folders.xml / f"{name}.xml", f"{self._place}{name}.xml")
        except _BadFileError as error:
            self._problems.add_text(str(error), "bad images", kind=str(error).replace(name, ""))
            return None

    def _miss(self, key: str, name: str) -> None:
        # Looked for once: what is said of the first is said of all.
        near = self._pictures.nearest(name) if MISSING not in self._problems.notes else ""
        self._problems.note(MISSING)
        self._problems.add(
            key, name, f"the name of an image (.jpg, .png, …) in {self._folders.pictures}{near}", "bad images"
        )

    def _add(self, own: int, name: str, picture: Path, tree: Element) -> None:
        sides = [size_in_pixels(number(tree.findtext(f"size/{side}"))) for side in ("width", "height")]
        image = self.entries.add_image(own, picture, None if None in sides else tuple(sides))
        for position, entry in enumerate(tree.findall("object")):
            key = f"{self._place}{name}.xml: object[{position}]"
            self._add_object(entry, key, image)

    def _add_object(self, entry: Element, key: str, image: int) -> None:
        label, problems = (entry.findtext("name") or "").strip(), self._problems
        if not label:
            problems.add(f"{key}.name", entry.findtext("name"), "the name of a class", "bad boxes")
            return
        try:
            corners, marks = _corners(entry), beside(_marks(entry))
        except BadValueError as error:
            problems.add(f"{key}.{error.key}", error.value, error.expected, "bad boxes")
            return
        degrees = _degrees(entry)
        if degrees:
            marks = marks._replace(rotation=degrees)
        self.objects.append(_Object(key, image, label, corners, None if marks == Beside() else marks))

    def _rest(self, taken: set[Path], last: int) -> None:
        """The pictures without an XML file: taken as backgrounds, or told."""
        suffixes = tuple(IMAGE_SUFFIXES)
        others = sorted(name for name in self._pictures.all_names(*suffixes))
        files = [self._folders.pictures / name for name in others]
        left = [file for file in files if file not in taken]
        for own, file in enumerate(left, start=last + 1):
            if self._backgrounds:
                self.entries.add_image(own, file, None)
            else:
                self._problems.correct(WITHOUT_XML, file.name)


_SUFFIXES = (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))


def _parse(file: Path, shown: str) -> Element:
    try:
        return parse_xml(read_bytes(file, _MAX_XML))
    except OSError as error:
        raise _BadFileError(f"{shown} cannot be read ({error.strerror})") from None
    except BadXmlError as error:
        raise _BadFileError(f"{shown} {error}") from None


def _corners(entry: Element) -> tuple[float, float, float, float]:
    """A box's four numbers, of a rotated one before it is rotated. BadValueError if one is missing."""
    if entry.find("bndbox") is None and entry.find("robndbox") is not None:
        x, y, width, height, _ = _numbers(entry, "robndbox", _TURNED)
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return tuple(_numbers(entry, "bndbox", _CORNERS))


def _numbers(entry: Element, place: str, keys: Sequence[str]) -> list[float]:
    values = []
    for key in keys:
        text = entry.findtext(f"{place}/{key}")
        value = number(text)
        if value is None:
            raise BadValueError(f"{place}.{key}", text, "a finite number")
        values.append(value)
    return values


def _degrees(entry: Element) -> float:
    """The angle of a rotated box, which roLabelImg gives in radians."""
    angle = number(entry.findtext("robndbox/angle"))
    return 0.0 if angle is None or entry.find("bndbox") is not None else math.degrees(angle)


def _marks(entry: Element) -> Mapping[str, Any]:
    """What stands beside a box, as `values.beside` takes it."""
    marks: dict[str, Any] = {
        child.tag: child.text for child in entry if len(child) == 0 and child.tag != "name"
    }
    attributes = [
        {"name": attribute.findtext("name"), "value": attribute.findtext("value")}
        for attribute in entry.iterfind("attributes/attribute")
    ]
    return {**marks, "attributes": attributes} if attributes else marks


def _labels(found: _Set, classes: Sequence[str] | None, source: Path, problems: Problems) -> dict[str, int]:
    """The label of each name that an object has."""
    names = sorted({entry.name for entry in found.objects})
    if classes is None:
        if found.entries.ids and not names:
            raise DataError(
                f"{source}: no image of the set has an object; expected at least one class. "
                f"{problems.remedy or 'Nothing else is wrong with it.'}"
            )
        return {name: label for label, name in enumerate(names, start=1)}
    if not classes or len(set(classes)) != len(classes):
        raise DataError(
            f"{source}: `classes` in the config is {show(list(classes))}, expected names used only once."
        )
    labels = {name: label for label, name in enumerate(classes, start=1)}
    for name in names:
        if name in labels:
            continue
        alike = [known for known in classes if folded(known) == folded(name) and known not in names]
        if len(alike) != 1:
            key = next(entry.key for entry in found.objects if entry.name == name)
            raise DataError(
                f"{source}: `{key}.name` is {show(name)}, which `classes` in the config, or the training "
                f"split, lacks; it has {show(list(classes))}. Add it to `classes`, or take its objects out."
            )
        problems.correct(OTHER_CASE, f"{show(name)} for {show(alike[0])}")
        labels[name] = labels[alike[0]]
    return labels
