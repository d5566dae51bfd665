"""Reads Pascal VOC annotations (XML), http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from detnas_nni.data.problems import CLIPPED, MISSING, OUTSIDE, Problems
from detnas_nni.data.records import MAX_SIDE, DetectionSet, ImageRecord, clipped_box
from detnas_nni.errors import DataError
from detnas_nni.util.text import show
from detnas_nni.util.user_files import IMAGE_SUFFIXES, FileIndex, leaves_folder, read_bytes, voc_image_folder

# Bytes. VOC's own files have 2 kB an image, and its sets 0.3 MB; both limits are far above.
_MAX_XML = 10_000_000
_MAX_SET = 100_000_000

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _Object(NamedTuple):
    key: str
    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


class _Image(NamedTuple):
    image_id: int
    file: Path
    width: int
    height: int
    objects: list[_Object]


class _BadFileError(Exception):
    """An annotation file that is left out as a whole; the text says why."""


def read_voc(
    root: Path,
    image_set: str,
    *,
    classes: Sequence[str] | None = None,
    max_bad: int = 0,
    one_based: bool = False,
    images: Path | None = None,
) -> DetectionSet:
    """Read one image set of a VOC folder; no image is opened.

    `root` holds `Annotations/NAME.xml`, `JPEGImages/NAME.jpg` (or another image suffix) and
    `ImageSets/Main/IMAGE_SET.txt` with one NAME a line. An image's id is its 1-based line in the set.
    Problems are treated as in `read_coco`; a damaged XML file is one problem and leaves its image out.
    Difficult boxes are kept and flagged.

    Args:
        root: the folder (VOCdevkit/VOC2007, say).
        image_set: the name of the set: train, val, trainval, test.
        classes: names in the order of their labels; those found in the set, sorted, if None.
        max_bad: how many problems are tolerated.
        one_based: how pixels are counted. False takes xmin … ymax for the box's edges, as labelImg and most
            other tools write them, and as conversions to COCO read them. True is the devkit's own convention:
            pixels are counted from 1 and xmax, ymax belong to the box, so its edges are xmin - 1, ymin - 1,
            xmax, ymax. Choose True for the original VOC2007 and VOC2012; the two differ by one pixel.
        images: the folder of the images, if it is not `root/JPEGImages`.

    Raises:
        DataError: as `read_coco`.
    """
    if not image_set or leaves_folder(image_set) or "/" in image_set:
        raise DataError(f"{root}: the image set is {show(image_set)}, expected a name such as train or val.")
    source = root / "ImageSets" / "Main" / f"{image_set}.txt"
    names = _read_image_set(source)
    problems = Problems(source, max_bad)
    folder = voc_image_folder(root) if images is None else images
    found = _read_images(root, folder, source, names, problems, shift=1.0 if one_based else 0.0)
    labels = _labels(found, classes, source)
    records = tuple(_record(image, labels, problems) for image in found)
    dropped = problems.settle()
    if not records:
        raise DataError(f"{source}: no usable image is left of {len(names)}.")
    return DetectionSet(
        name=str(source),
        classes=tuple(labels),
        category_ids=tuple(labels.values()),
        records=records,
        dropped=MappingProxyType(dropped),
        notes=MappingProxyType(problems.notes),
        problems=problems.first,
    )


def _read_image_set(source: Path) -> list[tuple[int, str]]:
    """The names in an image set with their 1-based line."""
    try:
        lines = read_bytes(source, _MAX_SET).decode("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); expected an image set.") from None
    except ValueError:
        raise DataError(f"{source}: is not UTF-8 text; expected one image name a line.") from None
    names = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not names:
        raise DataError(f"{source}: is empty; expected at least one image name in a split.")
    return names


def _read_images(
    root: Path, folder: Path, source: Path, names: list[tuple[int, str]], problems: Problems, shift: float
) -> list[_Image]:
    files = FileIndex(folder, "JPEGImages")
    images: list[_Image] = []
    seen: set[str] = set()
    for number, name in names:
        key = f"line {number}"
        if leaves_folder(name):
            raise DataError(
                f"{source}: `{key}` is {show(name)}, which leads out of {root}; expected an image name. "
                "This is refused whatever max_bad_annotations is."
            )
        if name in seen:
            problems.add(key, name, "a name that no other line has", "bad images")
            continue
        seen.add(name)
        file = next((name + suffix for suffix in _suffixes() if name + suffix in files), None)
        if file is None:
            problems.note(MISSING)
            problems.add(key, name, f"the name of an image (.jpg, .png, …) in {folder}", "bad images")
            continue
        try:
            tree = _parse(root / "Annotations" / f"{name}.xml")
            width, height = _read_size(tree, name)
        except _BadFileError as error:
            problems.add_text(str(error), "bad images")
            continue
        objects = _read_objects(tree, name, problems, shift)
        images.append(_Image(number, folder / file, width, height, objects))
    return images


def _suffixes() -> list[str]:
    return [*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)]


def _parse(file: Path) -> Element:
    """Parse an annotation without expanding entities: a file with a DOCTYPE is refused, none needs one."""

    def refuse(*_: object) -> None:
        raise _BadFileError(f"Annotations/{file.name} has a DOCTYPE, expected plain XML without one")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(read_bytes(file, _MAX_XML), True)
    except OSError as error:
        raise _BadFileError(f"Annotations/{file.name} cannot be read ({error.strerror})") from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: an unknown encoding
        raise _BadFileError(f"Annotations/{file.name} is not XML ({error})") from None
    return builder.close()


def _read_size(tree: Element, name: str) -> tuple[int, int]:
    sides = []
    for side in ("width", "height"):
        text = tree.findtext(f"size/{side}")
        value = _number(text)
        if value is None or not 1 <= value < MAX_SIDE or value != int(value):
            raise _BadFileError(
                f"`Annotations/{name}.xml: size.{side}` is {show(text)}, expected a positive number of pixels"
            )
        sides.append(int(value))
    return sides[0], sides[1]


def _read_objects(tree: Element, name: str, problems: Problems, shift: float) -> list[_Object]:
    objects = []
    for position, entry in enumerate(tree.findall("object")):
        key = f"Annotations/{name}.xml: object[{position}]"
        label = (entry.findtext("name") or "").strip()
        texts = [entry.findtext(f"bndbox/{corner}") for corner in _CORNERS]
        values = [_number(text) for text in texts]
        difficult = (entry.findtext("difficult") or "0").strip()
        if not label:
            problems.add(f"{key}.name", entry.findtext("name"), "the name of a class", "bad boxes")
        elif None in values:
            at = values.index(None)
            problems.add(f"{key}.bndbox.{_CORNERS[at]}", texts[at], "a finite number", "bad boxes")
        elif difficult not in ("0", "1"):
            problems.add(f"{key}.difficult", difficult, "0 or 1", "bad boxes")
        else:
            x1, y1, x2, y2 = values
            objects.append(_Object(key, label, (x1 - shift, y1 - shift, x2, y2), difficult == "1"))
    return objects


def _labels(images: list[_Image], classes: Sequence[str] | None, source: Path) -> dict[str, int]:
    """Class name -> label."""
    if classes is None:
        classes = sorted({entry.name for image in images for entry in image.objects})
        if images and not classes:
            raise DataError(f"{source}: no image of the set has an object; expected at least one class.")
    elif not classes or len(set(classes)) != len(classes):
        raise DataError(
            f"{source}: `classes` in the config is {show(list(classes))}, expected names used only once."
        )
    labels = {name: label for label, name in enumerate(classes, start=1)}
    for image in images:
        for entry in image.objects:
            if entry.name not in labels:
                raise DataError(
                    f"{source}: `{entry.key}.name` is {show(entry.name)}, which `classes` in the config "
                    f"lacks; it has {show(list(classes))}. Add it to `classes`, or take its objects out."
                )
    return labels


def _record(image: _Image, labels: dict[str, int], problems: Problems) -> ImageRecord:
    rows = []
    for key, name, (x1, y1, x2, y2), difficult in image.objects:
        if x2 <= x1 or y2 <= y1:
            problems.drop("zero-area boxes")
            continue
        if x1 >= image.width or y1 >= image.height or x2 <= 0 or y2 <= 0:
            problems.note(OUTSIDE)
            inside = f"a box inside its image of {image.width}x{image.height}"
            problems.add(f"{key}.bndbox", [x1, y1, x2, y2], inside, "bad boxes")
            continue
        corners = clipped_box(x1, y1, x2, y2, image.width, image.height)
        if corners is None:
            problems.drop("zero-area boxes")
            continue
        if corners != (x1, y1, x2, y2):
            problems.note(CLIPPED)
        area = (corners[2] - corners[0]) * (corners[3] - corners[1])
        rows.append((corners, labels[name], False, difficult, area))
    return ImageRecord.of_rows(image.image_id, image.file, image.width, image.height, rows)


def _number(text: str | None) -> float | None:
    """A finite number; VOC2011 and later have coordinates with a fraction."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
