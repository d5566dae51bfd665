"""Small exports of labelling tools on disk, and what becomes of them, in a form to compare by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from detnas_nni.data.formats.convert import NOTE, convert
from detnas_nni.data.formats.recognise import recognise
from detnas_nni.data.formats.source import Wishes

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Seen:
    """What a conversion wrote.

    Attributes:
        form: what the data set was taken for.
        splits: by split and picture the boxes: (class, x, y, width, height), and "crowd" or "difficult"
        behind. remarks: all that was told, in one text.
        complaints: what is wrong, likewise.
        note: the note's file.
        content: each split's COCO file.
    """

    form: str
    splits: dict[str, dict[str, list[Row]]]
    remarks: str
    complaints: str
    note: dict[str, Any]
    content: dict[str, dict[str, Any]]


def picture(file: Path, size: tuple[int, int] = (100, 80), orientation: int | None = None) -> Path:
    """A picture of one colour, with an EXIF orientation if one is given."""
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", size, (90, 120, 150)).save(file, exif=exif)
    return file


def write(file: Path, content: Any) -> Path:
    """Text as it is, lines joined, everything else as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        file.write_text(json.dumps(content), encoding="utf-8")
    return file


def lines(file: Path, *rows: str) -> Path:
    """A text file of these lines."""
    return write(file, "".join(f"{row}\n" for row in rows))


def converted(
    path: Path, out: Path, form: str | None = None, images: Path | None = None, **wishes: Any
) -> Seen:
    """Convert a data set into a folder, and read what was written."""
    found = recognise(path, form)
    result = convert(found, out, Wishes(**wishes), images)
    splits, content = {}, {}
    for name, (folder, file) in result.splits.items():
        content[name] = json.loads(file.read_text(encoding="utf-8"))
        splits[name] = _rows(content[name], folder)
    note = json.loads((out / NOTE).read_text(encoding="utf-8"))
    return Seen(found.form, splits, "\n".join(result.lines), "\n".join(result.complaints), note, content)


def _rows(content: dict[str, Any], folder: Path) -> dict[str, list[Row]]:
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    rows: dict[str, list[Row]] = {Path(file).name: [] for file in files.values()}
    for file in files.values():
        assert (folder / file).is_file(), f"{file} is not in {folder}"
    for entry in content["annotations"]:
        marks: Sequence[str] = [
            word for word, key in (("crowd", "iscrowd"), ("difficult", "difficult")) if entry.get(key)
        ]
        row = (names[entry["category_id"]], *entry["bbox"], *marks)
        rows[Path(files[entry["image_id"]]).name].append(row)
    return rows
