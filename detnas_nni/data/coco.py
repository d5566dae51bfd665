"""Reads COCO detection annotations (JSON), https://cocodataset.org/#format-data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detnas_nni.data.corrections.categories import Categories, read_categories
from detnas_nni.data.corrections.places import OTHER_PLACES, ImageFiles
from detnas_nni.data.corrections.segments import number
from detnas_nni.data.corrections.values import (
    ALIKE_IDS,
    FOREIGN,
    TEXT_NUMBERS,
    BadValueError,
    Beside,
    Ids,
    beside,
    box,
    may_be_marked,
    written,
)
from detnas_nni.data.entries import DEFAULT, MAX_AREA, Conventions, Entries, size_in_pixels
from detnas_nni.data.problems import MISSING, Problems
from detnas_nni.data.reading import finish
from detnas_nni.data.records import DetectionSet
from detnas_nni.errors import DataError
from detnas_nni.util.text import show
from detnas_nni.util.user_files import leaves_folder, read_json_object

_BAD = -1
"""Stands for an image that is left out: its boxes are silently left out, too."""

_NUMBERS = (float, int)
_FAR = 1e15  # pixels, far beyond any image, and safe to compute with

_NAMES = ("file_name", "filename", "coco_url", "path")
"""Keys of an image's name; LVIS has only the URL."""


def read_coco(
    images: Path,
    annotations: Path,
    *,
    classes: Sequence[str] | None = None,
    max_bad: int = 0,
    lenient: bool = False,
    conventions: Conventions = DEFAULT,
) -> DetectionSet:
    """Read a COCO annotation file; images are opened only where the annotations are ambiguous.

    Images without boxes and crowd boxes are kept. Boxes that extend beyond their image are clipped. Where a
    labelling tool deviates from the format and only one reading is possible, that is taken and counted
    (`data.corrections`, docs/data.md). Boxes without an area are left out and counted. A *problem* is a box
    entirely outside its image, an unknown category or image id, a duplicate image id or file name, a missing
    image file, a number that is not finite, a wrong type: the entry is left out, counted and warned about, as
    long as there are at most `max_bad` of them.

    Args:
        images: the folder that `file_name` is relative to.
        annotations: the JSON file.
        classes: names of the categories to use, in the order of their labels; if None, all
            of the file's, in the order of their ids.
        max_bad: how many problems are tolerated.
        lenient: whether the file may lack some of `classes`, such as a split without objects of one.
        conventions: how to read ambiguous annotations.

    Raises:
        DataError: the file or the folder cannot be read or lacks its keys, there is no image, an image's path
            leads out of the folder, `classes` and the file's categories disagree, two readings are
            possible, or there are too many problems.
    """
    content = read_json_object(annotations, ("images", "annotations", "categories"))
    if not content["images"]:
        raise DataError(f"{annotations}: `images` is empty; expected at least one image in a split.")
    problems = Problems(annotations, max_bad, conventions.strict)
    categories = read_categories(
        content["categories"], content["annotations"], classes, annotations, problems, lenient=lenient
    )
    entries = Entries(annotations, "xywh", "annotations[{}]".format, len(content["images"]))
    places = _read_images(content["images"], images, entries, problems)
    _read_boxes(content["annotations"], places, categories, entries, problems, conventions)
    return finish(entries, categories.names, categories.ids, problems, conventions)


def _read_images(entries: list, folder: Path, found: Entries, problems: Problems) -> Ids[int]:
    """The usable images' places by their ids; `_BAD` for those left out."""
    files = ImageFiles(folder, "images")
    places: Ids[int] = Ids()
    # By path: "a.jpg" and "./a.jpg" are one file, which a hold-out must not split.
    owners: dict[Path, Any] = {}
    named: dict[int, str] = {}
    missed: dict[int, str] = {}
    reason = "bad images"
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            expected = "an object with id, file_name, width and height"
            problems.add(f"images[{position}]", entry, expected, reason)
            continue
        own = entry.get("id")
        if not places.add(own, _BAD):
            expected = "a number or a text" if written(own) is None else "an id that no other image has"
            problems.add(f"images[{position}].id", own, expected, reason)
            continue
        name = _name(entry)
        if name is None:
            expected = "the name of an image file"
            problems.add(f"images[{position}].file_name", entry.get("file_name"), expected, reason)
        elif leaves_folder(name) or name not in files:
            missed[position] = name
        elif (file := folder / name) in owners:
            expected = f"a file that image {owners[file]} does not have"
            problems.add(f"images[{position}].file_name", name, expected, reason)
        else:
            owners[file] = own
            named[position] = name
    meant = files.resolve(missed, set(owners)) if missed else {}
    for position, name in missed.items():
        if position not in meant:
            _miss(position, name, files, found.source, problems)
    for position in sorted([*named, *meant]):
        entry = entries[position]
        if position in meant:
            file = meant[position]
            problems.correct(OTHER_PLACES, f"{show(missed[position])} is {file.relative_to(folder)}")
        else:
            file = folder / named[position]
        place = found.add_image(entry["id"], file, _size(entry, position, problems))
        places.exact[entry["id"]] = place
    return places


def _name(entry: Mapping[str, Any]) -> str | None:
    for key in _NAMES:
        name = entry.get(key)
        if name is not None:
            return name if isinstance(name, str) and name else None
    return None


def _miss(position: int, name: str, files: ImageFiles, source: Path, problems: Problems) -> None:
    key = f"images[{position}].file_name"
    # Looked for once: the message for the first holds for all.
    near = files.nearest(name) if MISSING not in problems.notes else ""
    if leaves_folder(name):
        raise DataError(
            f"{source}: `{key}` is {show(name)}, which leads out of the image folder {files.root}; "
            f"expected a path below it{near}. This is refused whatever max_bad_annotations is."
        )
    problems.note(MISSING)
    problems.add(key, name, f"a file that exists in {files.root}{near}", "bad images")


def _size(entry: Mapping[str, Any], position: int, problems: Problems) -> tuple[int, int] | None:
    """Width and height; None if they have to be read from the image file."""
    width, height = entry.get("width"), entry.get("height")
    if type(width) is int and type(height) is int and 0 < width < 2**24 and 0 < height < 2**24:
        return width, height
    sides = size_in_pixels(number(width)), size_in_pixels(number(height))
    if None in sides:
        return None
    for key, value in (("width", width), ("height", height)):
        if isinstance(value, str):
            problems.correct(TEXT_NUMBERS, f"`images[{position}].{key}` is {show(value)}")
    return sides


def _read_boxes(
    entries: list,
    places: Ids[int],
    categories: Categories,
    found: Entries,
    problems: Problems,
    conventions: Conventions,
) -> None:
    """Add each box that can be read to its image."""
    images, labels = places.exact, categories.labels.exact
    marked: dict[tuple, bool] = {}  # by the set of an annotation's keys; a file has few such sets
    for position, entry in enumerate(entries):
        # Nearly all annotations in nearly all files are done here.
        if type(entry) is dict:
            image_id, category_id = entry.get("image_id"), entry.get("category_id")
            bbox, area = entry.get("bbox"), entry.get("area")
            if type(image_id) is int and type(category_id) is int and type(bbox) is list and len(bbox) == 4:
                keys = tuple(entry)
                if keys not in marked:
                    marked[keys] = may_be_marked(keys)
                image, label = images.get(image_id, _BAD), labels.get(category_id, 0)
                x, y, width, height = bbox
                if (
                    image >= 0
                    and label > 0
                    and type(x) in _NUMBERS
                    and type(y) in _NUMBERS
                    and type(width) in _NUMBERS
                    and type(height) in _NUMBERS
                    and -_FAR < x < _FAR
                    and -_FAR < y < _FAR
                    and -_FAR < width < _FAR
                    and -_FAR < height < _FAR
                    and type(area) in _NUMBERS
                    and 0 < area < MAX_AREA
                    and entry.get("iscrowd", 0) == 0
                    and not marked[keys]
                ):
                    found.image.append(image)
                    found.label.append(label)
                    found.values += bbox
                    found.area.append(area)
                    found.position.append(position)
                    continue
        _read_closely(entry, position, places, categories, found, problems, conventions)


def _read_closely(
    entry: Any,
    position: int,
    places: Ids[int],
    categories: Categories,
    found: Entries,
    problems: Problems,
    conventions: Conventions,
) -> None:
    """An annotation with an oddity or a mark."""
    key, reason = f"annotations[{position}]", "bad boxes"
    if not isinstance(entry, dict):
        problems.add(key, entry, "an object with image_id, category_id and bbox", reason)
        return
    image, label = _place(entry, key, places, problems), _label(entry, key, categories, found, problems)
    if image is None or label is None:
        return
    if image == _BAD:
        problems.drop("boxes of bad images")
        return
    read = box(entry)
    if read is None:
        expected = "four finite numbers x, y, width, height"
        problems.add(f"{key}.bbox", entry.get("bbox"), expected, reason)
        return
    try:
        marks = beside(entry)
    except BadValueError as error:
        problems.add(f"{key}.{error.key}", error.value, error.expected, reason)
        return
    if read.otherwise is not None:
        problems.correct(read.otherwise, f"`{key}.bbox` is {show(entry.get('bbox'))}")
    if marks.foreign:
        problems.correct(FOREIGN, f"`{key}.{marks.foreign}")
        marks = marks._replace(foreign="")
    if conventions.crowds == "objects":
        marks = marks._replace(crowd=False)
    area = number(entry.get("area"))
    found.add_box(
        image,
        label,
        read.values,
        position,
        area=area if area is not None and 0 < area < MAX_AREA else float("nan"),
        beside=None if marks == Beside() else marks,
        around=read.around,
    )


def _place(entry: Mapping[str, Any], key: str, places: Ids[int], problems: Problems) -> int | None:
    """The place of an annotation's image; None, and a problem, if there is none."""
    own = entry.get("image_id")
    place, alike = places.find(own)
    if place is None:
        problems.add(f"{key}.image_id", own, "the id of an image in `images`", "bad boxes")
    elif alike:
        problems.correct(ALIKE_IDS, f"`{key}.image_id` is {show(own)}")
    return place


def _label(
    entry: Mapping[str, Any], key: str, categories: Categories, found: Entries, problems: Problems
) -> int | None:
    """The label of an annotation; None, and a problem, if its category is unknown."""
    own = entry.get("category_id")
    label, alike = categories.labels.find(own)
    if label is None and isinstance(own, str) and own in categories.names:
        label, alike = categories.names.index(own) + 1, True
    if label is None:
        expected = f"one of the ids in `categories`, {categories.known_ids}"
        problems.add(f"{key}.category_id", own, expected, "bad boxes")
        return None
    if label == 0:
        raise DataError(
            f"{found.source}: `{key}.category_id` is {show(own)} ({show(categories.name(own))}), which "
            "`classes` in the config, or the training split, lacks; add that name there, or remove "
            "its annotations from the file."
        )
    if alike:
        problems.correct(ALIKE_IDS, f"`{key}.category_id` is {show(own)}")
    return label
