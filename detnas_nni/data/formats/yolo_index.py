"""Which pictures and classes a YOLO data set has: by its data.yaml, or by lists and folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from detnas_nni.data.formats.dataset import TEST, TRAIN, VAL, split_of
from detnas_nni.data.formats.documents import name_of, read_lines, whole
from detnas_nni.data.formats.note import MISSING
from detnas_nni.data.formats.pictures import parts_of
from detnas_nni.data.formats.source import Source
from detnas_nni.errors import DataError
from detnas_nni.util.text import show

YAML_SUFFIXES = (".yaml", ".yml")
NAMES_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels", "labels.names")
"""Files of class names, one per line, in the order of the ids."""

_NOT_LABELS = ("classes.txt", "requirements.txt")
_KEYS = ((TRAIN, ("train",)), (VAL, ("val", "valid", "validation")), (TEST, ("test",)))


class Names(NamedTuple):
    """What the class ids stand for; `listed` is None if nothing says."""

    listed: dict[int, str] | None
    source: str
    keypoints: bool = False


def is_label_file(file: PurePosixPath) -> bool:
    """Whether a text file may have labels, by its name."""
    name = file.name.casefold()
    return not (name in _NOT_LABELS or name.startswith(("readme", "license")))


def is_index(values: dict[str, Any]) -> bool:
    """Whether a YAML file is a data.yaml."""
    return isinstance(values.get("names"), list | dict) and any(
        key in values for _, keys in _KEYS for key in keys
    )


def names_of(values: dict[str, Any], file: Path) -> Names:
    names = values.get("names")
    if not isinstance(names, list | dict):
        names = []
    entries = list(names.items()) if isinstance(names, dict) else list(enumerate(names))
    listed: dict[int, str] = {}
    for key, value in entries:
        category, name = whole(key), name_of(str(value) if isinstance(value, bool) else value)
        if category is None or category < 0 or name is None:
            raise DataError(
                f"{file}: `names[{show(key)}]` is {show(value)}, expected a class name for each id."
            )
        listed[category] = name
    if not listed:
        raise DataError(f"{file}: `names` is {show(values.get('names'))}, expected the names of the classes.")
    return Names(dict(sorted(listed.items())), str(file), values.get("kpt_shape") is not None)


def names_beside(source: Source) -> Names:
    """The classes of a data set without data.yaml; several files are allowed if they agree."""
    files = [file for file in source.listing.files if file.name.casefold() in NAMES_FILES]
    files += [file for file in source.listing.of(".names") if file not in files]
    found: dict[tuple[str, ...], PurePosixPath] = {}
    for file in files:
        lines = tuple(line for _, line in read_lines(source.root / file))
        if lines:
            found.setdefault(lines, file)
    if len(found) > 1:
        first, second, *_ = found.values()
        raise DataError(
            f"{source.root / first} and {source.root / second} name different classes; expected one list. "
            "Remove the one that does not belong to these labels."
        )
    if not found:
        return Names(None, "")
    (lines, file), *_ = found.items()
    wrong = next((line for line in lines if name_of(line) is None), None)
    if wrong is not None:
        raise DataError(f"{source.root / file}: {show(wrong)} is not a class name.")
    return Names(dict(enumerate(lines)), str(source.root / file))


def pictures_by_folder(source: Source) -> Iterator[tuple[str | None, PurePosixPath]]:
    """All pictures; darknet's lists or the folders' names give their splits."""
    lists = _lists(source)
    for file in source.pictures.files:
        yield lists.get(file, split_of(file.parts[:-1])), file


def _lists(source: Source) -> dict[PurePosixPath, str]:
    """darknet: train.txt and valid.txt have one picture per line."""
    found: dict[PurePosixPath, str] = {}
    for file in source.listing.of(".txt"):
        split = split_of((file.stem,))
        if split is None or not file.name.casefold().startswith(("train", "val", "test")):
            continue
        names = (line for _, line in read_lines(source.root / file))
        # Others are notes, or the labels of a picture called train_1.jpg.
        if any(source.pictures.look(name, file.parent) for name in names):
            found |= dict.fromkeys(_listed(source, file), split)
    return found


def pictures_by_index(
    source: Source, index: PurePosixPath, values: dict[str, Any]
) -> Iterator[tuple[str, PurePosixPath]]:
    """The pictures of the splits that a data.yaml names."""
    file = source.root / index
    base = values.get("path")
    if base is not None and not isinstance(base, str):
        raise DataError(f"{file}: `path` is {show(base)}, expected a folder.")
    entries = list(_entries(file, values))
    places = [_pictures_at(source, index, base or "", entry) for _, _, entry in entries]
    if source.pictures.root != source.root and not any(place is not None for place in places):
        places = [list(source.pictures.files)] * len(entries)  # the user names one folder with all pictures
    named: dict[tuple[str, PurePosixPath], None] = {}  # once each: a split's folders may lie in one another
    for (split, key, entry), found in zip(entries, places, strict=True):
        if found is None and split == TRAIN:
            raise DataError(
                f"{file}: `{key}` is {show(entry)}, which is neither a folder nor a list of pictures "
                f"below {source.pictures.root}; expected where the training pictures are. Correct it, or "
                "give the folder that contains them."
            )
        if found is None:
            source.note.say(f"{file}: `{key}` is {show(entry)}, which does not exist; left out")
            continue
        named.update(dict.fromkeys((split, picture) for picture in found))
    if not named:
        raise DataError(f"{file}: the folders that it names contain no readable picture.")
    yield from named


def _entries(file: Path, values: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The split, the key and the text of each folder or list that a data.yaml names."""
    for split, keys in _KEYS:
        key = next((key for key in keys if values.get(key)), None)
        if key is None:
            continue
        for entry in values[key] if isinstance(values[key], list) else [values[key]]:
            if not isinstance(entry, str):
                raise DataError(f"{file}: `{key}` is {show(entry)}, expected a folder or a list of pictures.")
            yield split, key, entry


def _pictures_at(source: Source, index: PurePosixPath, base: str, entry: str) -> list[PurePosixPath] | None:
    """The pictures of a data.yaml's entry, which may be written for another machine, or start with ../."""
    root = source.pictures.root
    first = next(_readings(base, entry))
    for parts in _readings(base, entry):
        for start in dict.fromkeys((index.parent, PurePosixPath())):
            place = start.joinpath(*parts)
            if place in source.pictures.folders:
                if parts != first:
                    source.note.say(f"{source.root / index}: {entry!r:.200} is read as {root / place}")
                return [file for file in source.pictures.files if file.is_relative_to(place)]
            if place.suffix.lower() == ".txt" and place in source.listing.files:
                return _listed(source, place)
    return None


def _readings(base: str, entry: str) -> Iterator[tuple[str, ...]]:
    """The parts of base and entry, then with fewer and fewer of the first ones."""
    own = parts_of(entry)
    whole_path = own if re.match(r"[/\\]|[A-Za-z]:", entry) else (*parts_of(base), *own)
    for at in range(max(len(whole_path), 1)):
        yield whole_path[at:]


def _listed(source: Source, file: PurePosixPath) -> list[PurePosixPath]:
    found = []
    for line_number, line in read_lines(source.root / file):
        picture = source.pictures.look(line, file.parent)
        if picture is None:
            source.note.entry(
                MISSING,
                f"{source.root / file}: line {line_number} names {line!r:.200}, which is not below "
                f"{source.pictures.root}",
            )
        else:
            found.append(picture)
    return list(dict.fromkeys(found))
