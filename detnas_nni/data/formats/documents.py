"""Reads users' files: JSON, XML, CSV, YAML and text, each mistake a DataError that names the file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from detnas_nni.config.reading import read_mapping
from detnas_nni.errors import ConfigError, DataError
from detnas_nni.util.user_files import read_bytes
from detnas_nni.util.xml import BadXmlError, parse_xml

# Bytes. A COCO file of LVIS has 1.1 GB, the boxes of Open Images 2.3 GB, a video's XML of CVAT some 100 MB.
_MAX_JSON = 2**31
_MAX_XML = 2**29
_MAX_TEXT = 100_000_000
_MAX_CSV = 2**33

_MOST = 1e12  # far enough below the largest float that no sum or product of sides overflows
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_NUMERAL = re.compile(r"\s*[-+]?[0-9]*\.?[0-9]+\.?(?:[eE][-+]?[0-9]+)?\s*", re.ASCII)


def read_json(file: Path) -> Any:
    """The JSON value in a file."""
    try:
        return json.loads(read_bytes(file, _MAX_JSON))
    except OSError as error:
        raise _unreadable(file, error) from None
    except RecursionError:
        raise DataError(f"{file}: is nested too deeply to be an annotation file.") from None
    except ValueError as error:  # bad JSON, bad UTF-8, an integer of thousands of digits
        raise DataError(f"{file}: is not JSON in UTF-8 ({error}).") from None


def read_xml(file: Path) -> Element:
    """The root of an XML file; one with a DOCTYPE is refused."""
    try:
        return parse_xml(read_bytes(file, _MAX_XML))
    except OSError as error:
        raise _unreadable(file, error) from None
    except BadXmlError as error:
        raise DataError(f"{file}: {error}.") from None


def read_text(file: Path) -> str:
    """The text of a file, in UTF-8 with or without a byte order mark."""
    try:
        return read_bytes(file, _MAX_TEXT).decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(file, error) from None
    except ValueError:
        raise DataError(f"{file}: is not UTF-8 text.") from None


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1."""
    lines = read_text(file).splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_csv(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with the numbers of the lines on which they end; row by row."""
    try:
        size = file.stat().st_size
        if size > _MAX_CSV or not file.is_file():
            raise DataError(f"{file}: has {size:,} bytes or is not a file; expected a CSV of annotations.")
        with file.open("rb") as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            reader = csv.reader(text)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except OSError as error:
        raise _unreadable(file, error) from None
    except (csv.Error, ValueError) as error:  # a NUL, a field of megabytes, bad UTF-8
        raise DataError(f"{file}: is not CSV in UTF-8 ({error}).") from None


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        return read_mapping(file)
    except ConfigError as error:
        raise DataError(str(error)) from None


def number(value: object) -> float | None:
    """A finite number that may be a number of pixels, also from text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not (len(value) < 100 and _NUMERAL.fullmatch(value)):
        return None
    try:
        found = float(value)
    except (OverflowError, ValueError):  # an integer of hundreds of digits
        return None
    return found if abs(found) <= _MOST else None


def numbers(values: object) -> list[float] | None:
    """A list of finite numbers; None for anything else."""
    if not isinstance(values, list | tuple):
        return None
    found = [number(value) for value in values]
    return None if None in found else found


def whole(value: object) -> int | None:
    """A whole number, also from text or from 2.0; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def name_of(value: object) -> str | None:
    """A class's name, also from a number; None for what cannot be a name."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, int) and abs(value) > 2**64:  # Python would not write thousands of digits
        return None
    text = str(value).strip()
    return text if text and len(text) <= 1000 and not _NO_TEXT.search(text) else None


def _unreadable(file: Path, error: OSError) -> DataError:
    return DataError(f"{file}: cannot be read ({error.strerror or error}).")
