"""Which format a data set is in, by the contents of its files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from detnas_nni.data.formats import kitti, labelme, labelstudio, lvis, openimages, via
from detnas_nni.data.formats import yolo_index as yolo
from detnas_nni.data.formats.documents import number, read_csv, read_lines, read_yaml, whole
from detnas_nni.data.formats.pictures import Listing
from detnas_nni.errors import DataError
from detnas_nni.util.user_files import read_bytes

FORMS = {
    "coco": "COCO",
    "voc": "Pascal VOC",
    "yolo": "YOLO",
    "cvat": "CVAT's XML",
    "labelme": "labelme",
    "via": "VIA",
    "labelstudio": "Label Studio's JSON",
    "kitti": "KITTI",
    "lvis": "LVIS",
    "openimages": "Open Images",
}
"""The formats by their names on the command line."""

# If a data set has several, one file for all goes before many files.
_ORDER = ("lvis", "coco", "openimages", "cvat", "labelstudio", "via", "voc", "yolo", "labelme", "kitti")

_SMALL = 4_000_000  # bytes of a JSON file that is read whole to recognise it
_HEAD = 1_000_000  # of a larger one, at each end
_SAMPLE = 12  # files of a folder that are opened; there may be thousands, all of one kind
_LINES = 3


@dataclass(frozen=True)
class Recognised:
    """A data set and its format.

    Attributes:
        form: a key of `FORMS`.
        root: its folder.
        files: the annotation files, relative to it; for YOLO the data.yaml, if there is one.
        listing: all files of the folder.
        why: what it was recognised by.
        also: other formats that were found.
    """

    form: str
    root: Path
    files: tuple[PurePosixPath, ...]
    listing: Listing
    why: str
    also: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For the user: what it was recognised as, and how to choose another."""
        others = "".join(f"; there is also {FORMS[form]} (--from {form})" for form in self.also)
        return f"recognised as {FORMS[self.form]}: {self.why}{others}"


def recognise(path: Path, form: str | None = None) -> Recognised:
    """Look at a folder, or at one annotation file.

    Args:
        path: the folder, or the file.
        form: a key of `FORMS` if the user gives the format; then only that is looked for.

    Raises:
        DataError: there is nothing, or nothing known, or it is not clear what to take.
    """
    if not path.exists():
        raise DataError(f"{path}: does not exist; expected a folder of pictures and annotations.")
    single = path.is_file()
    root = path.parent if single else path
    listing = Listing(root)
    files = (PurePosixPath(path.name),) if single else listing.files
    found: dict[str, list[PurePosixPath]] = {}
    for file, kind in _kinds(root, files):
        found.setdefault(kind, []).append(file)
    if form is not None:
        if single and form not in found:
            found = {
                form: [PurePosixPath(path.name)]
            }  # the user knows; the reader reports what is wrong with it
        if form not in found:
            raise DataError(
                f"{path}: no {FORMS[form]} was found; expected {_EXPECTED[form]}."
                + (f" There is {_listed(found)}." if found else "")
            )
        forms = [form]
    else:
        forms = [known for known in _ORDER if known in found]
    if not forms:
        raise DataError(
            f"{path}: no annotations were recognised among {len(files):,} files; expected one of "
            f"{', '.join(FORMS.values())}. `--from FORMAT` says which it is."
        )
    chosen, also = forms[0], tuple(forms[1:])
    kept = tuple(_index(root, found[chosen]) if chosen == "yolo" else found[chosen])
    return Recognised(chosen, root, kept, listing, _why(chosen, found[chosen], kept), also)


_EXPECTED = {
    "coco": "a JSON file with images, annotations and categories",
    "voc": "XML files with the root <annotation>",
    "yolo": "a data.yaml, or text files with lines of class cx cy w h",
    "cvat": "an XML file with the root <annotations>, such as annotations.xml",
    "labelme": "JSON files with shapes and imagePath",
    "via": "a JSON or CSV file of VIA 1 or 2, such as via_region_data.json",
    "labelstudio": "a JSON file with a list of tasks",
    "kitti": "text files with lines of 15 columns",
    "lvis": "a JSON file such as lvis_v1_train.json",
    "openimages": f"a CSV with the columns {', '.join(openimages.COLUMNS)}",
}


def _listed(found: dict[str, list[PurePosixPath]]) -> str:
    return ", ".join(f"{FORMS[form]} ({files[0]})" for form, files in found.items())


def _why(form: str, files: Sequence[PurePosixPath], kept: Sequence[PurePosixPath]) -> str:
    if form == "yolo" and kept:
        return f"{kept[0]} names its classes and its splits"
    if len(files) == 1:
        return f"{files[0]}"
    return f"{files[0]} and {len(files) - 1:,} more"


def _kinds(root: Path, files: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, str]]:
    """Annotation files with their formats. Of many in one folder only a sample is opened."""
    groups: dict[tuple[PurePosixPath, str], list[PurePosixPath]] = {}
    for file in files:
        suffix = file.suffix.lower()
        if suffix in _LOOKS and (suffix != ".txt" or yolo.is_label_file(file)):
            groups.setdefault((file.parent, suffix), []).append(file)
    for (_, suffix), group in groups.items():
        look = _LOOKS[suffix]
        sample = (
            [group[at * len(group) // _SAMPLE] for at in range(_SAMPLE)] if len(group) > _SAMPLE else group
        )
        kinds = {file: _looked(look, root / file) for file in sample}
        known = {kind for kind in kinds.values() if kind is not None}
        if len(group) > _SAMPLE and len(known) == 1:
            kinds = dict.fromkeys(group, known.pop())
        elif len(group) > _SAMPLE and known:
            kinds = {file: _looked(look, root / file) for file in group}
        yield from ((file, kind) for file, kind in kinds.items() if kind is not None)


def _looked(look: Callable[[Path], str | None], file: Path) -> str | None:
    try:
        return look(file)
    except (DataError, OSError):  # not an annotation file, or an unreadable one
        return None


def _json(file: Path) -> str | None:
    if file.stat().st_size > _SMALL:
        return _large_json(file)
    try:
        content = json.loads(read_bytes(file, _SMALL))
    except (ValueError, RecursionError):
        return None
    if lvis.is_lvis(content):
        return "lvis"
    if isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        return "coco" if isinstance(content.get("categories"), list) else None
    if labelme.is_labelme(content):
        return "labelme"
    if via.is_via(content) or via.is_via3(content):
        return "via"
    return "labelstudio" if labelstudio.is_labelstudio(content) else None


def _large_json(file: Path) -> str | None:
    """By the keys at its beginning and end; labelme's files are large if they contain their pictures."""
    with file.open("rb") as stream:
        ends = stream.read(_HEAD)
        stream.seek(-_HEAD, 2)
        ends += stream.read()

    def has(*keys: bytes) -> bool:
        return all(re.search(rb'"' + key + rb'"\s*:', ends) for key in keys)

    if has(b"not_exhaustive_category_ids"):
        return "lvis"
    if has(b"shapes") and has(b"imagePath"):
        return "labelme"
    if has(b"_via_img_metadata") or has(b"shape_attributes", b"region_attributes"):
        return "via"
    lists = [
        key
        for key in (b"images", b"annotations", b"categories")
        if re.search(rb'"' + key + rb'"\s*:\s*\[', ends)
    ]
    if len(lists) >= 2 and ends.lstrip()[:1] == b"{":
        return "coco"
    return "labelstudio" if has(b"annotations", b"result") and ends.lstrip()[:1] == b"[" else None


def _xml(file: Path) -> str | None:
    with file.open("rb") as stream:
        head = stream.read(4096).replace(b"\0", b"")  # UTF-16's
    root = re.search(rb"<(annotations?)[\s>]", head)
    if root is None:
        return None
    if root[1] == b"annotation":
        return "voc" if re.search(rb"<(object|filename|size|folder)[\s>/]", head) else None
    return "cvat" if re.search(rb"<(meta|image|track|version)[\s>]", head) else None


def _csv(file: Path) -> str | None:
    _, header = next(read_csv(file), (0, []))
    if openimages.is_openimages(header):
        return "openimages"
    names = [name.strip(" #") for name in header]
    return "via" if set(via.CSV_HEADER) <= set(names) else None


def _txt(file: Path) -> str | None:
    if file.stat().st_size > _SMALL:
        return None
    lines = [line for _, line in read_lines(file)[:_LINES]]
    if any(kitti.is_kitti(line) for line in lines):  # not all: a line may be wrong
        return "kitti"
    return "yolo" if any(_is_yolo(line) for line in lines) else None


def _is_yolo(line: str) -> bool:
    category, *shares = line.split()
    values = [number(share) for share in shares]
    return whole(category) is not None and len(values) >= 4 and None not in values


def _yaml(file: Path) -> str | None:
    return "yolo" if yolo.is_index(read_yaml(file)) else None


_LOOKS: dict[str, Callable[[Path], str | None]] = {
    ".json": _json,
    ".xml": _xml,
    ".csv": _csv,
    ".txt": _txt,
    ".yaml": _yaml,
    ".yml": _yaml,
}


def _index(root: Path, files: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """The data.yaml of a YOLO data set, if it has one."""
    found = [file for file in files if file.suffix.lower() in yolo.YAML_SUFFIXES]
    if not found:
        return []
    depth = min(len(file.parts) for file in found)
    nearest = [file for file in found if len(file.parts) == depth]
    usual = [file for file in nearest if file.stem in ("data", "dataset")] or nearest
    if len(usual) > 1:
        raise DataError(
            f"{root}: {', '.join(map(str, usual[:5]))} each name classes and splits; expected one. Give the "
            "path of the one to take."
        )
    return usual
