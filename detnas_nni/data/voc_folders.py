"""Where a Pascal VOC set has its pictures, its XML files and its lists, in the layouts that tools leave."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.errors import DataError
from detnas_nni.util.user_files import IMAGE_SUFFIXES, leaves_folder, read_bytes

# VOC's own name first; then those of labelImg, and of tools that imitate it.
XML_FOLDERS = ("annotations", "annotation", "xmls", "xml", "labels", "annots", "anns", "ann")
_PICTURES = ("jpegimages", "images", "image", "imgs", "img", "pictures", "pics", "photos", "frames")

_SPLITS = ("train", "valid", "val", "test")

_FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1|\+1)")  # blanks, or a tab

_MAX_LINK = 4096  # bytes; no path is longer
_MAX_SET = 100_000_000  # bytes of a list; VOC's have 0.3 MB


@dataclass(frozen=True)
class VocFolders:
    """Attributes:
    xml: the folder of the XML files.
    pictures: the folder of the images; the same if they are side by side.
    sets: the names of the image sets; none if there is no ImageSets/Main.
    """

    xml: Path
    pictures: Path
    sets: tuple[str, ...]


def voc_folders(root: Path, pictures: Path | None = None) -> VocFolders:
    """The folders of a set: VOC's own, `images` and `annotations`, or one folder for both.

    For `annotations/train` the pictures are in `images/train`, unless they are next to the XML files.

    Args:
        root: the set's folder.
        pictures: the folder of the images, if known.

    Raises:
        DataError: there is no XML file, or the folder cannot be read.
    """
    try:
        with os.scandir(root) as entries:
            children = {entry.name.lower(): Path(root, entry.name) for entry in sorted(entries, key=_name)}
    except OSError as error:
        raise DataError(
            f"{root}: cannot be read ({error.strerror}); expected a Pascal VOC folder: pictures with an XML "
            "file each, side by side, or in the folders JPEGImages and Annotations, or images and "
            "annotations"
        ) from None
    xml = next(
        (children[name] for name in XML_FOLDERS if name in children and _has_xml(children[name])), None
    )
    if xml is None and _has_xml(root):
        xml = root
        parts = [name for name in _SPLITS if name in children and _has_xml(children[name])]
        if len(parts) > 1:
            raise DataError(
                f"{root}: has the splits {', '.join(parts)}, each with pictures and XML files; name "
                f"them: --voc {children[parts[0]]} --test {children[parts[-1]]}"
            )
    if xml is None:
        raise DataError(
            f"{root}: has no XML file in {', '.join(XML_FOLDERS[:3])} or beside the pictures; expected a "
            "Pascal VOC folder: pictures with an XML file each"
        )
    if pictures is None:
        pictures = _pictures(children, xml, root)
    return VocFolders(xml, pictures, image_sets(root))


def image_sets(root: Path) -> tuple[str, ...]:
    """The names of the lists in ImageSets/Main."""
    try:
        found = (file.stem for file in (root / "ImageSets" / "Main").iterdir() if file.suffix == ".txt")
        return tuple(sorted(found))
    except OSError:
        return ()


def read_image_set(source: Path) -> list[tuple[int, str]]:
    """The lines of an image set that are not empty, with their number from 1 on.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    try:
        lines = read_bytes(source, _MAX_SET).decode("utf-8-sig").splitlines()
    except OSError as error:
        there = ", ".join(image_sets(source.parents[2])) or "none"
        raise DataError(
            f"{source}: cannot be read ({error.strerror}); expected an image set, of which there are: "
            f"{there}."
        ) from None
    except ValueError:
        raise DataError(f"{source}: is not UTF-8 text; expected one image name per line.") from None
    names = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not names:
        raise DataError(f"{source}: is empty; expected at least one image name in a split.")
    return names


def readings_of_line(line: str) -> Iterator[str]:
    """What a line of an image set may name: itself, then without a flag (1, 0, -1), a suffix, folders.

    The lists of single classes have flags that say whether the class is in the image; the image is in the set
    either way.
    """
    flagged = _FLAGGED.fullmatch(line)
    for reading in (line,) if flagged is None else (line, flagged[1]):
        yield reading
        stem, dot, suffix = reading.rpartition(".")
        if dot + suffix.lower() in (*IMAGE_SUFFIXES, ".xml"):
            yield stem
            yield stem.replace("\\", "/").rsplit("/", 1)[-1]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _has_xml(folder: Path) -> bool:
    return _has_file(folder, (".xml",))


def _has_file(folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether there is a file with one of these suffixes in a folder or below it."""
    return any(name.lower().endswith(suffixes) for _, _, names in os.walk(folder) for name in names)


def _pictures(children: dict[str, Path], xml: Path, root: Path) -> Path:
    if "jpegimages" in children:
        return _behind_link(root, children["jpegimages"])
    if xml == root:
        return root if _has_file(root, IMAGE_SUFFIXES) else _opposite(root)
    return next((children[name] for name in _PICTURES if name in children), root)


def _opposite(root: Path) -> Path:
    """The folder of pictures of a folder of XML files: images/train for annotations/train, or images."""
    for above in (root, root.parent):
        if above.name.lower() not in XML_FOLDERS or above.parent == above:
            continue
        with suppress(OSError), os.scandir(above.parent) as entries:
            there = {entry.name.lower(): Path(entry.path) for entry in sorted(entries, key=_name)}
            for folder in (there[name] for name in _PICTURES if name in there):
                inner = folder / root.relative_to(above)
                return inner if inner.is_dir() else folder
    return root


def _behind_link(root: Path, folder: Path) -> Path:
    """The folder; or the link's target, if it is a link in a repository that git could not create.

    git then writes a text file with the target. Sets with both annotation formats have such links.
    """
    try:
        target = read_bytes(folder, _MAX_LINK).decode("utf-8").strip() if folder.is_file() else ""
    except (OSError, ValueError):
        target = ""
    return root / target if target and "\n" not in target and not leaves_folder(target) else folder
