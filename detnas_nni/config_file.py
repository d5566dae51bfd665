"""Read an experiment's YAML as a `Config`: every mistake is one line with file, key, value and the remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detnas_nni.config import SPLIT_FORMS, Config, Section
from detnas_nni.errors import ConfigError
from detnas_nni.yaml_file import override_value, read_mapping


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in a YAML file, with `section.key=value` overrides (values in YAML) applied.

    Raises ConfigError that names the file, the key, the value and what was expected.
    """
    path = Path(path)
    values = read_mapping(path)
    for override in overrides:
        override_value(values, override)
    return parse_config(values, source=str(path), folder=path.resolve().parent)


def parse_config(values: Mapping[str, Any], *, source: str = "config", folder: Path | None = None) -> Config:
    """A Config from plain values; `folder` is where relative paths start, `source` is named in errors."""
    try:
        # Through JSON, because pydantic's strict mode then takes a list for a tuple and a string for a path
        # while it still refuses "5" for 5. What JSON lacks (YAML has dates) becomes a string.
        text = json.dumps(values, default=str)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{source}: {error}; only numbers, strings, lists and mappings are allowed"
        ) from None
    try:
        return Config.model_validate_json(text, strict=True, context={"folder": folder or Path.cwd()})
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_explain(source, values, problem) for problem in error.errors())
        ) from None


def _explain(source: str, values: Mapping[str, Any], problem: Mapping[str, Any]) -> str:
    """One line for one of pydantic's problems: file, key, what was expected, and the value."""
    # A split is one of two forms; pydantic puts the form's name into the place, and a user never wrote it.
    location = [part for part in problem["loc"] if part not in SPLIT_FORMS]
    key = ".".join(str(part) for part in location) or "(top level)"
    if problem["type"] == "extra_forbidden":
        return f"{source}: {key}: unknown key; known here: {', '.join(_known_keys(problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{source}: {key}: missing; it has no default"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = "" if isinstance(given, dict) else f", got {given!r}"
    return f"{source}: {key}: {message}{shown}"


def _known_keys(location: Sequence[Any]) -> list[str]:
    """The keys of the section at a place, as pydantic names it."""
    sections: list[type[Section]] = [Config]
    for part in location:
        if part in SPLIT_FORMS:
            sections = [SPLIT_FORMS[part]]
            continue
        annotations = [s.model_fields[part].annotation for s in sections if part in s.model_fields]
        sections = [section for annotation in annotations for section in _sections_of(annotation)]
    return sorted({key for section in sections for key in section.model_fields})


def _sections_of(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in _sections_of(part)]
