"""Read an experiment's YAML as a `Config`: every mistake is one line with file, key, value and the remedy.

A file may start from others by `extends`; `yaml_file.py` says how they are merged. An error in a merged value
names the file that was asked for, since that is the one that has to hold together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from detnas_nni.config.schema import SPLIT_FORMS, TAGS, Config, Section
from detnas_nni.config.yaml_file import override_value, read_extended
from detnas_nni.errors import ConfigError

AnySection = TypeVar("AnySection", bound=Section)

# What is told of a file that is no config, and may have thousands of mistakes in values of any length.
_SHOWN = 20  # mistakes
_LENGTH = 300  # characters of a value


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in a YAML file, merged with what it extends, then changed by `section.key=value` overrides.

    Raises ConfigError that names the file, the key, the value and what was expected.
    """
    path = Path(path)
    values = read_extended(path)
    for override in overrides:
        override_value(values, override)
    _complete_retraining(values)
    return parse_config(values, source=str(path), folder=path.resolve().parent)


def _complete_retraining(values: dict[str, Any]) -> None:
    """Let a final net's training say only what differs from the supernet's, in place."""
    retraining = values.get("retrain")
    for stage in ("pretrain", "finetune"):
        common = values.get(stage)
        if (
            isinstance(retraining, dict)
            and isinstance(common, dict)
            and isinstance(retraining.get(stage), dict)
        ):
            retraining[stage] = {**common, **retraining[stage]}


def parse_config(values: Mapping[str, Any], *, source: str = "config", folder: Path | None = None) -> Config:
    """A Config from plain values; `folder` is where relative paths start, `source` is named in errors."""
    return parse_section(Config, values, source=source, folder=folder)


def parse_section(
    section: type[AnySection], values: Mapping[str, Any], *, source: str, folder: Path | None = None
) -> AnySection:
    """A section, or the whole config, from plain values; arguments and errors as of `parse_config`."""
    try:
        # Through JSON, because pydantic's strict mode then takes a list for a tuple and a string for a path
        # while it still refuses "5" for 5. What JSON lacks (YAML has dates) becomes a string.
        text = json.dumps(values, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{source}: {error}; only numbers, strings, lists and mappings are allowed"
        ) from None
    try:
        return section.model_validate_json(text, strict=True, context={"folder": folder or Path.cwd()})
    except ValidationError as error:
        problems = error.errors()
        lines = [_explain(section, source, problem) for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"{source}: and {len(problems) - _SHOWN} more mistakes")
        raise ConfigError("\n".join(lines)) from None


def _explain(section: type[Section], source: str, problem: Mapping[str, Any]) -> str:
    """One line for one of pydantic's problems: file, key, what was expected, and the value."""
    location = [part for part in problem["loc"] if part not in TAGS]
    key = ".".join(str(part) for part in location) or "(top level)"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(section, problem["loc"][:-1]))
        return f"{source}: {key}: unknown key; known here: {known}"
    if problem["type"] == "missing":
        return f"{source}: {key}: missing; it has no default"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = "" if isinstance(given, dict) else f", got {given!r}"
    return f"{source}: {key}: {message}{shown if len(shown) <= _LENGTH else f'{shown[:_LENGTH]}…'}"


def _known_keys(section: type[Section], location: Sequence[Any]) -> list[str]:
    """The keys of the part of a section at a place, as pydantic names it."""
    sections = [section]
    for part in location:
        if part in SPLIT_FORMS:
            sections = [SPLIT_FORMS[part]]
        if part in TAGS or isinstance(part, int):
            continue
        annotations = [s.model_fields[part].annotation for s in sections if part in s.model_fields]
        sections = [found for annotation in annotations for found in _sections_of(annotation)]
    known = sorted({key for section in sections for key in section.model_fields})
    return [*known, "extends"] if sections == [Config] else known


def _sections_of(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in _sections_of(part)]
