"""An experiment's config and data at a quick look: what is missing, not what is wrong inside."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detnas_nni.data.corrections.places import ImageFiles
from detnas_nni.data.voc_folders import readings_of_line, voc_folders
from detnas_nni.doctor.finding import Finding, ask
from detnas_nni.errors import ConfigError, DataError
from detnas_nni.util.user_files import IMAGE_SUFFIXES, leaves_folder

if TYPE_CHECKING:  # it needs pydantic, which may be missing
    from detnas_nni.config import CocoSplit, Config, VocSplit

_HEAD = 2**20  # bytes of an annotation file that are read

_ANNOTATIONS = "annotations"


def read_config(path: str | Path, overrides: Sequence[str]) -> tuple[Config | None, list[Finding]]:
    """The config, or None if it cannot be read, and the findings about it."""
    try:
        from detnas_nni.config.reading import load_config

        config = load_config(path, overrides)
    except ConfigError as error:
        return None, [Finding("config", "problem", line, f"edit {path}") for line in str(error).splitlines()]
    except ImportError as error:
        return None, [Finding("config", "problem", f"cannot be read: {error}", "install the packages first")]
    return config, [Finding("config", "ok", f"{path}: space {config.space.name}, run in {config.run_dir}")]


def data(config: Config) -> list[Finding]:
    """Each split: whether its folder and annotations exist, and its first image opens."""
    looks: dict[str, Callable[[], str]] = {}
    if config.data.classification is not None:
        for name in ("train", "test"):
            folder = getattr(config.data.classification, name)
            if folder is not None:
                looks[f"data.classification.{name}"] = partial(_look_at_classes, folder)
    if config.data.detection is not None:
        for name in ("train", "search", "test"):
            sources = getattr(config.data.detection, name) or ()
            for number, source in enumerate(sources):
                key = f"data.detection.{name}" + (f"[{number}]" if len(sources) > 1 else "")
                looks[key] = partial(_look_at_boxes, source)
    return [_finding(key, look) for key, look in looks.items()]


def steps(path: str | Path, overrides: Sequence[str]) -> list[Finding]:
    """The state of the run's folders, the next step, and the disk, from a process with torch."""
    root = str(Path(__file__).parents[2])  # in case the package is not installed
    # What this process can import, and no more: Python would add the current folder.
    search_path = os.pathsep.join([root, *filter(None, sys.path)])
    changes = [argument for override in overrides for argument in ("--set", override)]
    command = [sys.executable, "-m", "detnas_nni.doctor.steps", str(path), *changes]
    answer = ask(command, PYTHONPATH=search_path, PYTHONSAFEPATH="1")
    if answer.status != 0 or not answer.lines:
        text = f"the run's folders cannot be examined: {answer.error}"
        return [Finding("steps", "warning", text, "repair torch and NNI, then call `detnas doctor -c` again")]
    return [Finding(**values) for values in json.loads(answer.lines[-1])]


def _finding(key: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(key, "ok", look())
    except DataError as error:
        return Finding(key, "problem", str(error), f"put the data there, or change {key} in the config")


def _look_at_classes(root: Path) -> str:
    classes = sorted(
        entry.name
        for entry in _entries(root, "one folder per class")
        if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise DataError(f"{root}: has no folders; expected one folder of images per class")
    _open(_first_image(root / classes[0]))
    return f"{root}: {len(classes)} classes"


def _look_at_boxes(source: CocoSplit | VocSplit) -> str:
    return _look_at_coco(source) if hasattr(source, "annotations") else _look_at_voc(source)


def _look_at_coco(source: CocoSplit) -> str:
    head = _head(source.annotations, "a COCO annotation file").lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head.startswith(b"{"):
        raise DataError(f"{source.annotations}: is not JSON; expected a COCO annotation file")
    # Usually the images are near the beginning of the file; the step itself reads all of it.
    named = re.search(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")', head)
    if named is None:
        image = _first_image(source.images)
    else:
        name = json.loads(named[1].decode("utf-8", "replace"))
        image = _named(source.images, name, named_by=source.annotations)
    _open(image)
    return f"{source.annotations}: the first image opens, {image}"


def _look_at_voc(source: VocSplit) -> str:
    folders = voc_folders(source.root)
    if source.image_set is None:
        image = _first_image(folders.pictures)
        _open(image)
        return f"{source.root}: an image opens, {image}"
    listed = source.root / "ImageSets" / "Main" / f"{source.image_set}.txt"
    names = _head(listed, "a list of image names").split()
    if not names:
        raise DataError(f"{listed}: is empty; expected one image name per line")
    name = next(readings_of_line(names[0].decode("utf-8-sig", "replace")))
    _head(_inside(folders.xml, f"{name}.xml", named_by=listed), "the image's annotations")
    image = _named(folders.pictures, name, named_by=listed, stem=True)
    _open(image)
    return f"{listed}: the first image opens, {image}"


def _entries(folder: Path, expected: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); expected {expected}") from None


def _first_image(folder: Path) -> Path:
    """Some image of the folder, the first one listed: a folder of a million is not sorted for that."""
    for entry in _entries(folder, "a folder of images"):
        if entry.name.lower().endswith(IMAGE_SUFFIXES):
            return Path(entry.path)
    raise DataError(f"{folder}: has no images ({', '.join(IMAGE_SUFFIXES)})")


def _named(folder: Path, name: str, *, named_by: Path, stem: bool = False) -> Path:
    """The image that annotations name, as the steps find it."""
    if "\0" not in name:
        meant = ImageFiles(folder, "images").resolve({0: name}, set(), stems=stem)
        if meant and not (folder / name).exists():
            return meant[0]
    return _inside(folder, f"{name}.jpg" if stem else name, named_by=named_by)


def _inside(folder: Path, name: str, *, named_by: Path) -> Path:
    if leaves_folder(name) or "\0" in name:
        raise DataError(f"{named_by}: names {name!r}, which is not a file in {folder}")
    return folder / name


def _head(file: Path, expected: str) -> bytes:
    try:
        if file.exists() and not file.is_file():
            raise DataError(f"{file}: is not a file; expected {expected}")  # a pipe would never end
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); expected {expected}") from None


def _open(file: Path) -> None:
    """Read an image's header, which runs no decoder."""
    from PIL import Image

    if file.exists() and not file.is_file():
        raise DataError(f"{file}: is not a file; expected an image")
    try:
        with Image.open(file):
            pass
    except Exception as error:  # Pillow's readers raise nearly every type on damaged data
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file}: does not open as an image ({reason})") from None


def annotations(config: Config) -> list[Finding]:
    """The findings about each detection split, one per kind; every image file's header is read."""
    detection = config.data.detection
    if detection is None:
        return []
    try:
        from detnas_nni.data.splits import open_detection

        splits = open_detection(
            detection, config.seed, config.data.max_images, strict=config.data.strict, scan=True
        )
    except DataError as error:
        return [
            Finding(
                _ANNOTATIONS, "problem", str(error), "correct the data, or the key that the message names"
            )
        ]
    except ImportError as error:
        return [Finding(_ANNOTATIONS, "warning", f"cannot be read: {error}", "install the packages first")]
    found = [
        Finding(_ANNOTATIONS, "warning", line, "docs/data.md says how it is read") for line in splits.told()
    ]
    return found or [Finding(_ANNOTATIONS, "ok", "nothing had to be corrected")]
