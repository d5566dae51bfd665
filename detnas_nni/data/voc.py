"""Reads Pascal VOC annotations (XML), http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from detnas_nni.data.corrections.categories import OTHER_CASE, folded
from detnas_nni.data.corrections.places import OTHER_PLACES, ImageFiles
from detnas_nni.data.corrections.segments import number
from detnas_nni.data.corrections.values import (
    FOREIGN,
    FROM_SEGMENTS,
    BadValueError,
    Beside,
    flag,
)
from detnas_nni.data.entries import DEFAULT, Conventions, Entries, size_in_pixels
from detnas_nni.data.problems import MISSING, Kind, Problems
from detnas_nni.data.reading import finish
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.voc_folders import VocFolders, read_image_set, readings_of_line, voc_folders
from detnas_nni.data.voc_objects import VocBox, read_box
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
TWINS = Kind(
    "pictures of one name",
    "picture has the name of another with an XML file, except for the suffix; left out",
    "pictures have the names of others with XML files, except for the suffix; left out",
    corrects=False,
)
SET_LINES = Kind(
    "lines of image sets",
    "line of the image set has more than a name (a suffix, a flag); read",
    "lines of the image set have more than a name (a suffix, a flag); read",
)

_MAX_XML = 10_000_000  # bytes; VOC's own files have 2 kB per image


class _Object(NamedTuple):
    key: str
    image: int
    name: str
    box: VocBox


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
    """Read a VOC folder, or one image set of it; images are opened only where the XML is ambiguous.

    `root` holds XML files and pictures in one of the layouts of `voc_folders`, and for an image set
    `ImageSets/Main/IMAGE_SET.txt` with one name per line. An image's id is its 1-based line in the set, or
    its number in the order of the names. Problems and corrections are as in `read_coco`; a damaged XML file
    is one problem and leaves its image out. Difficult boxes are kept and flagged.

    Args:
        root: the folder (VOCdevkit/VOC2007, say).
        image_set: the name of the set: train, val, trainval, test; if None, all pictures that have an
            XML file.
        classes: names in the order of their labels; if None, those found in the set, sorted.
        max_bad: how many problems are tolerated.
        one_based: how pixels are counted. False takes xmin … ymax as the box's edges, as labelImg and most
            other tools write them and conversions to COCO read them. True is the devkit's own convention:
            pixels are counted from 1 and xmax, ymax belong to the box, so its edges are xmin - 1, ymin - 1,
            xmax, ymax. Choose True for the original VOC2007 and VOC2012; the two differ by one pixel.
        images: the folder of the pictures, if `voc_folders` cannot find it.
        backgrounds: whether pictures without an XML file are images without objects.
        conventions: how to read ambiguous annotations.

    Raises:
        DataError: as for `read_coco`.
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
        box, marks = entry.box, entry.box.beside._replace(foreign="")
        found.entries.add_box(
            entry.image,
            labels[entry.name],
            box.values,
            position,
            beside=None if marks == Beside() else marks,
            around=box.around,
        )
    names = list(classes) if classes is not None else list(labels)
    shift = 1.0 if one_based else 0.0
    return finish(found.entries, names, range(1, len(names) + 1), problems, conventions, shift=shift)


class _Set:
    """The images of a set and their objects, while they are collected."""

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
        # Precedes the name of an XML file in messages.
        self._place = "" if folders.xml == root else f"{folders.xml.name}/"

    def read_all(self) -> None:
        """All pictures that have an XML file, in the order of the files; then the others, if wanted."""
        taken: set[Path] = set()
        stems = sorted(name[:-4] for name in self._xml.all_names(".xml"))
        self.entries.listed = len(stems)
        for number_, stem in enumerate(stems, start=1):
            try:
                picture = self._picture(stem)
            except _BadFileError as error:
                self._problems.add_text(str(error), "bad images", kind="several pictures")
                continue
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
        self._rest(taken, stems)

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
            try:
                picture = self._picture(name, text)
            except _BadFileError as error:
                self._problems.add_text(str(error), "bad images", kind="several pictures")
                continue
            if picture is None:
                self._miss(key, text)
                continue
            if self._backgrounds and self._xml_name(name) is None:
                self.entries.add_image(line, picture, None)
                continue
            tree = self._tree(name)
            if tree is not None:
                self._add(line, name, picture, tree)

    def _named(self, line: str) -> str:
        """The name that a line means: its first reading for which there is an XML file or a picture."""
        for reading in readings_of_line(line):
            if f"{reading}.xml" in self._xml or self._beside(reading):
                if reading != line:
                    self._problems.correct(SET_LINES, f"{show(line)} is {reading}")
                return reading
        return line

    def _picture(self, name: str, line: str = "") -> Path | None:
        """The picture of an XML file's name. _BadFileError if there are several, and nothing names one.

        Args:
            name: without suffix.
            line: the image set's line, which may have the suffix.
        """
        beside = self._beside(name)
        if len(beside) > 1:
            beside = self._named_one(name, line, beside)
        if beside:
            return self._folders.pictures / beside[0]
        meant = self._pictures.resolve({0: name}, set(), stems=True).get(0)
        if meant is not None:
            self._problems.correct(
                OTHER_PLACES, f"{show(name)} is {meant.relative_to(self._folders.pictures)}"
            )
        return meant

    def _beside(self, name: str) -> list[str]:
        return [name + suffix for suffix in _SUFFIXES if name + suffix in self._pictures]

    def _named_one(self, name: str, line: str, beside: list[str]) -> list[str]:
        """Of a.jpg and a.png the one named by the set's line, or by the XML file's `filename`."""
        xml, own = self._xml_name(name), ""
        if xml is not None:
            own = _parse(self._folders.xml / xml, self._place + xml).findtext("filename") or ""
        for text in (line, own):
            called = folded(text.replace("\\", "/").rsplit("/", 1)[-1])
            found = [file for file in beside if folded(file.rsplit("/", 1)[-1]) == called]
            if len(found) == 1:
                return found
        raise _BadFileError(
            f"`{self._place}{name}.xml` may belong to {' or '.join(beside)}, and its `filename` is "
            f"{show(own)}; expected the name of one of them. Remove the other picture, or enter its name"
        )

    def _tree_with_picture(self, stem: str) -> tuple[Element, Path | None] | None:
        """An XML file and the picture that the file itself names."""
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
            file = self._xml_name(name) or f"{name}.xml"
            return _parse(self._folders.xml / file, self._place + file)
        except _BadFileError as error:
            self._problems.add_text(str(error), "bad images", kind=str(error).replace(name, ""))
            return None

    def _xml_name(self, name: str) -> str | None:
        """The XML file of a name, with its suffix in whatever case."""
        return f"{name}.xml" if f"{name}.xml" in self._xml else self._capital_xml.get(name)

    @cached_property
    def _capital_xml(self) -> dict[str, str]:
        return {file[:-4]: file for file in self._xml.all_names(".xml") if not file.endswith(".xml")}

    def _miss(self, key: str, name: str) -> None:
        # Looked for once: the message for the first holds for all.
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
        if flag(entry.findtext("deleted")):  # LabelMe's first editor keeps removed objects
            problems.drop("deleted objects")
            return
        if not label:
            problems.add(f"{key}.name", entry.findtext("name"), "the name of a class", "bad boxes")
            return
        try:
            box = read_box(entry)
        except BadValueError as error:
            problems.add(f"{key}.{error.key}", error.value, error.expected, "bad boxes")
            return
        if box.around:
            problems.correct(FROM_SEGMENTS, f"`{key}`")
        if box.beside.foreign:
            problems.correct(FOREIGN, f"`{key}.{box.beside.foreign}")
        self.objects.append(_Object(key, image, label, box))

    def _rest(self, taken: set[Path], stems: list[str]) -> None:
        """The pictures without an XML file: taken as backgrounds, or reported."""
        suffixes = tuple(IMAGE_SUFFIXES)
        others = sorted(name for name in self._pictures.all_names(*suffixes))
        files = [self._folders.pictures / name for name in others]
        left = [file for file in files if file not in taken]
        twins = {file.with_suffix("") for file in taken}
        # A picture whose XML file is damaged may have objects.
        annotated = {self._folders.pictures / stem for stem in stems}
        for own, file in enumerate(left, start=len(stems) + 1):
            if file.with_suffix("") in twins:
                self._problems.correct(TWINS, file.name)
            elif file.with_suffix("") in annotated:
                continue
            elif self._backgrounds:
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
                f"split, lacks; it has {show(list(classes))}. Add it to `classes`, or remove its objects."
            )
        problems.correct(OTHER_CASE, f"{show(name)} for {show(alike[0])}")
        labels[name] = labels[alike[0]]
    return labels
